"""The command `vivant`. One file per command; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script. Errors that a user can mend become one line and exit code 2."""
    from rich.console import Console

    from vivant.cli.app import build_app
    from vivant.errors import VivantError

    try:
        build_app()()
    except VivantError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
