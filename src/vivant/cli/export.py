"""`vivant export`: networks as ONNX files for onnxruntime and other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivant.presets import DEFAULT_PRESET


def export(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder to write the files into.")],
    preset: Annotated[
        str, typer.Option(help="Name (see `vivant presets`) or checkpoint folder.")
    ] = DEFAULT_PRESET,
    dtype: Annotated[str, typer.Option(help="Precision of the files; there is float32.")] = "float32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")
    ] = False,
) -> None:
    """Write one ONNX file per network method, checked against the networks; onnx.json describes them."""
    from vivant.errors import InputError

    if dtype != "float32":
        raise InputError(f"ONNX files are written in float32, not in {dtype}; leave --dtype out.")
    from vivant.cli.progress import progress_of
    from vivant.export import export as write
    from vivant.presets import PRESETS, find_checkpoint

    known = PRESETS.get(preset)
    with progress_of("networks") as progress:
        manifest = write(
            find_checkpoint(preset),
            folder,
            sha256=known.sha256 if known is not None else None,
            overwrite=overwrite,
            progress=progress,
        )
    worst = max(method.max_error for method in manifest.methods.values())
    typer.echo(
        f"{folder}: {', '.join(manifest.methods)} (opset {manifest.opset}), within {worst:.0e} of the networks; "
        f"use it with --preset {folder} --runtime onnx"
    )
