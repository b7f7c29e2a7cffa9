"""`vivant animate`: a picture and a driving clip become a video, with a manifest beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vivant.cli.options import families_options, make_options, takes_fields
from vivant.settings import Recording


@takes_fields("recording", [Recording])
@takes_fields("options", families_options())
def animate(
    recording: Mapping[str, Any],
    options: Mapping[str, Any],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    runtime: Annotated[str, typer.Option(help="eager, compile, graphs (on CUDA), or onnx.")] = "eager",
    memory: Annotated[
        str, typer.Option(help="How weights lie: full, fp8, model or sequential, from fast to small.")
    ] = "full",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say nothing unless something is wrong.")
    ] = False,
) -> None:
    """Animate a picture with a driving clip; write how it was made into a .json beside the video."""
    wanted = Recording(**recording)

    import vivant
    from vivant.cli.processes import leading
    from vivant.cli.progress import progress_of
    from vivant.media.parts import is_kept
    from vivant.recording import record

    def load(device: str) -> Any:
        return vivant.load(wanted.preset, device, dtype, runtime, memory)  # type: ignore[arg-type]

    try:
        with leading(load, device) as loaded, progress_of("frames", quiet=quiet) as progress:
            if loaded is None:
                return
            manifest = record(
                wanted, loaded, lambda options_type: make_options(options_type, options), progress
            )
    except KeyboardInterrupt:
        if is_kept(wanted.whole):
            typer.echo(
                f"vivant: what is done of {wanted.target} is kept; the same command with --resume goes on.",
                err=True,
            )
        raise
    if quiet:
        return
    output, timing = manifest["output"], manifest["timing"]
    typer.echo(
        f"{wanted.target}: {manifest['num_frames']} frames, {output['width']}x{output['height']}, "
        f"{timing['total_seconds']:.1f} s ({timing['frames_per_second']:.1f} frames per second)"
    )
    if late := manifest["latency"]["frames"]:
        typer.echo(
            f"live, a frame would be answered {late} frames and one step later: "
            f"{manifest['latency']['live_seconds']:.2f} s at {output['frame_rate']} frames per second"
        )
    if missing := manifest["num_frames_without_face"]:
        first = manifest["frames_without_face"][0]["start_seconds"]
        typer.echo(
            f"vivant: no face in {missing} of {manifest['num_frames']} driving frames, the first at {first:.2f} s; "
            f"see {wanted.manifest}",
            err=True,
        )
