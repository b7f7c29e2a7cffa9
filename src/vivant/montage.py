"""Saved motion cut and put together: slices, mixes, joins and loops of motion files, as motion files.

Motion is replayed relative to a reference: the file's own, or the first frame of each shot. Whatever is made here says
the same relative to one reference, written as the file's first row, so that relative replay shows what the originals
showed. Files are read by pieces and written row by row; memory does not grow with their length. Knows no family:
rotations and keypoints are blended by the family's Motion (see Blendable).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from vivant.engine import MotionPart
from vivant.engines import engine_class
from vivant.errors import InputError
from vivant.motion_file import Mark, MotionFile, MotionWriter

PARTS: tuple[MotionPart, ...] = ("pose", "expression", "lips", "eyes")
"""In the order in which a mix takes them: lips and eyes win over expression."""

SEARCH_SECONDS = 4.0
"""At both ends, where a loop may be cut."""
MAX_FADE_SECONDS = 10.0
_FRAMES_AT_ONCE = 256


@runtime_checkable
class Blendable(Protocol):
    """A family's Motion of one frame, as far as montage needs it; see engines/liveportrait/motion.py."""

    def toward(self, other: Any, share: float) -> Self:
        """Between this motion (0) and another (1)."""

    def rebased(self, old: Any, new: Any) -> Self:
        """The same change from another reference."""

    def taking(self, part: MotionPart, other: Any, kind: str) -> Self:
        """This motion with one part of another's."""

    def likeness(self) -> Tensor:
        """(1, N): numbers whose distance says how unlike two frames look."""


@dataclass(frozen=True)
class Taken:
    """What a mix takes from a file."""

    part: MotionPart
    path: Path
    weight: float = 1.0
    """0: nothing of it, 1: all of it."""


@dataclass(frozen=True)
class Loop:
    """The frames of a file that were chosen for a loop, and what its seam looks like."""

    start: int
    stop: int
    """One beyond the last."""
    num_frames: int
    """Written: of one round, or of all."""
    seam: float
    """The step from the last frame to the first, over the largest step in between."""


class _Track:
    """A motion file as one continuous motion: every frame relative to one reference. Missing frames are None."""

    def __init__(self, path: str | Path) -> None:
        self.file = MotionFile(path)
        header = self.file.header
        self.motion_type: Any = engine_class(header.family).motion_type
        if self.motion_type is None or not issubclass(self.motion_type, Blendable):
            raise InputError(f"{path} holds the motion of {header.family}, which cannot be cut or mixed.")
        self.rate, self.kind = header.frame_rate, header.keypoints
        first = self.file.reference(self.motion_type) or next(
            (entry.motion for entry in self.file.entries(self.motion_type) if entry.motion is not None), None
        )
        if first is None:
            raise InputError(f"{path} shows no face in any frame; choose another motion.")
        self._shots: list[tuple[int, Any]] = [(0, first)]
        for index in self.file.restarts():
            entry = next(self.file.entries(self.motion_type, index, index + 1))
            self._shots.append((index, entry.motion))
        self.fields = frozenset(header.fields)

    def __len__(self) -> int:
        return len(self.file)

    @property
    def reference(self) -> Any:
        """What all frames are relative to."""
        return self._kept(self._shots[0][1])

    def reference_at(self, index: int) -> Any:
        """What the frame is relative to in the file."""
        return next(motion for start, motion in reversed(self._shots) if start <= index)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Any | None]:
        """Frames start to stop, relative to the track's reference."""
        first = self._shots[0][1]
        for index, entry in enumerate(self.file.entries(self.motion_type, start, stop), start):
            reference, motion = self.reference_at(index), entry.motion
            if motion is None:
                yield None
            else:
                yield self._kept(motion if reference is first else motion.rebased(reference, first))

    def _kept(self, motion: Any) -> Any:
        if self.fields == self.file.header.fields.keys():
            return motion
        tensors = {name: tensor for name, tensor in motion.to_tensors().items() if name in self.fields}
        return self.motion_type.from_tensors(tensors)

    def backwards(self, start: int, stop: int) -> Iterator[Any | None]:
        """Frames stop - 1 down to start."""
        for last in range(stop, start, -_FRAMES_AT_ONCE):
            yield from reversed(list(self.frames(max(start, last - _FRAMES_AT_ONCE), last)))

    def at_rate(self, rate: Fraction) -> Iterator[Any | None]:
        """The frames at times 0, 1 / rate ..., between the two nearest of the file; as long as the file."""
        if rate == self.rate:
            yield from self.frames()
            return
        frames = self.frames()
        index, before, after = 0, next(frames), next(frames, None)
        for number in range(self.length_at(rate)):
            place = number / rate * self.rate
            while index < place.numerator // place.denominator and index < len(self) - 1:
                index, before, after = index + 1, after, next(frames, None)
            share = float(place - index)
            if before is None or after is None or index == len(self) - 1:
                yield before if share < 0.5 or index == len(self) - 1 else after
            else:
                yield before.toward(after, share) if share else before

    def length_at(self, rate: Fraction) -> int:
        return max(1, round(len(self) / self.rate * rate))

    def agree(self, others: Sequence[_Track]) -> None:
        """What one of them did not measure is left out of all. Raises InputError where one is of another kind."""
        for other in others:
            other.file.check(self.file.header.family, self.kind)
        common = self.fields.intersection(*(other.fields for other in others))
        for track in (self, *others):
            track.fields = common

    def writer(self, out: Path, rate: Fraction, source: str, overwrite: bool) -> MotionWriter:
        if out.suffix.lower() != ".safetensors":
            raise InputError(f"{out} should end in .safetensors, so that it is known for what it is.")
        return MotionWriter(out, self.file.header.family, self.kind, rate, source, overwrite=overwrite)


