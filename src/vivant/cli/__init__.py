"""The command `vivant`. One file per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from types import FrameType


def program() -> None:
    """Entry point of the console script."""
    # A polite kill leaves as little behind as Ctrl-C.
    signal.signal(signal.SIGTERM, _terminated)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code: 2 and one line for what a user can mend, 130 for Ctrl-C.

    Anything else that is raised is a bug, and its traceback is shown.
    """
    import typer

    from vivant.cli.app import build_app
    from vivant.errors import VivantError

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(build_app())(
            given or ["--help"], prog_name="vivant", standalone_mode=False
        )
    except (VivantError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        typer.echo(f"vivant: {' '.join(message.split())}", err=True)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    if code == 130:
        typer.echo("vivant: interrupted.", err=True)
    return code if isinstance(code, int) else 0


def _terminated(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
