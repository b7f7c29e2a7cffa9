"""`vivant studio`: synthetic people for training, measuring and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vivant.cli.extras import require
from vivant.cli.vocabulary import Command

SizeOption = Annotated[int, typer.Option(help="Side of the pictures in pixels.", min=32)]
SeedOption = Annotated[int, typer.Option(help="Same seed, same people.", min=0)]
TurnOption = Annotated[float, typer.Option(help="How far heads turn at most.", min=0, max=40)]
ArticulationOption = Annotated[
    float, typer.Option(help="How strongly mouths shape their sounds; 1.8 is clear speech.", min=0, max=3)
]
IdentitiesOption = Annotated[str, typer.Option(help="Which people: 0-99, or 3,5,8.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]


def render(
    out: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    identities: IdentitiesOption = "0-11",
    looks: Annotated[
        int, typer.Option(help="Sessions per person, each with its own hair and light.", min=1)
    ] = 2,
    frames: Annotated[int, typer.Option(help="Pictures per session.", min=1)] = 20,
    size: SizeOption = 288,
    seed: SeedOption = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    overwrite: OverwriteOption = False,
) -> None:
    """Render training sessions with ground truth. People 0 to 11 are held out for `vivant evaluate`."""
    from vivant.cli.progress import progress_of
    from vivant.studio.dataset import render_dataset

    with progress_of("people") as progress:
        paths = render_dataset(
            out, parse_numbers(identities), looks, frames, size, seed, workers, progress, overwrite
        )
    typer.echo(f"{out}: {len(paths)} sessions")


def talk(
    out: Annotated[Path, typer.Argument(help="Folder of the clips.")],
    identities: IdentitiesOption = "0-11",
    seconds: Annotated[float, typer.Option(help="Length of each clip.", min=1, max=3600)] = 5.0,
    size: SizeOption = 160,
    seed: SeedOption = 0,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    turn_degrees: TurnOption = 14.0,
    view_cm: Annotated[
        float | None, typer.Option(help="Width of the scene at the head; as each look has it.", min=15)
    ] = None,
    articulation: ArticulationOption = 1.0,
    moods: Annotated[
        bool, typer.Option("--moods", help="Faces grin, laugh or pout from the first frame on, too.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Render people who talk, with sound and ground truth, for voice-driven training."""
    from vivant.cli.progress import progress_of
    from vivant.studio.talking import render_talking

    with progress_of("people") as progress:
        paths = render_talking(
            out,
            parse_numbers(identities),
            seconds,
            size,
            seed,
            workers,
            progress,
            overwrite,
            turn_degrees,
            view_cm,
            articulation,
            moods,
        )
    typer.echo(f"{out}: {len(paths)} clips")


def sheet(
    out: Annotated[Path, typer.Argument(help="Picture to write, .png or .jpg.")],
    identities: IdentitiesOption = "0-7",
    frames: Annotated[int, typer.Option(help="Pictures per person.", min=1)] = 4,
    look: Annotated[int, typer.Option(help="Which look.", min=0)] = 0,
    size: SizeOption = 192,
    seed: SeedOption = 0,
    data: Annotated[Path | None, typer.Option(help="Show this rendered data set instead.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Many people on one picture, to look at."""
    from vivant.media.staging import check_target_file
    from vivant.studio.sheet import contact_sheet, dataset_sheet

    check_target_file(out, overwrite)
    if data is not None:
        dataset_sheet(out, data, size=size)
    else:
        contact_sheet(out, parse_numbers(identities), frames, look, size, seed)
    typer.echo(out)


def clip(
    out: Annotated[Path, typer.Argument(help="Video to write, .mp4 or .mov.")],
    text: Annotated[str, typer.Option(help="What is said.")] = "Hello. This is a person who does not exist.",
    voice: Annotated[
        str, typer.Option(help="espeak-ng voice such as en-us, or flite's awb, kal, rms, slt.")
    ] = "en-us",
    identity: Annotated[int, typer.Option(help="Who.", min=0)] = 0,
    look: Annotated[int, typer.Option(help="Which look.", min=0)] = 0,
    size: SizeOption = 256,
    fps: Annotated[int, typer.Option(help="Frames per second.", min=1)] = 25,
    seed: SeedOption = 0,
    turn_degrees: TurnOption = 15.0,
    articulation: ArticulationOption = 1.0,
    overwrite: OverwriteOption = False,
) -> None:
    """A person who talks, with sound: a driving clip without anybody's rights in it."""
    from vivant.studio.clip import render_clip

    person = (identity, look, size, fps, seed)
    frames = render_clip(out, text, voice, *person, turn_degrees, articulation, overwrite=overwrite)
    typer.echo(f"{out}: {frames} frames")


def fetch() -> None:
    """Download the face model that the studio draws (ICT-FaceKit, MIT; about 500 MB, converted to a small file)."""
    from vivant.cli.progress import progress_of
    from vivant.studio.fetch import LICENCE, fetch_face_model

    typer.echo(LICENCE, err=True)
    with progress_of("files") as progress:
        typer.echo(fetch_face_model(progress=progress))


def parse_numbers(text: str) -> list[int]:
    """`0-3,7` is [0, 1, 2, 3, 7]."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.strip().isdigit() or (last and not last.strip().isdigit()):
            raise typer.BadParameter(f"{text!r} is not a list of numbers; write 0-99 or 3,5,8.")
        if int(last or first) < int(first):
            raise typer.BadParameter(
                f"{part.strip()!r} runs backwards and names nobody; write {last.strip()}-{first.strip()}."
            )
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def build_studio() -> typer.Typer:
    """The group of studio commands."""
    group = typer.Typer(help="Synthetic people: training data, sheets, talking clips.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(_shared)
    for command in (render, talk, sheet, clip, fetch):
        group.command(cls=Command)(command)
    return group


def _shared(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
    require("numba", "studio")
