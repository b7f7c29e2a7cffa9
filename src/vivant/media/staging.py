"""Outputs appear under their name only when complete.

Work goes to a hidden temporary beside the target; `commit` moves it into place, `discard` removes it.
Problems of the disk (full, read-only, name too long) become InputError with the user's own path in the
message.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vivant.errors import InputError

Seal = Callable[[Path], object]
"""Called with each complete file before it gets its name; what it raises leaves nothing behind."""

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file is too large for this disk; choose another folder",
    errno.EACCES: "the folder may not be written to; change its permissions or choose another folder",
    errno.EPERM: "the folder may not be written to; change its permissions or choose another folder",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EEXIST: "a file of that name exists already; choose another name",
    errno.ENOENT: "its folder does not exist; create it first",
    errno.ENOTDIR: "its folder does not exist; create it first",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}

_OS_ERROR = re.compile(r"os error (\d+)")


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn failures of the disk into InputError naming `path`, the output the user asked for."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        remedy = _REMEDIES.get(
            _number_of(error), f"{getattr(error, 'strerror', None) or error}; choose another folder"
        )
        raise InputError(f"{path} cannot be written: {remedy}.") from error


def _number_of(error: Exception) -> int:
    """The system's number of what went wrong; safetensors says it in words only."""
    told = _OS_ERROR.search(str(error))
    return getattr(error, "errno", None) or (int(told[1]) if told else 0)


def make_folder(path: Path) -> None:
    """Create a folder, and those above it, where it is missing. Raises InputError, also where a file is in the way."""
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def check_target_file(path: str | Path, overwrite: bool) -> Path:
    """Return `path` (links followed) when a file may be written there, otherwise raise InputError."""
    path = Path(path)
    with output_errors(path):
        try:
            os.lstat(path)
        except FileNotFoundError:
            return path
    target = path.resolve()
    if target.is_dir():
        raise InputError(f"{path} is a folder; name a file inside it.")
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is not a regular file; choose another output.")
    if not overwrite:
        raise InputError(f"{path} exists already; use --overwrite to replace it or choose another name.")
    return target


class StagedFile:
    """A file under a temporary hidden name. The temporary exists from construction on: a folder that cannot
    be written to is refused before any work."""

    def __init__(self, path: str | Path, *, overwrite: bool = False, seal: Seal | None = None) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._seal = seal
        self._target = check_target_file(path, overwrite)
        self.temporary = self._target.with_name(f".vivant-{secrets.token_hex(6)}{self._target.suffix}")
        # Before the file exists: a signal may strike between any two lines, also before the caller's `try`.
        self._remove = weakref.finalize(self, self.temporary.unlink, missing_ok=True)
        with output_errors(self.path):
            self.temporary.open("xb").close()

    def commit(self) -> None:
        """Flush the temporary to disk and give it its final name."""
        if self._seal is not None:
            self._seal(self.temporary)
        if not self._overwrite:
            check_target_file(self.path, overwrite=False)
        with output_errors(self.path):
            with self.temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.temporary, self._target)

    def discard(self) -> None:
        """Remove the temporary. Does nothing after `commit`. Happens by itself when the object is forgotten."""
        self._remove()


class StagedFolder:
    """A folder of files with certain suffixes under a temporary hidden name.

    An existing folder is only ever replaced when it is empty, or with `overwrite` when it holds nothing but
    files of those suffixes: nobody's other files are deleted.
    """

    def __init__(
        self, path: str | Path, *suffixes: str, overwrite: bool = False, seal: Seal | None = None
    ) -> None:
        self.path = Path(path)
        self._seal = seal
        self._suffixes = suffixes
        self._overwrite = overwrite
        self._target = check_target_folder(self.path, suffixes, overwrite)
        self.temporary = self._target.with_name(f".vivant-{secrets.token_hex(6)}")
        self._remove = weakref.finalize(self, shutil.rmtree, self.temporary, ignore_errors=True)
        with output_errors(self.path):
            self.temporary.mkdir()

    def commit(self) -> None:
        """Give the folder its final name; an allowed predecessor is moved aside first and then deleted."""
        if self._seal is not None:
            for file in sorted(self.temporary.iterdir()):
                self._seal(file)
        check_target_folder(self.path, self._suffixes, self._overwrite)
        predecessor = self.temporary.with_name(f"{self.temporary.name}-old")
        with output_errors(self.path):
            replace_folder(self.temporary, self._target, predecessor)
        shutil.rmtree(predecessor, ignore_errors=True)

    def discard(self) -> None:
        """Remove the temporary folder. Does nothing after `commit`. Happens by itself when the object is forgotten."""
        self._remove()


def check_target_folder(path: Path, suffixes: Collection[str], overwrite: bool) -> Path:
    """Return `path` (links followed) when a folder of files with these suffixes may take its place.

    Raises InputError.
    """
    target = path.resolve()
    with output_errors(path):
        if not os.path.lexists(target):
            return target
        if not target.is_dir():
            raise InputError(f"{path} exists already and is a file; choose another name.")
        entries = [entry.name for entry in os.scandir(target)]
    if entries and not overwrite:
        raise InputError(f"{path} exists already; use --overwrite to replace it or choose another name.")
    foreign = [name for name in entries if Path(name).suffix.lower() not in suffixes]
    if foreign:
        raise InputError(
            f"{path} holds other files ({sorted(foreign)[0]}) and is not replaced; choose another folder."
        )
    return target


def replace_folder(source: Path, target: Path, predecessor: Path) -> None:
    """Give a folder its final name, moving one that has it to `predecessor`."""
    if target.is_dir():
        os.rename(target, predecessor)
    try:
        os.rename(source, target)
    except OSError:
        if predecessor.is_dir():
            os.rename(predecessor, target)
        raise
