"""The only loop of the project: push what drives, take frames, flush, close.

A Session owns the state of one animation and buffers to the chunk that its engine wants, so what comes out
does not depend on how it was pushed in. Files, cameras, web pages and benchmarks all go through here. It
knows no file format and no family. One thread at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vivant.bookmark import Bookmark
from vivant.engine import Engine, Portrait, State
from vivant.errors import InputError
from vivant.face.framing import Framing
from vivant.face.window import Similarity
from vivant.media.types import AudioChunk, Frame

Driving: TypeAlias = Frame | AudioChunk | np.ndarray | Tensor
"""A frame (Frame, uint8 (H, W, 3), float (3, H, W) or (T, 3, H, W) in [0, 1]) or mono samples in [-1, 1]."""

_STATE = "state."

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a session has done so far.

    On a GPU, seconds measure launching unless the caller waits for each frame.
    """

    frames_in: int = 0
    """Video frames pushed; for audio, whole frames that the samples last."""
    samples_in: int = 0
    frames_out: int = 0
    seconds: float = 0.0
    """Wall time inside the engine."""
    first_frame_seconds: float | None = None
    """Wall time inside the engine until the first frame came out."""

    @property
    def seconds_per_frame(self) -> float:
        """Mean wall time per frame out; nan before the first."""
        return self.seconds / self.frames_out if self.frames_out else float("nan")


@dataclass(frozen=True)
class _Waiting:
    """Driving that does not fill a chunk yet."""

    driving: Tensor
    """Frames (T, 3, H, W) or samples (S,)."""
    windows: Tensor
    """(T or S, 3): see Engine.seen_from."""
    openness: Tensor
    """(T or S, 3): see Engine.seen_with."""

    def __len__(self) -> int:
        return len(self.driving)

    def joined(self, later: _Waiting) -> _Waiting:
        if not len(self):
            return later
        if later.driving.shape[1:] != self.driving.shape[1:]:
            before, after = (f"{x.driving.shape[-1]}x{x.driving.shape[-2]}" for x in (self, later))
            raise InputError(f"driving changed size from {before} to {after} within a chunk")
        return _Waiting(
            torch.cat([self.driving, later.driving]),
            torch.cat([self.windows, later.windows]),
            torch.cat([self.openness, later.openness]),
        )

    def part(self, start: int, stop: int) -> _Waiting:
        """A copy, so that a rest does not keep the whole alive."""
        driving, windows, openness = (
            x[start:stop].clone() for x in (self.driving, self.windows, self.openness)
        )
        return _Waiting(driving, windows, openness)

    def filled(self, length: int) -> _Waiting:
        """Made whole at the end of the stream: video holds its last frame, sound falls silent."""
        missing = length - len(self)
        end = self.driving[-1:].expand(missing, *self.driving.shape[1:])
        if self.driving.dim() == 1:
            end = torch.zeros_like(end)
        windows, openness = (x[-1:].expand(missing, 3) for x in (self.windows, self.openness))
        return self.joined(_Waiting(end, windows, openness))


