"""`vivant presets`: the weights that there are, and whether they are here."""

from __future__ import annotations

from typing import Annotated

import typer

from vivant.cli.table import show


def presets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the presets: what they are for, their licence, and how to get those that are not here."""
    from vivant.checkpoint import WEIGHTS
    from vivant.presets import PRESETS

    rows = []
    for preset in PRESETS.values():
        here = (preset.folder / WEIGHTS).is_file()
        get = (
            "install vivant again"
            if preset.embedded
            else f"download {preset.source}, then `vivant convert FOLDER --preset {preset.name}`"
        )
        rows.append(
            {
                "name": preset.name,
                "summary": preset.summary,
                "family": preset.family,
                "licence": preset.licence,
                "speed": preset.speed,
                "source": preset.source,
                "installed": "yes" if here else "no",
                "get": None if here else get,
            }
        )
    show(rows, as_json=as_json)
