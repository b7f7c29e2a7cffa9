"""What all users of a server share: engines, rooms for sessions, uploads, jobs, counters."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import torch

from vivant import records
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.face.models import limit_threads
from vivant.live.latency import check_promise
from vivant.presets import load, load_voice
from vivant.voice import Voice
from vivant.web.metrics import Metrics
from vivant.web.offers import Offer, Offers
from vivant.web.runner import Runner
from vivant.web.settings import Serving
from vivant.web.uploads import Uploads

T = TypeVar("T")

MAX_PORTRAITS = 32
CAMERA_HZ = 25.0

log = logging.getLogger(__name__)


class BusyError(InputError):
    """No room for another session."""


class Rooms:
    """How many live sessions there are, of whom."""

    def __init__(self, serving: Serving, metrics: Metrics) -> None:
        self._serving, self._metrics = serving, metrics
        self._of_owner: Counter[str] = Counter()

    @contextmanager
    def room(self, owner: str) -> Iterator[None]:
        """Room for one session while the block runs. Raises BusyError."""
        serving, metrics = self._serving, self._metrics
        if metrics.sessions >= serving.max_sessions or self._of_owner[owner] >= serving.max_user_sessions:
            metrics.refused_total += 1
            raise BusyError(
                f"{metrics.sessions} of {serving.max_sessions} sessions are running, "
                f"{self._of_owner[owner]} of {serving.max_user_sessions} of them yours; close one or come back later"
            )
        metrics.sessions += 1
        metrics.sessions_total += 1
        self._of_owner[owner] += 1
        try:
            yield
        finally:
            metrics.sessions -= 1
            self._of_owner[owner] -= 1


def num_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def halve_threads() -> None:
    """Let one piece of work have half of the cores, so that two can be done at once; OMP_NUM_THREADS decides otherwise.

    Threads that share a picture wait for each other, the more where others use the cores too (docs/decisions/0025).
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    num_threads = max(1, num_cores() // 2)
    torch.set_num_threads(num_threads)
    limit_threads(num_threads)


class Workshop:
    """Engines and the threads that step them.

    All sessions together have about as many frames at work as there are workers, at least one each, and they are served
    in order: no session can starve another.
    """

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        # As many as fit on the cores with torch's threads: pools that fight are slower than one.
        num_threads = torch.get_num_threads()
        self.num_workers = max(1, num_cores() // num_threads)
        self._pool = ThreadPoolExecutor(
            self.num_workers,
            thread_name_prefix="vivant-step",
            initializer=torch.set_num_threads,  # OpenMP keeps the number by thread
            initargs=(num_threads,),
        )
        self._loading = Lock()
        self._engines: dict[str, Engine] = {}
        self._voices: dict[str, Voice] = {}
        self._portraits: dict[tuple[str, Path, str], Portrait] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """Do it on a worker."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def engine(self, offer: Offer) -> Engine:
        """Loaded when first asked for, then kept. Raises CheckpointError."""
        # Not on a worker: the steps of others would wait for as long as loading takes.
        return await asyncio.to_thread(self._load, offer)

    async def warn(self, max_latency_ms: float) -> None:
        """Tell whoever runs the server where cameras cannot drive the default preset, whatever the machine. Raises
        CheckpointError."""
        engine = await self.engine(self.offers.default)
        try:
            if self.offers.default.sees:
                check_promise(engine.stream, CAMERA_HZ, max_latency_ms)
        except InputError as error:
            log.warning("camera sessions will be refused", extra={"reason": str(error)})

    async def voice(self, offer: Offer) -> Voice:
        """What speaks for it. Raises InputError where the preset has none."""
        return await asyncio.to_thread(self._load_voice, offer)

    async def portrait(self, offer: Offer, picture: Path, face: str) -> Portrait:
        """Made once per preset, picture and face while it is among the last MAX_PORTRAITS. Raises FaceError."""
        engine = await self.engine(offer)
        return await self.run(lambda: self._prepare(engine, (offer.name, picture, face)))

    def close(self) -> None:
        """Wait for the steps at work; nothing new begins."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, offer: Offer) -> Engine:
        with self._loading:
            if offer.name not in self._engines:
                self._engines[offer.name] = load(offer.given)
            return self._engines[offer.name]

    def _load_voice(self, offer: Offer) -> Voice:
        with self._loading:
            if offer.name not in self._voices:
                self._voices[offer.name] = load_voice(offer.given, "the microphone")
            return self._voices[offer.name]

    def _prepare(self, engine: Engine, key: tuple[str, Path, str]) -> Portrait:
        _, picture, face = key
        if key not in self._portraits:
            made = engine.prepare(picture, face=None if face == "none" else face)
            while len(self._portraits) >= MAX_PORTRAITS:
                del self._portraits[next(iter(self._portraits))]
            self._portraits[key] = made
        return self._portraits[key]

    def forget(self, picture: Path) -> None:
        """Let go of what was made of a picture that is deleted."""
        for key in [key for key in self._portraits if key[1] == picture]:
            del self._portraits[key]


@dataclass
class House:
    """All of it."""

    serving: Serving
    workshop: Workshop
    uploads: Uploads
    metrics: Metrics
    runner: Runner
    owner_of: Callable[[str | None], str | None]
    """Of a token; None where it is wrong."""
    rooms: Rooms = field(init=False)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server is about to end."""
    is_broken: bool = False
    """Whether a part that should live as long as the server has ended."""

    def __post_init__(self) -> None:
        self.rooms = Rooms(self.serving, self.metrics)

    def broke(self, task: asyncio.Task[None]) -> None:
        """Say so where a task that should run until it is cancelled has ended by itself."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.is_broken = True
            log.error("a part of the server has ended; start it again", exc_info=error)

    def sweep(self, *, everything: bool = False) -> None:
        """Delete results that nobody fetched and uploads that nobody used for long; or all uploads."""
        if not everything:
            self.runner.sweep()
        for picture in self.uploads.sweep(self.runner.store.needed_uploads(), everything=everything):
            self.metrics.uploads_deleted_total += 1
            self.workshop.forget(picture)


def changed_options(options: Any, changes: Mapping[str, Any]) -> Any:
    """The options with some of them changed. Raises InputError for unknown names and values out of range."""
    try:
        return records.from_data(type(options), {**records.to_data(options), **changes})
    except ValueError as error:
        raise InputError(f"options: {error}") from error
