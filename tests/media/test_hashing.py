"""Fingerprints are the usual SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vivant.errors import InputError
from vivant.media.hashing import file_sha256


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_same_as_hashlib(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        file_sha256(tmp_path / "a")
