"""`vivant motion`: save what a driver does, and see what is in such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivant.cli.montage import join, loop, mix, slice_
from vivant.cli.vocabulary import Command
from vivant.presets import DEFAULT_PRESET


def record(
    clip: Annotated[Path, typer.Argument(help="Driving clip.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Motion file to write, .safetensors.")],
    preset: Annotated[
        str, typer.Option(help="Preset that the motion shall drive: name or checkpoint folder.")
    ] = DEFAULT_PRESET,
    driving_face: Annotated[
        str, typer.Option(help="largest, a number from 0, or x,y in pixels.")
    ] = "largest",
    fps: Annotated[
        str, typer.Option(help="driving, or a number such as 25, 29.97 or 24000/1001.")
    ] = "driving",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Use what can be read of a damaged file.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Save what the driver of a clip does. Replay it with `vivant animate -d FILE`: the same frames, bit for bit."""
    from vivant.errors import InputError
    from vivant.media.reader import read_clip
    from vivant.media.resample import choose_frame_rate

    if out.suffix.lower() != ".safetensors":
        raise InputError(f"{out} should end in .safetensors, so that it is known for what it is.")
    rate = choose_frame_rate(fps, None, read_clip(clip, allow_truncated=allow_truncated).frame_rate)

    import vivant
    from vivant.cli.progress import progress_of
    from vivant.motion_capture import record_motion

    engine = vivant.load(preset, device, dtype)
    with progress_of("frames") as progress:
        count = record_motion(
            engine,
            clip,
            out,
            frame_rate=rate,
            driving_face=driving_face,
            allow_truncated=allow_truncated,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(f"{out}: {count} frames")


def import_template(
    template: Annotated[Path, typer.Argument(help="Motion template of the published LivePortrait, .pkl.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Motion file to write, .safetensors.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Turn an old template into a motion file for the published networks. Nothing in the pickle is run."""
    from vivant.engines.liveportrait.template import NUM_KEYPOINTS, read_template
    from vivant.motion_file import MotionWriter

    read = read_template(template)
    kind = f"published-{NUM_KEYPOINTS}"
    with MotionWriter(
        out, "liveportrait", kind, read.frame_rate, template.name, overwrite=overwrite
    ) as writer:
        for motion in read:
            writer.write(motion)
    typer.echo(f"{out}: {len(read.motions)} frames")


def info(file: Annotated[Path, typer.Argument(help="Motion file.")]) -> None:
    """Say what is in a motion file."""
    from vivant.motion_file import MotionFile

    header = MotionFile(file).header
    seconds = float(header.num_frames / header.frame_rate)
    typer.echo(f"{file}: {header.num_frames} frames at {header.frame_rate} per second ({seconds:.2f} s)")
    typer.echo(f"recorded from {header.source} for {header.family} ({header.keypoints})")
    typer.echo(f"fields: {', '.join(f'{name} {list(shape)}' for name, shape in header.fields.items())}")


def build_motion() -> typer.Typer:
    """The group of motion commands."""
    group = typer.Typer(
        help="Saved motion: record a driver once, replay it on any portrait.", rich_markup_mode=None
    )
    group.command("import", cls=Command)(import_template)
    group.command("slice", cls=Command)(slice_)
    for command in (record, info, mix, join, loop):
        group.command(cls=Command)(command)
    return group
