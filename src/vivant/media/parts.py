"""The hidden folder beside an output in which it grows, so that a run that is killed can be gone on with.

    .film.mp4.vivant-parts/
        lock            held by the run that works here; the system lets go of it however that run ends
        job.json        what is being made: a run that makes something else does not go on with it
        00000.mp4 ...   finished segments
        mark            how far it came and everything needed to go on; replaced as a whole after each segment
        finished.json   the outputs are complete and being moved to their names

Each file appears under its name when it is complete and on the disk, so it does not matter when a run is killed. Knows
neither what a segment nor what a mark is.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vivant.errors import InputError
from vivant.media.staging import check_target_file, check_target_folder, output_errors, replace_folder

_LOCK, _JOB, _MARK, _FINISHED, _REPLACED = "lock", "job.json", "mark", "finished.json", "replaced"


@dataclass(frozen=True)
class Move:
    """One complete output and the name that it is to have."""

    part: str
    """Name in the folder."""
    target: Path


class Parts:
    """The folder of one output. Made by `open`; end with `close`, `keep` or `remove`."""

    def __init__(self, target: Path, lock: BinaryIO) -> None:
        self.target = target
        self.folder = parts_folder(target)
        self._lock: BinaryIO | None = lock

    @classmethod
    def open(cls, target: Path) -> Parts:
        """Make the folder, or enter it. Raises InputError where it cannot be, or where another run works there."""
        folder = parts_folder(target)
        while True:
            with output_errors(target):
                folder.mkdir(exist_ok=True)
                lock = (folder / _LOCK).open("ab")
            if not locked(lock):
                lock.close()
                raise InputError(
                    f"{target} is being made by another run; wait for it, or choose another output."
                )
            with suppress(FileNotFoundError):  # it was removed, by the run that had it, while we waited
                if os.path.samestat((folder / _LOCK).stat(), os.fstat(lock.fileno())):
                    return cls(target, lock)
            lock.close()

    @property
    def mark(self) -> Path | None:
        """How far it came; None where nothing is worth keeping."""
        path = self.folder / _MARK
        return path if path.is_file() else None

    def begin(self, job: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Make it the folder of that job: empty, or what an earlier run of the same job left.

        Raises InputError where it holds the beginning of something that is not to be gone on with.
        """
        job = json.loads(json.dumps(job))  # as it will be read
        begun = self.mark is not None or self.moves is not None
        earlier = self._job()
        if begun and resume and earlier == job:
            return
        if begun and not overwrite:
            if not resume:
                raise InputError(
                    f"{self.target} was begun and not finished; use --resume to go on, or --overwrite to begin again."
                )
            raise InputError(
                f"{self.target} was begun with other input or settings ({_difference(earlier or {}, job)}); "
                "repeat that command, or use --overwrite to begin again."
            )
        # First of all: outputs that wait to be moved are parts, and those are about to go.
        (self.folder / _FINISHED).unlink(missing_ok=True)
        self._clear()
        self.put(_JOB, lambda path: path.write_text(json.dumps(job), encoding="utf-8"))

    def put(self, name: str, write: Callable[[Path], object]) -> None:
        """Have a file written, on the disk and then under its name."""
        temporary = self.folder / f"{name}~"
        with output_errors(self.target):
            write(temporary)
            settle(temporary)
            os.replace(temporary, self.folder / name)
            settle(self.folder)

    def put_mark(self, write: Callable[[Path], object]) -> None:
        """From here on the work can be gone on with."""
        self.put(_MARK, write)

    @property
    def moves(self) -> list[Move] | None:
        """What is complete and waits to be moved; None while it is being made."""
        path = self.folder / _FINISHED
        if not path.is_file():
            return None
        return [Move(part, Path(target)) for part, target in json.loads(path.read_text("utf-8"))]

    def finish(self, moves: list[Move] | None = None, *, overwrite: bool = False) -> None:
        """Move complete outputs to their names, all or, if it is killed, the rest when it is called again."""
        if moves is not None:
            listed = [(move.part, str(move.target.absolute())) for move in moves]
            self.put(_FINISHED, lambda path: path.write_text(json.dumps(listed), encoding="utf-8"))
        for move in self.moves or []:
            part = self.folder / move.part
            if not part.exists():
                continue
            if part.is_dir():  # what appeared there since the run began is not ours to delete
                check_target_folder(move.target, {file.suffix.lower() for file in part.iterdir()}, overwrite)
            elif not overwrite:
                check_target_file(move.target, overwrite=False)
            with output_errors(move.target):
                target = move.target.resolve()
                if part.is_dir():
                    replace_folder(part, target, self.folder / _REPLACED)
                else:
                    _replace_file(part, target)
        self.remove()

    def close(self, *, keep: bool) -> None:
        """Leave it: with what is worth keeping, if that is wanted, else without a trace. Safe to call twice."""
        if self._lock is None:
            return
        if keep and (self.mark is not None or self.moves is not None):
            self._lock.close()
            self._lock = None
            return
        self.remove()

    def remove(self) -> None:
        """Leave no trace."""
        self._clear()
        for name in (
            _JOB,
            _FINISHED,
            _LOCK,
        ):  # in this order, so that half of it is not mistaken for anything
            (self.folder / name).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        with suppress(OSError):  # somebody else's file is in it
            self.folder.rmdir()

    def _job(self) -> Any:
        path = self.folder / _JOB
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def _clear(self) -> None:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (_LOCK, _JOB, _FINISHED):
                path.unlink(missing_ok=True)


def is_kept(target: Path) -> bool:
    """Whether a run that was stopped left something to go on with."""
    return (parts_folder(target) / _MARK).is_file()


def waits_to_be_moved(target: Path) -> bool:
    """Whether a run that was killed had everything complete and was moving it."""
    return (parts_folder(target) / _FINISHED).is_file()


def parts_folder(target: Path) -> Path:
    """Where the parts of an output are."""
    return target.with_name(f".{target.name}.vivant-parts")


def settle(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked(file: BinaryIO) -> bool:
    """Whether the lock on an open file could be had; it lasts until the file is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _replace_file(part: Path, target: Path) -> None:
    """Also where a link leads the target to another disk."""
    try:
        os.replace(part, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".vivant-{part.name}")
        shutil.copyfile(part, beside)
        settle(beside)
        os.replace(beside, target)
        part.unlink()


def _difference(earlier: Any, job: Any, name: str = "") -> str:
    """The first place where two trees differ, in words."""
    if isinstance(earlier, Mapping) and isinstance(job, Mapping):
        for key in sorted(earlier.keys() | job.keys()):
            if earlier.get(key) != job.get(key):
                return _difference(earlier.get(key), job.get(key), f"{name}.{key}".lstrip("."))
    return f"{name} was {earlier}, is {job}"
