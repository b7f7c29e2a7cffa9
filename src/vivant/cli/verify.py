"""`vivant verify`: what the marks in a file say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WORDS = {
    "valid": "valid, issued by {issuer}",
    "untrusted": "intact, but nobody vouches for the issuer ({issuer})",
    "tampered": "broken: the file was changed after it was signed ({problem})",
    "absent": "none",
    "unreadable": "cannot be read ({problem})",
}


def verify(
    file: Annotated[Path, typer.Argument(help="Picture or video.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say whether a file carries content credentials and the invisible watermark. Having none proves nothing."""
    import json
    from dataclasses import asdict

    from vivant.marks.verify import verify as look
    from vivant.marks.watermark import THRESHOLD

    verdict = look(file)
    said, mark = verdict.credentials, verdict.watermark
    if as_json:
        typer.echo(json.dumps({**asdict(verdict), "agrees": verdict.agrees, "threshold": THRESHOLD}))
        return
    typer.echo(f"credentials: {WORDS[said.state].format(issuer=said.issuer, problem=said.problem)}")
    for name in ("preset", "weights_sha256", "created", "consent"):
        if said.statement is not None and said.statement.get(name) is not None:
            typer.echo(f"    {name}: {said.statement[name]}")
    for one in said.ingredients:
        own = WORDS[one.state].format(issuer=one.issuer, problem="see the file itself")
        typer.echo(f"    made from: {one.role}, sha256 {one.sha256}; its own credentials: {own}")
    found = "none found"
    if mark.is_marked:
        payload = "its payload cannot be read" if mark.payload is None else f"payload {mark.payload:08x}"
        found = f"made with vivant ({payload}, score {mark.score:.1f} where {THRESHOLD:.1f} is proof enough)"
    typer.echo(f"watermark: {found}")
    if verdict.agrees is not None:
        typer.echo(f"the two {'belong together' if verdict.agrees else 'DO NOT belong together'}")
