"""What finished frames are written to: the output, the comparison beside it, and how far they came.

All of it grows in one `Parts` and is joined there at the end. Used from one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from vivant.bookmark import Bookmark
from vivant.media.h264 import DEFAULT_CRF
from vivant.media.overlap import prefetch
from vivant.media.parts import Move, Parts
from vivant.media.resample import resample
from vivant.media.segments import SegmentedOutput, SegmentedPicture, SegmentedPictures, SegmentedVideo
from vivant.media.types import Clip, Frame
from vivant.media.writer import output_kind
from vivant.settings import Recording


@dataclass(frozen=True)
class Drawn:
    """A finished frame."""

    picture: np.ndarray
    """uint8 RGB (H, W, 3)."""
    mark: Bookmark | None = None
    """With the last frame of a segment: where the work stands after it."""


@dataclass(frozen=True)
class Progressed:
    """How far the outputs came; kept in the bookmark under "recording"."""

    num_frames: int = 0
    num_segments: int = 0
    seconds: float = 0.0
    """Wall time, of all runs together."""
    num_resumed: int = 0


@dataclass(frozen=True)
class Shape:
    """Of the frames to come."""

    width: int
    height: int
    frame_rate: Fraction


class Outputs:
    """Writes each frame everywhere; `moves` says what came of it once it is closed."""

    def __init__(
        self,
        recording: Recording,
        parts: Parts,
        shape: Shape,
        beside: Sequence[Clip],
        sound: Path | None,
        before: Progressed,
    ) -> None:
        """beside: what is compared with, if that is wanted. Raises InputError."""
        self._parts = parts
        self._cleanup = ExitStack()
        self._written: list[SegmentedOutput] = []
        self._row: _Row | None = None
        crf = DEFAULT_CRF if recording.crf is None else recording.crf
        with ExitStack() as stack:
            if beside:
                self._row = _Row(beside, shape, before.num_frames, stack)
                self._written.append(
                    SegmentedVideo(
                        recording.comparison,
                        parts,
                        "compare",
                        shape.frame_rate,
                        self._row.width,
                        shape.height,
                        crf=crf,
                        audio_from=sound,
                        num_segments=before.num_segments,
                    )
                )
            self.main = _main_output(recording, parts, shape, sound, before, crf)
            self._written.append(self.main)
            self._cleanup = stack.pop_all()
        self.moves: list[Move] = []

    def write(self, drawn: Drawn) -> None:
        """The next frame; with a mark, everything so far is put on the disk, and then the mark."""
        self.main.write(drawn.picture)
        if self._row is not None:
            self._written[0].write(self._row.beside(drawn.picture))
        if drawn.mark is not None:
            for output in self._written:
                output.cut()
            self._parts.put_mark(drawn.mark.save)

    def close(self) -> None:
        """Join what was written."""
        with self._cleanup:
            self.moves = [output.join() for output in self._written]

    def abort(self) -> None:
        """Drop what is not marked."""
        with self._cleanup:
            for output in self._written:
                output.abort()


def _main_output(
    recording: Recording, parts: Parts, shape: Shape, sound: Path | None, before: Progressed, crf: int
) -> SegmentedOutput:
    kind = output_kind(recording.target)
    if kind == "picture":
        size = shape.width, shape.height
        return SegmentedPicture(recording.target, parts, *size, num_frames=before.num_frames)
    if kind == "pictures":
        return SegmentedPictures(
            recording.target,
            parts,
            shape.width,
            shape.height,
            num_frames=before.num_frames,
            overwrite=recording.overwrite,
        )
    return SegmentedVideo(
        recording.target,
        parts,
        "output",
        shape.frame_rate,
        shape.width,
        shape.height,
        crf=crf,
        audio_from=sound,
        num_segments=before.num_segments,
    )


class _Row:
    """Clips and result side by side, all of the result's height."""

    def __init__(self, clips: Sequence[Clip], shape: Shape, start: int, stack: ExitStack) -> None:
        self._columns = [_Column(clip, shape, start, stack) for clip in clips]
        self.width = sum(column.width for column in self._columns) + shape.width

    def beside(self, picture: np.ndarray) -> np.ndarray:
        """The row of the next frame."""
        return np.concatenate([*(column.next() for column in self._columns), picture], axis=1)


class _Column:
    """A clip beside the result, at its rate and height; the last frame stays."""

    def __init__(self, clip: Clip, shape: Shape, start: int, stack: ExitStack) -> None:
        self.width = max(1, round(clip.width * shape.height / clip.height))
        self._size = (self.width, shape.height)
        self._frames = stack.enter_context(closing(_read_ahead(clip, shape.frame_rate)))
        self._last = np.zeros((shape.height, self.width, 3), np.uint8)
        passed = deque(islice(self._frames, start), maxlen=1)
        if passed:
            self._last = self._fitted(passed[0])

    def next(self) -> np.ndarray:
        frame = next(self._frames, None)
        if frame is not None:
            self._last = self._fitted(frame)
        return self._last

    def _fitted(self, frame: Frame) -> np.ndarray:
        return np.asarray(Image.fromarray(frame.image).resize(self._size, Image.Resampling.BILINEAR))


def _read_ahead(clip: Clip, rate: Fraction) -> Generator[Frame, None, None]:
    yield from prefetch(resample(clip, rate, end=clip.shown_until))
