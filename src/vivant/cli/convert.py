"""`vivant convert`: published weights become a checkpoint of ours. The only place where pickles are read, safely."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    sources: Annotated[
        list[Path], typer.Argument(help="Published files (.pth or .safetensors), or folders that hold them.")
    ],
    preset: Annotated[str, typer.Option(help="Which preset the files are.")] = "liveportrait",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Checkpoint folder to write. [default: the user's store]"),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store half-precision numbers: half the size.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing checkpoint.")] = False,
) -> None:
    """Turn published weights into a checkpoint that `--preset` finds by name."""
    from importlib import import_module

    from vivant.checkpoint import WEIGHTS
    from vivant.errors import InputError
    from vivant.media.staging import output_errors
    from vivant.presets import PRESETS

    chosen = PRESETS.get(preset)
    if chosen is None or chosen.embedded:
        names = ", ".join(name for name, known in PRESETS.items() if not known.embedded)
        raise InputError(f"{preset!r} is not a preset that is converted; there are {names}.")
    target = output if output is not None else chosen.folder
    if (target / WEIGHTS).exists() and not overwrite:
        raise InputError(f"{target} holds a checkpoint already; use --overwrite to replace it.")
    import torch

    family = import_module(f"vivant.engines.{chosen.family}.convert")
    with output_errors(target):
        config = family.VARIANTS[chosen.variant]() if chosen.variant is not None else None
        family.convert_published(sources, target, config=config, dtype=torch.float16 if half else None)
    name = preset if output is None else str(target)
    typer.echo(f"{target}: ready ({chosen.licence}, {chosen.source}); use it with --preset {name}")
