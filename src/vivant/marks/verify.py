"""What the marks of a file say: credentials inside it, and the watermark in its pixels. Neither proves a negative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vivant.marks.credentials import Credentials, read
from vivant.marks.watermark import Found, find
from vivant.media.image import is_image_file, read_image
from vivant.media.reader import read_clip

NUM_FRAMES, EVERY = 12, 4
"""Frames of a clip that are looked at, and how far they are apart."""


@dataclass(frozen=True)
class Verdict:
    """Both marks of one file."""

    credentials: Credentials
    watermark: Found

    @property
    def agrees(self) -> bool | None:
        """Whether the statement names the payload that is in the pixels; None where one of them is missing."""
        statement, payload = self.credentials.statement, self.watermark.payload
        if statement is None or payload is None or statement.get("watermark") is None:
            return None
        return str(statement["watermark"]) == f"{payload:08x}"


def verify(path: Path) -> Verdict:
    """Look at both marks. Raises InputError where the file is neither a picture nor a clip."""
    return Verdict(read(path), find(_frames(path)))


def _frames(path: Path) -> Iterator[np.ndarray]:
    if path.is_file() and is_image_file(path):
        yield read_image(path)
        return
    with read_clip(path) as clip:
        for frame in islice(clip, 0, NUM_FRAMES * EVERY, EVERY):
            yield frame.image