class Session:
    """One live animation: a portrait, its state, buffering and timing."""

    def __init__(
        self,
        engine: Engine,
        portrait: Portrait,
        options: Any = None,
        seed: int = 0,
        frame_rate_hz: float | None = None,
    ) -> None:
        """frame_rate_hz: of the frames that will be pushed, for smoothing; None where it is not known."""
        self.engine = engine
        self.timing = Timing()
        self._state: State | None = engine.start(portrait, options, seed)
        if frame_rate_hz is not None:
            self._state.frame_rate_hz = frame_rate_hz
        self._waiting: _Waiting | None = None
        self._phase = "open"
        self._seed = seed
        self._unproven: list[_Waiting] | None = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.engine.frame_size(self._open_state().portrait)

    @property
    def options(self) -> Any:
        """What the user may change between two frames; replaced whole."""
        return self._open_state().options

    @options.setter
    def options(self, options: Any) -> None:
        if not isinstance(options, self.engine.options_type):
            raise TypeError(f"options are {self.engine.options_type.__name__}, got {type(options).__name__}")
        self._open_state().options = options

    def push(
        self,
        item: Driving,
        *,
        window: Similarity | None = None,
        openness: tuple[float, float, float] | None = None,
        restart: bool = False,
    ) -> list[Tensor]:
        """Give driving, take the frames that are due: each (3, H, W) in [0, 1], none at first.

        Args:
            window: how the window that the frame was cut from lies in the first one; None where it never
                moves (see face.window).
            openness: how open image-left eye, image-right eye and lips are (see face.points); None: unknown.
            restart: the frame begins a new shot, so that motion becomes relative to it.
        """
        state = self._open_state()
        given = self._given(item, window, openness)
        self._count_in(given.driving)
        if restart:
            self.engine.restart(state)
        given = given if self._waiting is None else self._waiting.joined(given)
        chunk = self._chunk_length
        whole = len(given) - len(given) % chunk
        self._waiting = given.part(whole, len(given))
        frames: list[Tensor] = []
        for start in range(0, whole, chunk):
            frames += self._step(self._open_state(), given.part(start, start + chunk))
        return frames

    def see(
        self,
        item: Driving,
        *,
        window: Similarity | None = None,
        openness: tuple[float, float, float] | None = None,
    ) -> Any:
        """The Motion of one whole chunk, not drawn: what `push` would draw, and what `push_motion` takes."""
        given = self._given(item, window, openness)
        return self.engine.see(self._open_state(), given.driving, given.windows, given.openness)

    def appear(self, framing: Framing) -> None:
        """The person looks like this from the next frame on: the next frame of a source video.

        Raises InputError for a family that animates pictures only.
        """
        begin = perf_counter()
        self.engine.appear(self._open_state(), self.engine.prepare_framed([framing]))
        self.timing = replace(self.timing, seconds=self.timing.seconds + perf_counter() - begin)

    def refer(self, motion: Any, *, restart: bool = False) -> None:
        """Motion is relative to this Motion of one frame, until a new shot begins; `restart`: it begins now."""
        if restart:
            self.engine.restart(self._open_state())
        self.engine.refer(self._open_state(), motion.to(self.engine.device))

    def at_rest(self, motion: Any, neutral: Any | None = None) -> Any:
        """What to refer to where a Motion of one frame begins: see `Engine.at_rest`."""
        return self.engine.at_rest(self._open_state(), motion, neutral)

    def push_motion(self, motion: Any, *, restart: bool = False) -> list[Tensor]:
        """Give the family's Motion of T frames in the place of driving; take the frames that are due."""
        state = self._open_state()
        if restart:
            self.engine.restart(state)
        self.timing = replace(self.timing, frames_in=self.timing.frames_in + len(motion))
        return self._timed(lambda: self.engine.render(state, motion.to(self.engine.device)))

    def _given(
        self, item: Driving, window: Similarity | None, openness: tuple[float, float, float] | None
    ) -> _Waiting:
        driving = self._to_tensor(item).to(self.engine.device)
        place = [1.0, 0.0, 0.0] if window is None else [window.scale, *window.shift]
        opened = openness if openness is not None else (float("nan"),) * 3
        windows, measured = (
            torch.tensor([row], device=driving.device).expand(len(driving), 3) for row in (place, opened)
        )
        return _Waiting(driving, windows, measured)

    def flush(self) -> list[Tensor]:
        """The frames still owed, so that as many came out as went in. Then nothing more can be pushed."""
        state = self._open_state()
        frames: list[Tensor] = []
        if self._waiting is not None and len(self._waiting):
            frames += self._step(state, self._waiting.filled(self._chunk_length))
        if self.timing.frames_in:
            frames += self._timed(lambda: self.engine.flush(self._open_state()))
        self._phase = "flushed"
        surplus = self.timing.frames_out - self.timing.frames_in
        if surplus > 0:  # what the padding of the last chunk made
            frames = frames[: len(frames) - surplus]
            self.timing = replace(self.timing, frames_out=self.timing.frames_in)
        return frames

    def close(self) -> None:
        """Let go of the state and its memory. Safe to call twice."""
        self._phase = "closed"
        self._state = None
        self._waiting = None

    def bookmark(self) -> Bookmark:
        """The stream as it stands, to be continued by `restore`."""
        tensors, scalars = self._open_state().to_tensors()
        mark = Bookmark({_STATE + name: tensor for name, tensor in tensors.items()}, {"state": scalars})
        mark.keep("family", self.engine.family)
        mark.keep("dtype", str(self.engine.dtype))
        mark.keep("seed", self._seed)
        mark.keep("timing", self.timing)
        mark.keep("waiting", self._waiting)
        return mark

    def save_state(self, path: str | Path) -> None:
        """Write the stream as it stands to a safetensors file, to be continued by `restore`."""
        self.bookmark().save(path)

    @classmethod
    def restore(cls, saved: str | Path | Bookmark, engine: Engine, portrait: Portrait) -> Self:
        """The session of `bookmark` or `save_state`, with a portrait made from the same reference.

        Raises InputError where it is not a saved session of this family.
        """
        mark = saved if isinstance(saved, Bookmark) else Bookmark.load(saved)
        name = "this bookmark" if isinstance(saved, Bookmark) else saved
        device = str(engine.device)
        try:
            if mark.data["family"] != engine.family:
                raise InputError(
                    f"{name} is a session of {mark.data['family']}, the engine is {engine.family}"
                )
            if mark.data["dtype"] == str(torch.float32) and engine.dtype != torch.float32:
                # It began in the engine's precision, and the first frame was not a number.
                engine = engine.in_float32()
                portrait = engine.prepare_again(portrait)
            session = cls.__new__(cls)
            session.engine = engine
            session.timing = mark.part("timing", Timing)
            session._phase = "open"
            session._seed = mark.data["seed"]
            session._unproven = None if session.timing.frames_in else []
            waiting = mark.data["waiting"]
            session._waiting = waiting and mark.part("waiting", _Waiting, device)
            tensors = {tensor.removeprefix(_STATE): value for tensor, value in mark.tensors.items()}
            session._state = engine.state_type.from_tensors(tensors, mark.data["state"], portrait, device)
        except (KeyError, ValueError) as error:
            raise InputError(f"{name} is not a saved session of {engine.family}: {error}") from error
        return session

    @property
    def _chunk_length(self) -> int:
        """Frames, or samples, that one step of the engine takes."""
        stream = self.engine.stream
        return stream.chunk_frames * (stream.samples_per_frame if stream.driving == "audio" else 1)

    def _open_state(self) -> State:
        if self._phase != "open" or self._state is None:
            raise RuntimeError(
                f"this session is {self._phase}; only an open one can go on, start a new Session"
            )
        return self._state

    def _count_in(self, driving: Tensor) -> None:
        stream = self.engine.stream
        if stream.driving == "video":
            self.timing = replace(self.timing, frames_in=self.timing.frames_in + len(driving))
        else:
            samples = self.timing.samples_in + len(driving)
            self.timing = replace(
                self.timing, samples_in=samples, frames_in=samples // stream.samples_per_frame
            )

    def _step(self, state: State, chunk: _Waiting) -> list[Tensor]:
        """One step. The first frames of all are looked at: half precision overflows on some devices."""
        frames = self._stepped(state, chunk)
        if self._unproven is None:
            return frames
        self._unproven.append(chunk)
        if not frames:
            return frames
        chunks, self._unproven = self._unproven, None
        if all(bool(torch.isfinite(frame).all()) for frame in frames):
            return frames
        return self._in_float32(state, chunks, len(frames))

    def _in_float32(self, state: State, chunks: list[_Waiting], num_lost: int) -> list[Tensor]:
        """Begin again with the same driving and seed, in float32; never silent: the log says so."""
        if self.engine.dtype == torch.float32:
            raise InputError("the first frame is not a number, in float32 too; the weights must be damaged")
        log.warning("the first frame is not a number in %s; computing in float32", self.engine.dtype)
        self.engine = self.engine.in_float32()
        portrait = self.engine.prepare_again(state.portrait)
        again = self.engine.start(portrait, state.options, self._seed)
        again.frame_rate_hz = state.frame_rate_hz
        self._state = again
        self.timing = replace(self.timing, frames_out=self.timing.frames_out - num_lost)
        frames = [frame for chunk in chunks for frame in self._stepped(again, chunk)]
        if not all(bool(torch.isfinite(frame).all()) for frame in frames):
            raise InputError("the first frame is not a number, in float32 too; the weights must be damaged")
        return frames

    def _stepped(self, state: State, chunk: _Waiting) -> list[Tensor]:
        if self.engine.stream.driving != "video":
            return self._timed(lambda: self.engine.step(state, chunk.driving))
        return self._timed(lambda: self.engine.step(state, chunk.driving, chunk.windows, chunk.openness))

    def _timed(self, work: Callable[[], Tensor]) -> list[Tensor]:
        begin = perf_counter()
        frames = list(work())
        seconds = self.timing.seconds + perf_counter() - begin
        first = self.timing.first_frame_seconds
        self.timing = replace(
            self.timing,
            frames_out=self.timing.frames_out + len(frames),
            seconds=seconds,
            first_frame_seconds=seconds if first is None and frames else first,
        )
        return frames

    def _to_tensor(self, item: Driving) -> Tensor:
        """Frames (T, 3, H, W) in [0, 1], or samples (S,)."""
        stream = self.engine.stream
        if stream.driving == "audio":
            return _samples(item, stream.sample_rate_hz)
        if isinstance(item, AudioChunk):
            raise InputError(f"{self.engine.family} is driven by video, got sound")
        pixels = item.image if isinstance(item, Frame) else item
        if isinstance(pixels, np.ndarray):
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                raise InputError(
                    f"a driving array is uint8 (height, width, 3), got {pixels.dtype} {pixels.shape}"
                )
            return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        if not pixels.is_floating_point() or pixels.dim() not in (3, 4) or pixels.shape[-3] != 3:
            raise InputError(
                f"a driving tensor is float (3, H, W) or (T, 3, H, W), got {tuple(pixels.shape)}"
            )
        return pixels.reshape(-1, *pixels.shape[-3:]).float()


def _samples(item: Driving, sample_rate_hz: int | None) -> Tensor:
    if isinstance(item, AudioChunk):
        if item.sample_rate_hz != sample_rate_hz:
            raise InputError(
                f"sound at {item.sample_rate_hz} Hz, the engine wants {sample_rate_hz}; resample it"
            )
        return torch.from_numpy(item.samples)
    samples = torch.from_numpy(item) if isinstance(item, np.ndarray) else item
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or samples.dim() != 1:
        raise InputError(f"driving sound is float mono samples (S,), got {type(item).__name__}")
    return samples.float()
