"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

import vivant
from vivant.cli.animate import animate
from vivant.cli.batch import batch
from vivant.cli.bench import bench
from vivant.cli.convert import convert
from vivant.cli.doctor import doctor
from vivant.cli.edit import EditCommand, edit
from vivant.cli.evaluate import evaluate
from vivant.cli.export import export
from vivant.cli.inspect import inspect
from vivant.cli.licenses import licenses
from vivant.cli.live import live
from vivant.cli.motion import build_motion
from vivant.cli.plan import plan
from vivant.cli.presets import presets
from vivant.cli.processes import check_number
from vivant.cli.serve import serve
from vivant.cli.studio import build_studio
from vivant.cli.train import train
from vivant.cli.verify import verify
from vivant.cli.vocabulary import Command


def build_app() -> typer.Typer:
    """The Typer application with all commands."""
    app = typer.Typer(
        name="vivant",
        help="A still portrait comes alive, driven by a video, a webcam, a voice or a saved motion.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_shared)
    for command in (
        animate,
        batch,
        plan,
        inspect,
        presets,
        licenses,
        doctor,
        convert,
        export,
        train,
        evaluate,
        bench,
        live,
        serve,
        verify,
    ):
        app.command(cls=Command)(command)
    app.command(cls=EditCommand)(edit)
    app.add_typer(build_motion(), name="motion")
    app.add_typer(build_studio(), name="studio")
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vivant {vivant.__version__}")
        raise typer.Exit


def _shared(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """What all commands share; the docstring of the program is given to Typer above."""
    check_number(context.invoked_subcommand)
