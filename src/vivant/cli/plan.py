"""`vivant plan`: what `vivant animate` with the same options would take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vivant.cli.options import families_options, make_options, takes_fields
from vivant.settings import Recording


@takes_fields("recording", [Recording])
@takes_fields("options", families_options())
def plan(
    recording: Mapping[str, Any],
    options: Mapping[str, Any],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    memory: Annotated[
        str, typer.Option(help="How weights lie: full, fp8, model or sequential, from fast to small.")
    ] = "full",
    count_memory: Annotated[
        bool,
        typer.Option(
            help="Count what every --memory would take on a GPU, and nothing else; needs no weights."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what animating would take in frames, time, memory and disk, by trying its beginning. Writes nothing."""
    wanted = Recording(**recording)
    from dataclasses import asdict

    import vivant
    from vivant.cli.progress import progress_of
    from vivant.plan import make_plan

    if count_memory:
        _count_memory(wanted, options, dtype, as_json=as_json)
        return
    with progress_of("frames") as progress:
        made = make_plan(
            wanted,
            lambda: vivant.load(wanted.preset, device, dtype, memory=memory),
            lambda options_type: make_options(options_type, options),
            progress,
        )
    if as_json:
        typer.echo(json.dumps({"output": str(wanted.target), **asdict(made), "fits": made.fits}, indent=2))
        return
    typer.echo(
        f"{wanted.target}: {made.num_frames} frames, {made.width}x{made.height}, {_time(made.output_seconds)} at "
        f"{made.frame_rate} per second"
    )
    typer.echo(
        f"  time    {_time(made.run_seconds)} ({made.seconds_per_frame * 1000:.0f} ms per frame, measured on "
        f"{made.trial_frames} frames; {made.start_seconds:.1f} s to start)"
    )
    if made.memory_bytes is not None:
        card = "" if made.gpu_memory_bytes is None else f", {_size(made.gpu_memory_bytes)} on the card"
        typer.echo(f"  memory  {_size(made.memory_bytes)}{card}")
    typer.echo(
        f"  disk    {_size(made.output_bytes)}, and up to {_size(made.disk_bytes)} while it is made; "
        f"{_size(made.disk_free_bytes)} are free{'' if made.fits else ': NOT ENOUGH'}"
    )


def _count_memory(wanted: Recording, options: Mapping[str, Any], dtype: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from vivant import plan

    counted = plan.count_memory(
        wanted.preset,
        lambda options_type: make_options(options_type, options),
        "bfloat16" if dtype == "auto" else dtype,
    )
    if as_json:
        typer.echo(json.dumps({name: asdict(found) for name, found in counted.items()}, indent=2))
        return
    typer.echo(f"{wanted.preset} on a GPU, counted; add a GB for what drivers and allocators take:")
    for name, found in counted.items():
        rest = f", {_size(found.main_bytes)} of weights in main memory" if found.main_bytes else ""
        typer.echo(f"  --memory {name:11} {_size(found.device_bytes):>8} while {found.part}{rest}")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes) % 60} min"
    return f"{int(minutes)} min {int(seconds) % 60} s" if minutes >= 1 else f"{seconds:.1f} s"
