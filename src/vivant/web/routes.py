"""What the routes of the server share: who asks, how uploads are counted, how errors are described."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.routing import Match

from vivant.errors import VivantError
from vivant.web.house import House


def owner(request: Request) -> str:
    """Who asks; the gate has let nobody in without a name."""
    name = request.scope["state"]["owner"]
    assert isinstance(name, str)
    return name


async def counted(house: House, upload: Awaitable[Any]) -> Any:
    """The upload, counted with those that came to something or with those refused."""
    try:
        made = await upload
    except VivantError:
        house.metrics.uploads_refused_total += 1
        raise
    house.metrics.uploads_total += 1
    return made


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers that a route may give besides its own, for OpenAPI."""
    texts = {
        400: "No JSON.",
        404: "There is no such thing of yours.",
        409: "Not now.",
        413: "Too large.",
        422: "Cannot be used.",
        503: "Something is not installed on the server.",
    }
    return {status: {"description": texts[status], "model": Detail} for status in statuses}


FILE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}
        },
    }
}
"""For OpenAPI: the body is the file itself."""


def made(*operations: str) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: the id of what was made here is what those operations call `name`."""
    name = {"name": "$response.body#/id"}
    return {
        201: {
            "links": {operation: {"operationId": operation, "parameters": name} for operation in operations}
        }
    }


async def answer_wrong_method(request: Request, error: Exception) -> JSONResponse:
    """405 with the methods of all routes of that path; by itself the first of them tells only its own."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    allowed = {"allow": ", ".join(sorted(methods))}
    return JSONResponse({"detail": "Method Not Allowed"}, 405, headers=allowed)


class Detail(BaseModel):
    """What is wrong and what to do."""

    detail: str | list[Any]
