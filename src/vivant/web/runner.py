"""Does the jobs, one after another, each in a process of its own, and keeps their files for a while."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

from vivant.errors import VivantError
from vivant.media.staging import output_errors
from vivant.web.jobs import Job, JobStore
from vivant.web.metrics import Metrics
from vivant.web.offers import Offer, Offers
from vivant.web.sandbox import surroundings
from vivant.web.settings import Serving
from vivant.web.uploads import Uploads
from vivant.web.worker import COMPARISON, RESULT

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
STUMBLED_SECONDS = 5.0
"""Until the queue goes on where it could not: memory or disk are full, or the worker said what nobody says."""
TROUBLE = (OSError, ValueError, sqlite3.Error)
MAX_FRAME_RATE_HZ = 60
"""Of clips as long as may be; shorter ones may have more. A clip can last longer than its header says."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supplies:
    """What orders name."""

    offers: Offers
    uploads: Uploads


class Runner:
    """One per server."""

    def __init__(self, folder: Path, serving: Serving, supplies: Supplies, metrics: Metrics) -> None:
        self.folder, self._serving, self._supplies, self._metrics = folder, serving, supplies, metrics
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = JobStore(folder / "jobs.sqlite3")
        self.frames_per_second: dict[str, float] = {}
        """Of the last job of each preset, loading included."""

    def result(self, job: Job) -> Path:
        return self._folder_of(job.id) / RESULT

    def comparison(self, job: Job) -> Path:
        """Driving clip, portrait and result in one row; there where the order asked for it."""
        return self._folder_of(job.id) / COMPARISON

    async def run(self) -> None:
        """Until cancelled; what is at work then is queued again, and so is what met trouble of the server's own."""
        recovers = True
        while True:
            try:
                if recovers and (count := self.store.recover()):
                    log.info("jobs queued again", extra={"count": count})
                recovers = False
                job = self.store.begin_next()
                if job is None:
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    await self._attend(job)
            except TROUBLE:
                log.exception("the queue of jobs stumbled and goes on")
                recovers = True
                await asyncio.sleep(STUMBLED_SECONDS)

    async def _attend(self, job: Job) -> None:
        log.info("job begins", extra={"job": job.id[:8], "attempt": job.attempts})
        try:
            began = monotonic()
            await self._do(job)
            done = self.store.get(job.owner, job.id)
            if done.state == "done" and done.done:
                speed = done.done / (monotonic() - began)
                self.frames_per_second[self._offer(job).name] = speed
        except asyncio.CancelledError:
            self.store.requeue(job.id)
            raise
        log.info("job ends", extra={"job": job.id[:8], "state": self.store.get(job.owner, job.id).state})

    def sweep(self) -> None:
        """Delete results that nobody fetched for long."""
        for name in self.store.forget_before(time() - self._serving.keep_minutes * 60):
            shutil.rmtree(self._folder_of(name), ignore_errors=True)

    async def _do(self, job: Job) -> None:
        folder = self._folder_of(job.id)
        try:
            with output_errors(Path("the job")):  # users are told no folders
                folder.mkdir(mode=0o700, exist_ok=True)
                (folder / "order.json").write_text(json.dumps(self._order(job)), encoding="utf-8")
        except VivantError as error:  # an upload that was deleted, a preset no longer offered, a full disk
            self._conclude(job, {"error": str(error)})
            return
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "vivant.web.worker",
            str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=surroundings(),
        )
        reading = asyncio.create_task(self._read(job, child))
        ends = monotonic() + self._serving.max_job_hours * 3600
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=POLL_SECONDS)
                if self.store.get(job.owner, job.id).state == "cancelled":
                    break
                if monotonic() > ends:
                    hours = f"{self._serving.max_job_hours:g} hours"
                    self._conclude(job, {"error": f"the job took more than {hours}; use a shorter clip"})
                    break
            else:
                self._conclude(job, reading.result())
        finally:
            reading.cancel()
            await _end(child)
        if self.store.get(job.owner, job.id).state == "cancelled":
            shutil.rmtree(folder, ignore_errors=True)

    def _order(self, job: Job) -> dict[str, Any]:
        ordered, offer = dict(job.ordered), self._offer(job)
        _, picture = self._supplies.uploads.get(job.owner, ordered.pop("portrait"), "picture")
        _, clip = self._supplies.uploads.get(job.owner, ordered.pop("clip"), "clip")
        options = ordered.pop("options")
        recording = ordered | {"source": str(picture), "driving": str(clip), "preset": offer.given}
        return {
            "recording": recording,
            "options": options,
            "max_frames": round(self._serving.max_clip_seconds * MAX_FRAME_RATE_HZ),
            "memory_bytes": round(self._serving.max_job_memory_gb * 1e9),
        }

    def _offer(self, job: Job) -> Offer:
        return self._supplies.offers.named(job.ordered.get("preset"))

    async def _read(self, job: Job, child: asyncio.subprocess.Process) -> dict[str, Any]:
        """The worker's last word; its progress goes into the store."""
        assert child.stdout is not None
        last: dict[str, Any] = {}
        async for line in child.stdout:
            last = json.loads(line)
            if "done" in last:
                self.store.progress(job.id, last["done"], last["total"])
        return last

    def _conclude(self, job: Job, last: dict[str, Any]) -> None:
        if last.get("finished"):
            self.store.progress(job.id, last["frames"], last["frames"])
            self.store.finish(job.id, "done")
            self._metrics.jobs_finished_total += 1
            return
        if "reason" in last:  # not for users
            log.error("a job cannot be done", extra={"job": job.id[:8], "reason": last["reason"]})
        self.store.finish(
            job.id, "failed", last.get("error", "the render process ended without a word; try again")
        )
        self._metrics.jobs_failed_total += 1

    def _folder_of(self, name: str) -> Path:
        return self.folder / name


async def _end(child: asyncio.subprocess.Process) -> None:
    """End the worker, politely at first, and let go of its pipes."""
    if child.returncode is None:
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), GRACE_SECONDS)
        except TimeoutError:
            child.kill()
    await child.communicate()
