"""Render jobs in an embedded database: what was ordered, how far it is, what came of it. Survives kill -9.

    queued --> running --> done | failed | cancelled          queued <-- (the server began again) <-- running

Only states and numbers are here; `runner` does the work, and files lie beside the database.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import time
from typing import Any, Literal, get_args

from vivant.errors import InputError
from vivant.web.uploads import NAME

State = Literal["queued", "running", "done", "failed", "cancelled"]
UNFINISHED = ("queued", "running")
MAX_ATTEMPTS = 3
"""A job that took the server down with it so often is not tried again by itself."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL, ordered TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, total INTEGER, error TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, updated REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created);
PRAGMA user_version = 1;
"""
_COLUMNS = "id, owner, state, ordered, done, total, error, attempts, created, updated"


class UnknownJobError(InputError):
    """There is no such job of this user."""


class NotNowError(InputError):
    """The job, or the user, is in a state in which this cannot be done."""


@dataclass(frozen=True)
class Job:
    """One row."""

    id: str
    owner: str
    state: State
    ordered: Mapping[str, Any]
    done: int
    """Frames."""
    total: int | None
    error: str | None
    attempts: int
    created: float
    updated: float

    @property
    def is_finished(self) -> bool:
        return self.state not in UNFINISHED


class JobStore:
    """The database. Any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")  # an accepted order survives the power cord
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def add(self, owner: str, ordered: Mapping[str, Any], max_unfinished: int) -> Job:
        """A new job. Raises NotNowError where the user has as many as allowed."""
        name, now = secrets.token_urlsafe(16), time()
        self._check_room(owner, max_unfinished)
        self._do(
            "INSERT INTO jobs (id, owner, state, ordered, created, updated) VALUES (?, ?, 'queued', ?, ?, ?)",
            (name, owner, json.dumps(ordered), now, now),
        )
        return self.get(owner, name)

    def get(self, owner: str, name: str) -> Job:
        """Raises UnknownJobError."""
        rows = self._rows("WHERE id = ? AND owner = ?", (name, owner)) if NAME.fullmatch(name) else []
        if not rows:
            raise UnknownJobError(f"there is no job {name[:22]!r} of yours")
        return rows[0]

    def of_owner(self, owner: str) -> list[Job]:
        """Newest first."""
        return self._rows("WHERE owner = ? ORDER BY created DESC LIMIT 100", (owner,))

    def begin_next(self) -> Job | None:
        """The oldest that waits, now running."""
        with self._lock:
            row = self._connection.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, done = 0, error = NULL, updated = ? "
                "WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY created LIMIT 1) "
                f"RETURNING {_COLUMNS}",
                (time(),),
            ).fetchone()
        return _job(row) if row is not None else None

    def progress(self, name: str, done: int, total: int | None) -> None:
        self._do(
            "UPDATE jobs SET done = ?, total = ?, updated = ? WHERE id = ? AND state = 'running'",
            (done, total, time(), name),
        )

    def finish(self, name: str, state: State, error: str | None = None) -> None:
        """Whatever came of a running job; a job that was cancelled meanwhile stays so."""
        self._do(
            "UPDATE jobs SET state = ?, error = ?, updated = ? WHERE id = ? AND state = 'running'",
            (state, error, time(), name),
        )

    def cancel(self, owner: str, name: str) -> Job:
        """Raises UnknownJobError, or NotNowError where it is finished."""
        job = self.get(owner, name)
        if job.is_finished:
            raise NotNowError(f"the job is {job.state} already")
        self._do("UPDATE jobs SET state = 'cancelled', updated = ? WHERE id = ?", (time(), name))
        return self.get(owner, name)

    def retry(self, owner: str, name: str, max_unfinished: int) -> Job:
        """Raises UnknownJobError, or NotNowError unless it failed or was cancelled, or as `add` does."""
        job = self.get(owner, name)
        if job.state not in ("failed", "cancelled"):
            raise NotNowError(f"the job is {job.state}; only failed and cancelled ones are tried again")
        self._check_room(owner, max_unfinished)
        self._do(
            "UPDATE jobs SET state = 'queued', attempts = 0, error = NULL, done = 0, updated = ? WHERE id = ?",
            (time(), name),
        )
        return self.get(owner, name)

    def recover(self) -> int:
        """Queue what ran when the server ended, except what ended it again and again; returns how many."""
        self._do(
            "UPDATE jobs SET state = 'failed', error = ? WHERE state = 'running' AND attempts >= ?",
            (
                f"the server failed {MAX_ATTEMPTS} times while this ran; try again if you think it was chance",
                MAX_ATTEMPTS,
            ),
        )
        return self._do("UPDATE jobs SET state = 'queued' WHERE state = 'running'", ())

    def requeue(self, name: str) -> None:
        """The server ends in good order: the job is not to blame."""
        self._do(
            "UPDATE jobs SET state = 'queued', attempts = attempts - 1 WHERE id = ? AND state = 'running'",
            (name,),
        )

    def touch(self, name: str) -> None:
        """It was used, so it is kept."""
        self._do("UPDATE jobs SET updated = ? WHERE id = ?", (time(), name))

    def forget_before(self, time_seconds: float) -> list[str]:
        """Delete finished jobs last touched before that; returns their names."""
        with self._lock:
            rows = self._connection.execute(
                "DELETE FROM jobs WHERE state NOT IN ('queued', 'running') AND updated < ? RETURNING id",
                (time_seconds,),
            ).fetchall()
        return [row[0] for row in rows]

    def needed_uploads(self) -> Collection[str]:
        """Names of uploads that unfinished jobs read."""
        rows = self._rows("WHERE state IN ('queued', 'running')", ())
        return {str(job.ordered[kind]) for job in rows for kind in ("portrait", "clip")}

    def counts(self) -> Mapping[str, int]:
        """How many there are in each state."""
        with self._lock, closing(self._connection.execute("SELECT state FROM jobs")) as rows:
            found = Counter(row[0] for row in rows)
        return {state: found[state] for state in get_args(State)}

    def _check_room(self, owner: str, max_unfinished: int) -> None:
        states = ", ".join(f"'{state}'" for state in UNFINISHED)
        count = len(self._rows(f"WHERE owner = ? AND state IN ({states})", (owner,)))
        if count >= max_unfinished:
            raise NotNowError(f"{count} of your jobs wait or run, the most allowed; let one end first")

    def _rows(self, where: str, values: tuple[Any, ...]) -> list[Job]:
        with self._lock:
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs {where}", values).fetchall()
        return [_job(row) for row in rows]

    def _do(self, statement: str, values: tuple[Any, ...]) -> int:
        with self._lock:
            return self._connection.execute(statement, values).rowcount


def _job(row: tuple[Any, ...]) -> Job:
    name, owner, state, ordered, *rest = row
    return Job(name, owner, state, json.loads(ordered), *rest)