def slice_motion(
    path: str | Path, out: Path, start: int = 0, stop: int | None = None, *, overwrite: bool = False
) -> int:
    """Frames start to stop (all that follow, if None), row by row as they are; returns how many.

    The frames mean what they meant: the reference of the whole goes along. Raises InputError.
    """
    track = _Track(path)
    stop = len(track) if stop is None else stop
    if not 0 <= start < stop <= len(track):
        raise InputError(f"{path} has frames 0 to {len(track) - 1}; {start} to {stop - 1} is no part of it.")
    with track.writer(out, track.rate, track.file.header.source, overwrite) as writer:
        writer.refer(track.reference_at(start))
        for entry in track.file.entries(track.motion_type, start, stop):
            writer.write(entry.motion, restarts=entry.mark is Mark.RESTARTS)
    return stop - start


def mix_motion(
    base: str | Path,
    taken: Sequence[Taken],
    out: Path,
    *,
    frame_rate: Fraction | None = None,
    repeat: bool = False,
    overwrite: bool = False,
) -> int:
    """The base's motion with parts of other files; returns the number of frames. Raises InputError.

    Each file counts from its own reference: the pose of one is how far it turned, not where it looked. A frame is
    missing where a file that it needs misses it.

    Args:
        frame_rate: of the result, frames per second; None: the base's. Others are resampled by their times.
        repeat: shorter files begin again (make them loops first); otherwise the shortest ends the mix.
    """
    if not taken:
        raise InputError("a mix takes at least one part: --pose, --expression, --lips or --eyes FILE.")
    for one in taken:
        if not 0 <= one.weight <= 1:
            raise InputError(f"the weight of {one.part} is between 0 and 1, got {one.weight}.")
    track = _Track(base)
    others = [(one, _Track(one.path)) for one in sorted(taken, key=lambda one: PARTS.index(one.part))]
    track.agree([other for _, other in others])
    rate = frame_rate or track.rate
    lengths = [each.length_at(rate) for each in (track, *(other for _, other in others))]
    count = max(lengths) if repeat else min(lengths)
    streams = [_endless(each, rate) for each in (track, *(other for _, other in others))]
    source = "+".join([track.file.header.source, *(other.file.header.source for _, other in others)])
    with track.writer(out, rate, source[:200], overwrite) as writer:
        writer.refer(track.reference)
        for _, (motion, *more) in zip(range(count), zip(*streams, strict=True), strict=False):
            for (one, other), theirs in zip(others, more, strict=True):
                if motion is None or theirs is None:
                    motion = None
                    break
                moved = theirs.rebased(other.reference, track.reference)
                motion = motion.taking(one.part, motion.toward(moved, one.weight), track.kind)
            writer.write(motion)
    return count


def join_motion(
    paths: Sequence[str | Path],
    out: Path,
    *,
    fade_seconds: float = 0.3,
    frame_rate: Fraction | None = None,
    overwrite: bool = False,
) -> int:
    """One motion after another, faded into each other; returns the number of frames. Raises InputError.

    Each counts from its own reference, so that two neutral faces meet. The fade takes its time from both.
    """
    if len(paths) < 2:
        raise InputError("joining takes two motion files or more.")
    tracks = [_Track(path) for path in paths]
    first = tracks[0]
    rate = frame_rate or first.rate
    fade = _fade_frames(fade_seconds, rate)
    first.agree(tracks[1:])
    for index, track in enumerate(tracks):
        needed = fade * (2 if 0 < index < len(tracks) - 1 else 1)
        if track.length_at(rate) <= needed:
            raise InputError(
                f"{track.file.path} is too short to fade; take fewer than {fade_seconds} seconds."
            )
    waiting: deque[Any | None] = deque()
    count = 0
    source = "+".join(track.file.header.source for track in tracks)
    with first.writer(out, rate, source[:200], overwrite) as writer:
        writer.refer(first.reference)
        for track in tracks:
            ending, waiting = waiting, deque()
            for index, motion in enumerate(track.at_rate(rate)):
                if motion is not None:
                    motion = motion.rebased(track.reference, first.reference)
                if index < len(ending):
                    motion = _faded(ending[index], motion, (index + 1) / (len(ending) + 1))
                waiting.append(motion)
                if len(waiting) > fade:
                    writer.write(waiting.popleft())
                    count += 1
        for motion in waiting:
            writer.write(motion)
    return count + len(waiting)


