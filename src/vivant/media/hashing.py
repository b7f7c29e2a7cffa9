"""Fingerprints of files, for manifests and downloads."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vivant.media.inputs import check_input_file


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content as 64 lower-case hex digits, read in pieces.

    Raises InputError when the file is missing or cannot be read.
    """
    path = check_input_file(path, allow_empty=True)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
