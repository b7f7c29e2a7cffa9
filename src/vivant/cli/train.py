"""`vivant train`: run a recipe on rendered sessions. Ctrl-C saves; the same command goes on where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="family/recipe, such as liveportrait/mini_motion.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of the run: snapshots, statistics, export.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of sessions from `vivant studio render`; speech needs none."),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Checkpoint folder to start from.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop, with a snapshot, after this time.", min=0)
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Length of the run in images seen, instead of the recipe's.", min=1)
    ] = None,
    fit_minutes: Annotated[
        float | None,
        typer.Option(
            help="Length of the run in time, schedule included, for machines lent by the minute.", min=0.01
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of what is drawn and in which order, instead of the recipe's.", min=0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Train a recipe; resumes what is in --out."""
    from vivant.cli.extras import require
    from vivant.cli.progress import progress_of

    require("numba", "train")
    from vivant.training import launch

    with progress_of("images") as progress:

        def report(row: dict[str, Any]) -> None:
            progress(row["images"], row["of"], f"loss {row['loss']:.4f}")

        complete = launch.train(
            recipe,
            data,
            out,
            init=init,
            minutes=minutes,
            images=images,
            fit_minutes=fit_minutes,
            seed=seed,
            device=device,
            report=report,
        )
    if complete:
        typer.echo(f"{out / 'export'}: complete; use it with --preset {out / 'export'}")
    else:
        typer.echo(
            f"{out}: stopped; the same command goes on. What there is so far lies in {out / 'export'}."
        )
