"""A clip as reenactment protocols use it: its first frames, its sound, and what they are compared with.

Nothing of a clip is kept but the frames that the engine still owes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

from vivant.animation import animate
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.media.audio import read_audio
from vivant.media.inputs import check_input_file
from vivant.media.probe import MediaKind, probe_kind
from vivant.media.reader import read_clip
from vivant.media.resample import resample, tidy_rate
from vivant.media.types import AudioChunk, Frame


@dataclass(frozen=True)
class DrivingClip:
    """A file, and how much of it is used."""

    path: Path
    rate: Fraction
    """Of the frames, which are evenly spaced."""
    num_frames: int
    """Expected; at most what is used."""
    max_frames: int | None
    has_sound: bool

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 RGB (H, W, 3), one after another."""
        with read_clip(self.path) as clip:
            for frame in islice(resample(clip, self.rate, end=clip.shown_until), self.max_frames):
                yield frame.image

    def first(self) -> np.ndarray:
        """The frame that everything is relative to."""
        return next(self.frames())

    def sound(self, sample_rate_hz: int, most_seconds: int) -> np.ndarray:
        """float32 (S,) of the frames that are used, from the first; of no more than so many seconds."""
        seconds = Fraction(most_seconds)
        if self.num_frames:
            seconds = min(seconds, self.num_frames / self.rate)
        chunks = islice(read_audio(self.path, sample_rate_hz, 1), math.ceil(seconds))
        samples = np.concatenate([chunk.samples for chunk in chunks])
        return samples[: int(seconds * sample_rate_hz)]


def open_driving(path: Path, engine: Engine, max_frames: int | None) -> DrivingClip:
    """The clip, at its own rate or the one that the engine speaks at. Raises InputError where it cannot drive."""
    with read_clip(path) as clip:
        stream = engine.stream
        if stream.driving == "audio" and not clip.has_audio:
            raise InputError(f"{path} has no sound, which {engine.family} is driven by; choose another clip")
        rate = (
            Fraction(stream.frame_rate_hz or 0) if stream.driving == "audio" else tidy_rate(clip.frame_rate)
        )
        duration = clip.duration
        expected = clip.num_frames_estimate if duration is None else int(duration * rate)
        expected = expected or 0
        return DrivingClip(
            path,
            rate,
            expected if max_frames is None else min(expected, max_frames),
            max_frames,
            clip.has_audio,
        )


def driven(
    engine: Engine, portrait: Portrait, clip: DrivingClip, *, options: Any, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each finished picture, pasted back, with the clip's frame of the same moment."""
    waiting: deque[np.ndarray] = deque()
    if engine.hears:
        items: Iterable[Frame | AudioChunk] = _chunks(engine, clip)
        frames = clip.frames()
    else:
        items, frames = _watched(clip, waiting), None
    animation = animate(
        engine, portrait, items, options=options, seed=seed, frame_rate=clip.rate, driving_face="largest"
    )
    with animation:
        for picture in animation:
            frame = waiting.popleft() if frames is None else next(frames, None)
            if frame is None:
                return  # sound that outlasts its picture
            yield picture, frame


def _watched(clip: DrivingClip, waiting: deque[np.ndarray]) -> Iterator[Frame]:
    for index, image in enumerate(clip.frames()):
        waiting.append(image)
        yield Frame(image, index / clip.rate)


def _chunks(engine: Engine, clip: DrivingClip) -> Iterator[AudioChunk]:
    rate = engine.stream.sample_rate_hz
    assert rate is not None
    return islice(read_audio(clip.path, rate, 1 / clip.rate), clip.max_frames)


def found_files(paths: Iterable[Path], kind: MediaKind, what: str, *, same_names: bool = False) -> list[Path]:
    """Files, and in folders those whose content is of that kind, by name.

    Raises InputError where there is none, where two have one name unless `same_names` (see names_of), and where a
    file is missing or cannot be opened.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(check_input_file(path))
            continue
        inside = [file for file in sorted(path.iterdir()) if file.is_file() and _is(file, kind)]
        if not inside:
            raise InputError(f"{path} holds no {what}; name a folder with {what}s, or files")
        found += inside
    names = [path.stem for path in found]
    if not same_names and (twice := sorted({name for name in names if names.count(name) > 1})):
        raise InputError(f"more than one {what} is called {twice[0]}; reports name them so, rename one")
    return found


def names_of(paths: Sequence[Path]) -> list[str]:
    """File names without their endings; where several are the same, all but the first get a number."""
    stems = [path.stem for path in paths]
    names: list[str] = []
    for stem in stems:
        tries = chain([stem], (f"{stem}-{number}" for number in count(2)))
        # Whoever is really called a-2 keeps the name.
        names.append(
            next(name for name in tries if name not in names and (name == stem or name not in stems))
        )
    return names


def _is(file: Path, kind: MediaKind) -> bool:
    try:
        return probe_kind(file) == kind
    except InputError:
        return False
