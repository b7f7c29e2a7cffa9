"""`vivant evaluate` and `vivant bench`: measure, print the report, write it if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivant.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from vivant.evaluation.report import Report

PresetOption = Annotated[str, typer.Option(help="Name (see `vivant presets`) or checkpoint folder.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
OutOption = Annotated[Path | None, typer.Option("-o", "--out", help="Folder for report files.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace reports that exist.")]


def evaluate(
    preset: PresetOption = DEFAULT_PRESET,
    data: Annotated[
        Path | None, typer.Option(help="Rendered sessions: measure on their held-out people.")
    ] = None,
    portrait: Annotated[list[Path] | None, typer.Option(help="Picture to drive; may be repeated.")] = None,
    clip: Annotated[list[Path] | None, typer.Option(help="Clip that drives them; may be repeated.")] = None,
    retargeting: Annotated[
        bool,
        typer.Option("--retargeting", help="Measure stitching and retargeting on --data and --portrait."),
    ] = False,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure quality: on held-out rendered people (--data), or on pictures and clips of yours."""
    from vivant.cli.extras import require
    from vivant.errors import InputError

    if data is None and not (portrait and (clip or retargeting)):
        raise InputError("there is nothing to measure; give --data, or --portrait and --clip.")
    if data is not None:
        require("numba", "studio")
    import vivant
    from vivant.cli.progress import progress_of

    engine = vivant.load(preset, device, dtype)
    if retargeting:
        from vivant.evaluation.retargeting import measure_retargeting

        with progress_of("portraits") as progress:
            report = measure_retargeting(engine, data, portrait or (), progress=progress)
        _show(report, out, "retargeting", overwrite)
        return
    if data is not None:
        from vivant.evaluation.synthetic import synthetic_self_reenactment

        with progress_of("people") as progress:
            report = synthetic_self_reenactment(engine, data, progress=progress)
        _show(report, out, "synthetic", overwrite)
    if portrait and clip:
        from vivant.evaluation.real import real_drive

        with progress_of("frames") as progress:
            report = real_drive(engine, portrait, clip, progress=progress)
        _show(report, out, "real", overwrite)


def bench(
    preset: PresetOption = DEFAULT_PRESET,
    portrait: Annotated[Path, typer.Option(help="Picture.")] = Path("examples/astronaut.png"),
    clip: Annotated[Path, typer.Option(help="Driving clip.")] = Path("examples/driving.mp4"),
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
    frames: Annotated[int, typer.Option(help="Frames per round.", min=1)] = 60,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure speed, latency and memory on this machine."""
    from vivant.cli.progress import progress_of
    from vivant.evaluation.speed import measure_speed

    with progress_of("rounds") as progress:
        report = measure_speed(
            preset,
            portrait,
            clip,
            device=device,
            num_threads=threads,
            num_frames=frames,
            progress=progress,
        )
    _show(report, out, "speed", overwrite)


def _show(report: Report, out: Path | None, name: str, overwrite: bool) -> None:
    typer.echo(report.to_markdown())
    if out is not None:
        for path in report.write(out, name, overwrite=overwrite):
            typer.echo(path)
