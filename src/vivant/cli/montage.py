"""`vivant motion slice|mix|join|loop`: motion files made of motion files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("-o", "--output", help="Motion file to write, .safetensors.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")]
Rate = Annotated[
    str | None, typer.Option(help="Frames per second of the result. [default: the first file's]")
]
Weight = Annotated[float, typer.Option(help="How much of it, 0 to 1.")]


def slice_(
    file: Annotated[Path, typer.Argument(help="Motion file.")],
    out: Out,
    start: Annotated[float | None, typer.Option(help="From this time on, in seconds.")] = None,
    stop: Annotated[float | None, typer.Option(help="Up to this time, in seconds.")] = None,
    frames: Annotated[str | None, typer.Option(help="These frames instead: 40:80, 40: or :80.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Part of a motion; its frames show what they show in the whole."""
    from vivant.errors import InputError
    from vivant.montage import slice_motion
    from vivant.motion_file import MotionFile

    rate, count = MotionFile(file).header.frame_rate, len(MotionFile(file))
    first, last = 0, count
    if frames is not None:
        if start is not None or stop is not None:
            raise InputError("give --frames, or --start and --stop, not both.")
        low, colon, high = frames.partition(":")
        if not colon or not all(not word or word.isdigit() for word in (low, high)):
            raise InputError(f"--frames {frames!r} is not understood; write 40:80, 40: or :80.")
        first, last = int(low or 0), int(high or count)
    else:
        first = 0 if start is None else round(start * rate)
        last = count if stop is None else min(count, round(stop * rate))
    typer.echo(f"{out}: {slice_motion(file, out, first, last, overwrite=overwrite)} frames")


def mix(
    base: Annotated[Path, typer.Argument(help="Motion file that gives whatever is not taken from another.")],
    out: Out,
    pose: Annotated[Path | None, typer.Option(help="Motion file whose pose is taken.")] = None,
    pose_weight: Weight = 1.0,
    expression: Annotated[Path | None, typer.Option(help="Motion file whose expression is taken.")] = None,
    expression_weight: Weight = 1.0,
    lips: Annotated[Path | None, typer.Option(help="Motion file whose lips are taken.")] = None,
    lips_weight: Weight = 1.0,
    eyes: Annotated[Path | None, typer.Option(help="Motion file whose eyes are taken.")] = None,
    eyes_weight: Weight = 1.0,
    fps: Rate = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Shorter files begin again.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Pose, expression, lips and eyes from different motions."""
    from vivant.montage import Taken, mix_motion

    taken = [
        Taken("pose", pose, pose_weight) if pose else None,
        Taken("expression", expression, expression_weight) if expression else None,
        Taken("lips", lips, lips_weight) if lips else None,
        Taken("eyes", eyes, eyes_weight) if eyes else None,
    ]
    given = [one for one in taken if one is not None]
    count = mix_motion(base, given, out, frame_rate=_rate(fps), repeat=repeat, overwrite=overwrite)
    typer.echo(f"{out}: {count} frames")


def join(
    files: Annotated[list[Path], typer.Argument(help="Motion files in order.")],
    out: Out,
    fade: Annotated[float, typer.Option(help="Seconds in which one becomes the next.")] = 0.3,
    fps: Rate = None,
    overwrite: Overwrite = False,
) -> None:
    """Motions one after another, faded into each other."""
    from vivant.montage import join_motion

    count = join_motion(files, out, fade_seconds=fade, frame_rate=_rate(fps), overwrite=overwrite)
    typer.echo(f"{out}: {count} frames")


def loop(
    file: Annotated[Path, typer.Argument(help="Motion file.")],
    out: Out,
    fade: Annotated[float, typer.Option(help="Seconds in which the end becomes the beginning.")] = 0.4,
    ping_pong: Annotated[bool, typer.Option("--ping-pong", help="Forwards and backwards instead.")] = False,
    times: Annotated[int, typer.Option(help="Rounds to write.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """A motion whose end leads into its beginning, cut where that is seen least."""
    from vivant.montage import loop_motion

    made = loop_motion(file, out, fade_seconds=fade, ping_pong=ping_pong, times=times, overwrite=overwrite)
    typer.echo(
        f"{out}: {made.num_frames} frames, from frames {made.start} to {made.stop - 1}; the step at the seam is "
        f"{made.seam:.2f} of the largest step"
    )


def _rate(fps: str | None) -> Fraction | None:
    from vivant.media.resample import choose_frame_rate

    if fps is None:
        return None
    if fps.strip().lower() in ("driving", "source"):
        raise typer.BadParameter("--fps is a number here, such as 25 or 30000/1001.")
    return choose_frame_rate(fps, None, Fraction(25))
