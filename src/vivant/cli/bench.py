"""`vivant bench`: measure speed, print the report, write it if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivant.cli.reports import DeviceOption, OutOption, OverwriteOption, PresetOption, check_out, show
from vivant.presets import DEFAULT_PRESET


def bench(
    preset: PresetOption = DEFAULT_PRESET,
    portrait: Annotated[Path, typer.Option(help="Picture.")] = Path("examples/astronaut.png"),
    clip: Annotated[Path, typer.Option(help="Driving clip; for a family that hears, one with sound.")] = Path(
        "examples/driving.mp4"
    ),
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 2,
    frames: Annotated[int, typer.Option(help="Frames per round.", min=1)] = 60,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure speed, latency and memory on this machine."""
    from vivant.cli.progress import progress_of
    from vivant.evaluation.speed import measure_speed

    check_out(out, ["speed"], overwrite)
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
    show(report, out, "speed", overwrite)
