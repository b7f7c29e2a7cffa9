"""Plain text for terminals and pipes: records as a block of lines, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Each row as its first value and, below it, the others with their names; or all as JSON."""
    if as_json:
        typer.echo(json.dumps(list(rows), indent=2))
        return
    width = max((len(name) for row in rows for name in row), default=0)
    for row in rows:
        (_, first), *others = row.items()
        typer.echo(first)
        for name, value in others:
            if value not in (None, ""):
                typer.echo(f"  {name.replace('_', ' '):{width}}  {value}")
