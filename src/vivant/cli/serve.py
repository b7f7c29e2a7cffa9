"""`vivant serve`: a page where a webcam, a microphone or a file drives a portrait live, for several users."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import typer

from vivant.cli.options import takes_fields
from vivant.web.settings import Serving


@takes_fields("serving", [Serving])
def serve(serving: Mapping[str, Any]) -> None:
    """Serve the page and the API until Ctrl-C; to this machine only, unless --host and a token say otherwise."""
    from vivant.cli.extras import require

    token = os.environ.get("VIVANT_TOKEN")
    wanted = Serving(**({"token": token} if token else {}) | dict(serving))
    for package in ("fastapi", "uvicorn", "websockets"):
        require(package, "serve")
    from vivant.web.serve import serve as run

    run(wanted, lambda address: typer.echo(f"vivant: {address} (Ctrl-C ends)", err=True))
