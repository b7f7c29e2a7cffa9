"""The server's routes, put together; see docs/protocol.md. Everything here is thin: parse, call, answer."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

import vivant
from vivant import records
from vivant.errors import SetupError, VivantError
from vivant.store import store_folder
from vivant.web import protocol
from vivant.web.gate import Gate
from vivant.web.house import House, Workshop
from vivant.web.job_routes import add_jobs
from vivant.web.jobs import NotNowError, UnknownJobError
from vivant.web.metrics import Metrics
from vivant.web.offers import Offers, UnknownPresetError
from vivant.web.routes import FILE_BODY, answer_wrong_method, counted, errors, made, owner
from vivant.web.runner import Runner, Supplies
from vivant.web.settings import Serving
from vivant.web.uploads import TooLargeError, UnknownUploadError, Uploads
from vivant.web.viewer import serve_viewer

STATIC = Path(__file__).parent / "static"
SWEEP_SECONDS = 30.0

log = logging.getLogger(__name__)


class Face(BaseModel):
    """One face of a portrait; places are relative to the picture, 0 to 1."""

    number: int
    left: float
    top: float
    right: float
    bottom: float


class PortraitMade(BaseModel):
    """What became of an uploaded picture."""

    id: str
    width: int
    height: int
    faces: list[Face]
    """Largest first; the number is what `face` means."""


class PresetOffered(BaseModel):
    """What `preset` may be, in the message hello and in orders."""

    name: str
    licence: str | None
    """None: of weights of the server's own."""
    hears: bool
    """Whether sound can drive it: mode voice, and orders with a sound file."""
    sees: bool
    """Whether pictures can: modes camera and file. Of an order's video without it only the sound counts."""
    options: dict[str, Any]
    """With their defaults; a session's `ready` says what holds."""


class ServerSays(BaseModel):
    """What this server can do."""

    version: str
    protocol: int
    presets: list[PresetOffered]
    """The first is the default."""
    webrtc: bool
    """Whether `hello` may ask for transport webrtc."""
    max_latency_ms: float
    max_upload_mb: int


def build(serving: Serving) -> tuple[ASGIApp, House]:
    """The application, and what its users share. The default preset is loaded when the application starts.

    Raises InputError or CheckpointError where a preset cannot be offered.
    """
    folder = state_folder(serving)
    gate = Gate(_nothing, serving)
    offers, metrics = Offers(serving.preset), Metrics()
    uploads = Uploads(folder / "uploads", serving)
    runner = Runner(folder / "jobs", serving, Supplies(offers, uploads), metrics)
    house = House(serving, Workshop(offers), uploads, metrics, runner, gate.owner)
    app = FastAPI(
        title="vivant",
        version=vivant.__version__,
        docs_url=None,  # both would load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan(house),
    )
    app.exception_handler(VivantError)(_answer_error)
    app.exception_handler(RequestValidationError)(_answer_invalid)
    app.exception_handler(405)(answer_wrong_method)
    _add_open_routes(app, house)
    _add_portraits(app, house)
    add_jobs(app, house)
    app.router.routes.append(Mount("/static", StaticFiles(directory=STATIC), name="static"))
    gate.app = app
    return gate, house


def state_folder(serving: Serving) -> Path:
    """Where a server keeps uploads, jobs and results."""
    return serving.state if serving.state is not None else store_folder() / "serve"


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands in until the application is made."""


def _lifespan(house: House) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await house.workshop.warn(house.serving.max_latency_ms)
        tasks = [asyncio.create_task(_sweep(house)), asyncio.create_task(house.runner.run())]
        for task in tasks:
            task.add_done_callback(house.broke)
        yield
        house.closing.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        house.sweep(everything=True)
        house.runner.store.close()
        await asyncio.to_thread(house.workshop.close)

    return lifespan


async def _sweep(house: House) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            house.sweep()
        except (OSError, sqlite3.Error):
            log.exception("old files could not be deleted; once more later")


async def _answer_error(request: Request, error: Exception) -> Response:
    statuses = {
        UnknownUploadError: 404,
        UnknownJobError: 404,
        UnknownPresetError: 404,
        TooLargeError: 413,
        NotNowError: 409,
        SetupError: 503,
    }
    status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 422)
    return _answered(str(error), status)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """What is wrong with which field, without what was sent: not every number and text can be sent back."""
    assert isinstance(error, RequestValidationError)
    told = [{name: value for name, value in each.items() if name != "input"} for each in error.errors()]
    return _answered(jsonable_encoder(told), 422)


def _answered(detail: Any, status: int) -> Response:
    # Escaped: half of a pair of surrogates is no UTF-8.
    body = json.dumps({"detail": detail}, default=str)
    return Response(body, status, media_type="application/json")


def _add_open_routes(app: FastAPI, house: House) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/healthz")
    async def healthz(response: Response) -> dict[str, str]:
        """Whether the server lives and takes work."""
        if house.is_broken:
            response.status_code = 503
            return {"status": "broken"}
        return {"status": "ending" if house.closing.is_set() else "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counters for Prometheus."""
        return PlainTextResponse(
            house.metrics.text(house.runner.store.counts()), media_type="text/plain; version=0.0.4"
        )

    @app.get("/v1/server")
    async def server() -> ServerSays:
        """What this server can do."""
        return ServerSays(
            version=vivant.__version__,
            protocol=protocol.VERSION,
            presets=[
                PresetOffered(
                    name=offer.name,
                    licence=offer.licence,
                    hears=offer.hears,
                    sees=offer.sees,
                    options=records.to_data(offer.options),
                )
                for offer in house.workshop.offers
            ],
            webrtc=house.serving.webrtc,
            max_latency_ms=house.serving.max_latency_ms,
            max_upload_mb=house.serving.max_upload_mb,
        )

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await serve_viewer(socket, house)


def _add_portraits(app: FastAPI, house: House) -> None:
    @app.post(
        "/v1/portraits",
        status_code=201,
        responses=errors(413, 422, 503) | made("delete_portrait"),
        openapi_extra=FILE_BODY,
    )
    async def add_portrait(request: Request) -> PortraitMade:
        """Upload a picture (the body is the file); its faces are numbered."""
        upload = await counted(house, house.uploads.receive(owner(request), "picture", request.stream()))
        _, path = house.uploads.get(owner(request), upload.id, "picture")
        faces = await house.workshop.run(lambda: _faces(path))
        return PortraitMade(id=upload.id, faces=faces, **upload.info)

    @app.delete("/v1/portraits/{name}", status_code=204, responses=errors(404))
    async def delete_portrait(request: Request, name: str) -> Response:
        """Forget a picture now."""
        _, path = house.uploads.get(owner(request), name, "picture")
        house.uploads.delete(owner(request), name, "picture")
        house.workshop.forget(path)
        return Response(status_code=204)


def _faces(path: Path) -> list[Face]:
    from vivant.face.framing import list_faces
    from vivant.media.image import read_image

    image = read_image(path)
    height, width = image.shape[:2]
    found = []
    for number, face in enumerate(list_faces(image)):
        left, top, right, bottom = (float(edge) for edge in face.landmarks.box)
        found.append(
            Face(
                number=number,
                left=left / width,
                top=top / height,
                right=right / width,
                bottom=bottom / height,
            )
        )
    return found
