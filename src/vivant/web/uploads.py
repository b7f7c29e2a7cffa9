"""Files that users send: received with a limit, decoded elsewhere, kept for a while, deleted by themselves.

A file is known by a random name that the server chose; a name that a user gave is never seen here, so no path can be
smuggled in. Whoever did not upload a file is told that there is none.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import Any, Literal

from vivant.errors import InputError
from vivant.media.staging import output_errors
from vivant.web.decode import Limits
from vivant.web.sandbox import decoded
from vivant.web.settings import Serving

Kind = Literal["picture", "clip"]
NAME = re.compile(r"[A-Za-z0-9_-]{22}")
PICTURE_SHARE = 4
"""A picture may have this part of the bytes of a clip."""


class UnknownUploadError(InputError):
    """There is no such upload of this user."""


class TooLargeError(InputError):
    """An upload has more bytes than this server takes."""


@dataclass(frozen=True)
class Upload:
    """One file."""

    id: str
    owner: str
    kind: Kind
    suffix: str
    info: dict[str, Any]
    """What decoding found: sizes, length."""


class Uploads:
    """All of them, in one folder; survives a restart."""

    def __init__(self, folder: Path, serving: Serving) -> None:
        self.folder, self.serving = folder, serving
        self._decoding = asyncio.Semaphore(2)
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for rest in folder.glob("*.part"):  # of uploads that a crash cut short
            rest.unlink(missing_ok=True)

    async def receive(self, owner: str, kind: Kind, body: AsyncIterator[bytes]) -> Upload:
        """Store what comes in. Raises TooLargeError, or InputError for what is no such file."""
        name = secrets.token_urlsafe(16)
        limit = self.serving.max_upload_mb * 1_000_000 // (PICTURE_SHARE if kind == "picture" else 1)
        part = self.folder / f"{name}.part"
        target = self.folder / f"{name}.png"
        limits = Limits(self.serving.max_megapixels * 1_000_000, self.serving.max_clip_seconds)
        try:
            with output_errors(Path("the upload")):  # users are told no folders
                await _write(part, body, limit)
            async with self._decoding:
                info = await decoded(kind, part, target, limits)
            suffix = info.pop("suffix", ".png")
            if kind == "clip":
                part.rename(self.folder / (name + suffix))
            upload = Upload(name, owner, kind, suffix, info)
            (self.folder / f"{name}.json").write_text(json.dumps(asdict(upload)), encoding="utf-8")
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            part.unlink(missing_ok=True)
        return upload

    def get(self, owner: str, name: str, kind: Kind) -> tuple[Upload, Path]:
        """An upload and its file; using it keeps it. Raises UnknownUploadError."""
        record = self.folder / f"{name}.json"
        if not NAME.fullmatch(name) or not record.is_file():
            raise UnknownUploadError(f"there is no {kind} {name[:22]!r}; upload it (again)")
        upload = Upload(**json.loads(record.read_text("utf-8")))
        path = self.folder / (name + upload.suffix)
        if upload.owner != owner or upload.kind != kind or not path.is_file():
            raise UnknownUploadError(f"there is no {kind} {name!r}; upload it (again)")
        record.touch()
        return upload, path

    def delete(self, owner: str, name: str, kind: Kind) -> None:
        """Forget an upload. Raises UnknownUploadError."""
        _, path = self.get(owner, name, kind)
        path.unlink(missing_ok=True)
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def sweep(self, in_use: Collection[str], *, everything: bool = False) -> list[Path]:
        """Delete what nobody used for long (or `everything`), except what jobs still need; returns where each was, had
        it been a picture."""
        oldest = time() - self.serving.keep_minutes * 60
        swept = []
        for record in self.folder.glob("*.json"):
            if record.stem in in_use or not (everything or record.stat().st_mtime < oldest):
                continue
            for file in self.folder.glob(f"{record.stem}.*"):
                file.unlink(missing_ok=True)
            swept.append(record.with_suffix(".png"))
        return swept


async def _write(path: Path, body: AsyncIterator[bytes], limit: int) -> None:
    size = 0
    with path.open("xb") as file:
        async for chunk in body:
            size += len(chunk)
            if size > limit:
                raise TooLargeError(
                    f"the file is larger than {limit // 1_000_000} MB, which this server takes"
                )
            file.write(chunk)
    if size == 0:
        raise InputError("the file is empty; choose another one")
