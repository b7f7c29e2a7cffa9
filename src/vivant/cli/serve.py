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

    secrets = {"token": "VIVANT_TOKEN", "turn_password": "VIVANT_TURN_PASSWORD"}
    wanted = Serving(**{k: os.environ[v] for k, v in secrets.items() if os.environ.get(v)} | dict(serving))
    for package in ("fastapi", "uvicorn", "websockets"):
        require(package, "serve")
    if wanted.webrtc:
        require("aiortc", "webrtc")
    from vivant.web.serve import serve as run

    run(wanted, lambda address: typer.echo(f"vivant: {address} (Ctrl-C ends)", err=True))
