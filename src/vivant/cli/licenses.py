"""`vivant licenses`: who made what this program runs on, under which terms. Python packages carry their own."""

from __future__ import annotations

from typing import Annotated

import typer

from vivant.cli.table import show

COMMERCIAL = {"Apache-2.0": "yes", "MIT": "yes", "public domain": "yes"}
"""Whether a licence allows commercial use. What is not listed counts as no."""

DATA = (
    {
        "name": "ICT-FaceKit (ICT Face Model Light)",
        "what": "face model behind all rendered training pictures and examples/driving.mp4; not shipped",
        "licence": "MIT",
        "source": "https://github.com/ICT-VGL/ICT-FaceKit",
    },
    {
        "name": "examples/astronaut.png",
        "what": "example portrait (Eileen Collins, photographed by NASA; no endorsement); not in the wheel",
        "licence": "public domain",
        "source": "https://images.nasa.gov, through scikit-image",
    },
)


def licenses(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List weights, face models and training data with licence, source and whether commercial use is allowed."""
    from vivant.face.models import FACE_MODELS
    from vivant.presets import PRESETS

    rows = []
    for preset in PRESETS.values():
        where = "comes with vivant" if preset.embedded else "not shipped; the user converts it"
        what = f"preset of the family {preset.family}; {where}"
        rows.append({"name": preset.name, "what": what, "licence": preset.licence, "source": preset.source})
    for model in FACE_MODELS:
        what = f"{model.purpose}; not shipped, fetched by `vivant doctor --fix`"
        rows.append({"name": model.name, "what": what, "licence": model.license, "source": model.origin})
    complete = [row | {"commercial_use": COMMERCIAL.get(row["licence"], "no")} for row in (*rows, *DATA)]
    show(complete, as_json=as_json)
    if not as_json:
        typer.echo(
            "\nFull texts: LICENSE and NOTICE. A licence says nothing about whose face may be animated."
        )
