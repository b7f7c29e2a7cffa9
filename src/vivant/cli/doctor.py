"""`vivant doctor`: is everything here, and what command mends what is not."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Fetch the face models if they are missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the installation; print the command that mends each problem. Exit code 1 if something needed is missing."""
    from vivant.cli.checks import all_checks

    if fix:
        from vivant.face.models import face_models_available, fetch_face_models

        if not face_models_available():
            fetch_face_models(lambda sentence: typer.echo(sentence, err=True))
    findings = all_checks()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok " if finding.ok else "BAD" if finding.required else "-- "
            typer.echo(f"{mark} {finding.name:17} {finding.found}")
            if finding.fix is not None:
                typer.echo(f"    {'' if finding.required else 'optional '}fix: {finding.fix}")
    if any(finding.required and not finding.ok for finding in findings):
        raise typer.Exit(1)
