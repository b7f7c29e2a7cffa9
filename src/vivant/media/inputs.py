"""First look at a file the user named: is it there, is it a file, has it content. Knows no format."""

from __future__ import annotations

import stat
from pathlib import Path

from vivant.errors import InputError


def check_input_file(path: str | Path, *, allow_empty: bool = False) -> Path:
    """Return `path` when it names a readable, non-empty, regular file; otherwise raise InputError."""
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder; name a file inside it.")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a regular file; save its content to a file first.")
        with path.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} does not exist; check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read; change its permissions.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened ({error}); check the path.") from error
    if status.st_size == 0 and not allow_empty:
        raise InputError(f"{path} is empty; copy or export it again.")
    return path


def first_bytes(path: Path, count: int = 32) -> bytes:
    """The first `count` bytes, for recognising formats that cannot be decoded."""
    with path.open("rb") as file:
        return file.read(count)