def loop_motion(
    path: str | Path,
    out: Path,
    *,
    fade_seconds: float = 0.4,
    ping_pong: bool = False,
    times: int = 1,
    overwrite: bool = False,
) -> Loop:
    """A motion whose end leads into its beginning. Raises InputError.

    Cut where pose and expression, over the whole fade, are most alike, within SEARCH_SECONDS and a third of both ends;
    the last frames fade into those before the first. Ping-pong instead runs forwards and backwards between the calmest
    frames. `times` rounds are written.
    """
    if not 1 <= times <= 1000:
        raise InputError(f"--times is between 1 and 1000, got {times}.")
    track = _Track(path)
    fade = 1 if ping_pong else max(1, _fade_frames(fade_seconds, track.rate))
    search = min(round(SEARCH_SECONDS * track.rate), len(track) // 3)
    if search <= fade:
        raise InputError(f"{path} is too short for a loop with a fade of {fade_seconds} seconds.")
    start, stop = _best_cut(track, fade, search, ping_pong=ping_pong)
    steps = _Steps()
    with track.writer(out, track.rate, track.file.header.source, overwrite) as writer:
        writer.refer(track.reference)
        for _ in range(times):
            for motion in _round(track, start, stop, fade, ping_pong=ping_pong):
                writer.write(motion)
                steps.add(motion)
    return Loop(start, stop, steps.count, steps.seam)


def _round(track: _Track, start: int, stop: int, fade: int, *, ping_pong: bool) -> Iterator[Any | None]:
    if ping_pong:
        yield from track.frames(start, stop)
        yield from track.backwards(start + 1, stop - 1)
        return
    yield from track.frames(start, stop - fade)
    before = track.frames(start - fade, start)
    for index, (motion, next_round) in enumerate(
        zip(track.frames(stop - fade, stop), before, strict=True), 1
    ):
        yield _faded(motion, next_round, index / (fade + 1))


def _best_cut(track: _Track, fade: int, search: int, *, ping_pong: bool) -> tuple[int, int]:
    """First frame of the loop and the one beyond its last."""
    head = _likeness(track, 0, search)
    tail = _likeness(track, len(track) - search, len(track))
    if ping_pong:
        # Turning back is seen least where nothing moves.
        first, last = (int(_speed(rows).argmin()) for rows in (head, tail))
        return first, len(track) - search + last + 1
    # cost[i, j]: the `fade` frames before start i against those before stop j.
    costs = torch.cdist(head, tail).square()
    costs = torch.where(costs.isnan(), torch.inf, costs)
    windows = torch.stack(
        [costs[k : search - fade + k + 1, k : search - fade + k + 1] for k in range(fade)]
    ).sum(0)
    best = int(windows.argmin())
    i, j = divmod(best, windows.shape[1])
    if not torch.isfinite(windows[i, j]):
        raise InputError(f"{track.file.path} misses the face where a loop could be cut; slice it first.")
    return i + fade, len(track) - search + j + fade


def _likeness(track: _Track, start: int, stop: int) -> Tensor:
    """(stop - start, N), not a number where the face is missing."""
    rows = [None if motion is None else motion.likeness()[0] for motion in track.frames(start, stop)]
    width = len(track.reference.likeness()[0])
    return torch.stack([torch.full((width,), torch.nan) if row is None else row for row in rows])


def _speed(rows: Tensor) -> Tensor:
    """(T,): how much moves around each frame; infinite where the face is missing."""
    steps = rows.diff(dim=0).norm(dim=1)
    around = torch.cat([steps[:1], steps]) + torch.cat([steps, steps[-1:]])
    return torch.where(around.isnan(), torch.inf, around)


class _Steps:
    """Distances from frame to frame, as they are written."""

    def __init__(self) -> None:
        self.count, self.largest = 0, 0.0
        self._first: Tensor | None = None
        self._last: Tensor | None = None

    def add(self, motion: Any | None) -> None:
        self.count += 1
        row = None if motion is None else motion.likeness()
        if row is not None and self._last is not None:
            self.largest = max(self.largest, float((row - self._last).norm()))
        self._last = row
        self._first = row if self._first is None else self._first

    @property
    def seam(self) -> float:
        if self._first is None or self._last is None or not self.largest:
            return 0.0
        return float((self._last - self._first).norm()) / self.largest


def _endless(track: _Track, rate: Fraction) -> Iterator[Any | None]:
    while True:
        yield from track.at_rate(rate)


def _faded(ending: Any | None, beginning: Any | None, share: float) -> Any | None:
    """Between two motions; the one that is there, where the other is missing."""
    if ending is None or beginning is None:
        return beginning if ending is None else ending
    return ending.toward(beginning, share * share * (3 - 2 * share))


def _fade_frames(seconds: float, rate: Fraction) -> int:
    if not 0 <= seconds <= MAX_FADE_SECONDS:
        raise InputError(f"--fade is between 0 and {MAX_FADE_SECONDS:.0f} seconds, got {seconds}.")
    return round(seconds * rate)
