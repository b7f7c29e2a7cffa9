"""`vivant evaluate`: measure quality by a fixed protocol, print the report, write it if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vivant.cli.options import families_options, make_options, takes_fields
from vivant.cli.reenact import Given, reenacted
from vivant.cli.reports import DeviceOption, OutOption, OverwriteOption, PresetOption, check_out, show
from vivant.errors import InputError
from vivant.presets import DEFAULT_PRESET

_HOW = "self, cross or long: reenactment as in the papers (docs/evaluation.md)."
_RETARGETING = "Measure stitching and retargeting on --data and --portrait."
_DEFINED = (
    "--data and --retargeting are measured as they are defined; options of a preset belong to --protocol, or to "
    "--portrait and --clip."
)
_WEIGHTS = "NAME=PATH of a published network that a measure needs; may be repeated."


@takes_fields("options", families_options())
def evaluate(
    options: Mapping[str, Any],
    preset: PresetOption = DEFAULT_PRESET,
    data: Annotated[Path | None, typer.Option(help="Rendered sessions, whose held-out people count.")] = None,
    protocol: Annotated[str | None, typer.Option(help=_HOW)] = None,
    portrait: Annotated[list[Path] | None, typer.Option(help="Picture (or folder); may be repeated.")] = None,
    clip: Annotated[list[Path] | None, typer.Option(help="Clip (or folder); may be repeated.")] = None,
    weights: Annotated[list[str] | None, typer.Option(help=_WEIGHTS)] = None,
    real: Annotated[Path | None, typer.Option(help="Folder of real pictures that FID compares with.")] = None,
    retargeting: Annotated[bool, typer.Option("--retargeting", help=_RETARGETING)] = False,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure quality: on held-out rendered people (--data), or on pictures and clips of yours.

    Options of the preset's family hold for what is animated: --protocol, and --portrait with --clip.
    """
    from vivant.cli.extras import require

    if protocol is None and (weights or real is not None):
        raise InputError("--weights and --real belong to --protocol self, cross or long; give that too")
    if protocol is None and data is None and not (portrait and (clip or retargeting)):
        raise InputError("there is nothing to measure; give --data, --protocol, or --portrait and --clip.")
    if options and (data is not None or retargeting):
        raise InputError(_DEFINED)
    if data is not None:
        require("numba", "studio")
    both = (["synthetic"] if data is not None else []) + (["real"] if portrait and clip else [])
    check_out(out, [protocol] if protocol else ["retargeting"] if retargeting else both, overwrite)
    import vivant
    from vivant.cli.progress import progress_of

    engine = vivant.load(preset, device, dtype)
    chosen = make_options(engine.options_type, options) if options else None
    if protocol is not None:
        given = Given(protocol, clip or [], portrait or [], real, weights or [], chosen)
        show(reenacted(engine, given, out), out, protocol, overwrite)
        return
    if retargeting:
        from vivant.evaluation.retargeting import measure_retargeting

        with progress_of("portraits") as progress:
            report = measure_retargeting(engine, data, portrait or (), progress=progress)
        show(report, out, "retargeting", overwrite)
        return
    if data is not None:
        from vivant.evaluation.synthetic import synthetic_self_reenactment

        with progress_of("people") as progress:
            report = synthetic_self_reenactment(engine, data, progress=progress)
        show(report, out, "synthetic", overwrite)
    if portrait and clip:
        from vivant.evaluation.real import real_drive

        with progress_of("frames") as progress:
            report = real_drive(engine, portrait, clip, options=chosen, progress=progress)
        show(report, out, "real", overwrite)
