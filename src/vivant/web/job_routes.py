"""The routes of render jobs: clips up, orders in, progress, cancel, retry, results down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from vivant.web.house import House, changed_options
from vivant.web.jobs import Job, NotNowError, State
from vivant.web.routes import FILE_BODY, counted, errors, made, owner

EVENT_SECONDS = 0.3
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]


class ClipMade(BaseModel):
    """What became of an uploaded clip or sound."""

    id: str
    kind: Literal["clip", "sound"]
    seconds: float | None
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    has_sound: bool = True
    num_frames: int | None = None
    """What a job would render."""
    seconds_estimates: dict[str, float] = {}
    """How long that would take, by preset; of those with which this server rendered before."""


class Order(BaseModel):
    """A picture, a clip, and what to make of them; see `vivant animate --help`."""

    model_config = ConfigDict(extra="forbid")

    portrait: Name
    clip: Name
    preset: Annotated[str, Field(max_length=64)] | None = None
    """One that the server offers (GET /v1/server). None: its default."""
    face: Annotated[str, Field(max_length=40)] = "largest"
    driving_face: Annotated[str, Field(max_length=40)] = "largest"
    paste_back: bool | None = None
    compare: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    consent: Annotated[str, Field(max_length=500)] | None = None
    """Who agreed, and when; kept in the file."""
    visible_label: bool = False
    crf: Annotated[int, Field(ge=0, le=51)] | None = None
    options: dict[str, Any] = {}


class JobNow(BaseModel):
    """How far a job is."""

    id: str
    state: State
    done: int
    """Frames."""
    total: int | None
    error: str | None
    created: float
    """Seconds since 1970."""
    compare: bool
    """Whether there is, or will be, a comparison too."""


def add_jobs(app: FastAPI, house: House) -> None:
    """All routes of this file."""
    _add_clips(app, house)
    _add_orders(app, house)
    _add_watching(app, house)


def _add_clips(app: FastAPI, house: House) -> None:
    @app.post("/v1/clips", status_code=201, responses=errors(413, 422), openapi_extra=FILE_BODY)
    async def add_clip(request: Request) -> ClipMade:
        """Upload a driving clip or speech (the body is the file)."""
        upload = await counted(house, house.uploads.receive(owner(request), "clip", request.stream()))
        clip = ClipMade(id=upload.id, **upload.info)
        if clip.seconds is not None:
            clip.num_frames = round(clip.seconds * (clip.frame_rate or 25))
            speeds = house.runner.frames_per_second
            clip.seconds_estimates = {name: clip.num_frames / speed for name, speed in speeds.items()}
        return clip


def _add_orders(app: FastAPI, house: House) -> None:
    runner = house.runner

    @app.post(
        "/v1/jobs",
        status_code=201,
        responses=errors(400, 404, 409, 413, 422)
        | made("get_job", "watch_job", "cancel_job", "retry_job", "get_result", "get_comparison"),
    )
    async def add_job(request: Request, order: Order) -> JobNow:
        """Order a render job. `options` are those of the preset, see GET /v1/server."""
        house.uploads.get(owner(request), order.portrait, "picture")
        clip, _ = house.uploads.get(owner(request), order.clip, "clip")
        offer = house.workshop.offers.named(order.preset)
        if clip.info["kind"] == "sound" and not offer.hears:
            raise NotNowError(f"{offer.name} has no voice; drive with a video")
        changed_options(offer.options, order.options)  # so that nobody waits in a queue for a refusal
        # By name: a server that begins again with another default still makes what was ordered.
        named = order.model_dump() | {"preset": offer.name}
        return _now(runner.store.add(owner(request), named, house.serving.max_user_jobs))

    @app.post("/v1/jobs/{name}/cancel", responses=errors(404, 409))
    async def cancel_job(request: Request, name: str) -> JobNow:
        """Stop a job that waits or runs; nothing of it is kept."""
        return _now(runner.store.cancel(owner(request), name))

    @app.post("/v1/jobs/{name}/retry", responses=errors(404, 409))
    async def retry_job(request: Request, name: str) -> JobNow:
        """Queue a failed or cancelled job again, while its uploads are kept."""
        job = runner.store.get(owner(request), name)
        house.uploads.get(job.owner, job.ordered["portrait"], "picture")
        house.uploads.get(job.owner, job.ordered["clip"], "clip")
        return _now(runner.store.retry(owner(request), name, house.serving.max_user_jobs))


def _add_watching(app: FastAPI, house: House) -> None:
    store = house.runner.store

    @app.get("/v1/jobs")
    async def list_jobs(request: Request) -> list[JobNow]:
        """Your jobs, newest first."""
        return [_now(job) for job in store.of_owner(owner(request))]

    @app.get("/v1/jobs/{name}", responses=errors(404))
    async def get_job(request: Request, name: str) -> JobNow:
        """How far it is."""
        return _now(store.get(owner(request), name))

    @app.get("/v1/jobs/{name}/events", responses=errors(404), response_class=StreamingResponse)
    async def watch_job(request: Request, name: str) -> StreamingResponse:
        """The same as server-sent events, one for each change, until it is finished."""
        store.get(owner(request), name)
        events = _events(house, owner(request), name)
        return StreamingResponse(events, media_type="text/event-stream")

    @app.get("/v1/jobs/{name}/result", responses=errors(404, 409), response_class=FileResponse)
    async def get_result(request: Request, name: str) -> Response:
        """The video of a job that is done."""
        job = store.get(owner(request), name)
        if job.state != "done":
            raise NotNowError(f"the job is {job.state}; there is no result")
        store.touch(job.id)
        return FileResponse(house.runner.result(job), media_type="video/mp4", filename="vivant.mp4")

    @app.get("/v1/jobs/{name}/comparison", responses=errors(404, 409), response_class=FileResponse)
    async def get_comparison(request: Request, name: str) -> Response:
        """Of a job that is done and was to compare: driving clip, portrait and result side by side."""
        job = store.get(owner(request), name)
        if job.state != "done":
            raise NotNowError(f"the job is {job.state}; there is no comparison")
        if not job.ordered.get("compare"):
            raise NotNowError("the order did not ask to compare; there is no comparison")
        store.touch(job.id)
        return FileResponse(
            house.runner.comparison(job), media_type="video/mp4", filename="vivant--compare.mp4"
        )


async def _events(house: House, name_of_owner: str, name: str) -> AsyncIterator[str]:
    last = None
    while not house.closing.is_set():
        now = _now(house.runner.store.get(name_of_owner, name))
        if now != last:
            yield f"data: {json.dumps(now.model_dump())}\n\n"
        if now.state not in ("queued", "running"):
            return
        last = now
        await asyncio.sleep(EVENT_SECONDS)


def _now(job: Job) -> JobNow:
    return JobNow(
        id=job.id,
        state=job.state,
        done=job.done,
        total=job.total,
        error=job.error,
        created=job.created,
        compare=bool(job.ordered.get("compare")),
    )
