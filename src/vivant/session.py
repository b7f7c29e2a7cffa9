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

import torch
from torch import Tensor

from vivant import records
from vivant.bookmark import Bookmark
from vivant.driving import Driving, Waiting, to_tensor
from vivant.engine import Engine, Portrait, State
from vivant.errors import InputError
from vivant.face.framing import Framing
from vivant.face.window import Similarity

_STATE = "state."

_Deed: TypeAlias = Callable[[], list[Tensor]]
"""Something done to the state, as it can be done again to another one; the frames that came of it."""

_DAMAGED = "the first frame is not a number, in float32 too; the weights must be damaged"

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
        self._waiting: Waiting | None = None
        self._phase = "open"
        self._seed = seed
        self._unproven: list[_Deed] | None = []

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

    @property
    def can_see_ahead(self) -> bool:
        """Whether `see` has nothing to do with what drawing changes: a frame may be seen while another is drawn.

        Not before a first frame has come out and was a number, nor where a Motion says what several frames do.
        """
        is_alone = self.engine.motion_type is not None and self.engine.stream.chunk_frames == 1
        return is_alone and self._unproven is None

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
        self._open_state()
        given = self._given(item, window, openness)
        self._count_in(given.driving)
        if restart:
            self._restart()
        given = given if self._waiting is None else self._waiting.joined(given)
        chunk = self._chunk_length
        whole = len(given) - len(given) % chunk
        self._waiting = given.part(whole, len(given))
        frames: list[Tensor] = []
        for start in range(0, whole, chunk):
            frames += self._step(given.part(start, start + chunk))
        return frames

    def see(
        self,
        item: Driving,
        *,
        window: Similarity | None = None,
        openness: tuple[float, float, float] | None = None,
        restart: bool = False,
    ) -> Any:
        """The Motion of one whole chunk, not drawn: what `push` would draw, and what `push_motion` takes.

        restart: the chunk begins a new shot; what is then drawn of it by this session needs no other restart.
        """
        if restart:
            self._restart()
        given = self._given(item, window, openness)

        def seen() -> Any:
            return self.engine.see(self._open_state(), given.driving, given.windows, given.openness)

        motion = seen()
        if self._unproven is not None and not _is_finite(motion):
            self._in_float32()
            motion = seen()
            if not _is_finite(motion):
                raise InputError(_DAMAGED)
        return motion

    def appear(self, framing: Framing) -> None:
        """The person looks like this from the next frame on: the next frame of a source video.

        Raises InputError for a family that animates pictures only.
        """
        begin = perf_counter()
        self._do(lambda: self.engine.appear(self._open_state(), self.engine.prepare_framed([framing])))
        self.timing = replace(self.timing, seconds=self.timing.seconds + perf_counter() - begin)

    def refer(self, motion: Any, *, restart: bool = False) -> None:
        """Motion is relative to this Motion of one frame, until a new shot begins; `restart`: it begins now."""
        if restart:
            self._restart()
        self._do(lambda: self.engine.refer(self._open_state(), motion.to(self.engine.device)))

    def at_rest(self, motion: Any, neutral: Any | None = None) -> Any:
        """What to refer to where a Motion of one frame begins: see `Engine.at_rest`."""
        return self.engine.at_rest(self._open_state(), motion, neutral)

    def push_motion(self, motion: Any, *, restart: bool = False) -> list[Tensor]:
        """Give the family's Motion of T frames in the place of driving; take the frames that are due."""
        self._open_state()
        if restart:
            self._restart()
        self.timing = replace(self.timing, frames_in=self.timing.frames_in + len(motion))
        return self._proven(
            lambda: self._timed(lambda: self.engine.render(self._open_state(), motion.to(self.engine.device)))
        )

    def begin_motion(self, motion: Any, *, restart: bool = False) -> Callable[[], Tensor]:
        """`push_motion` for a Motion of one frame, where the engine draws apart and `can_see_ahead`: the returned call
        draws the frame (3, H, W), at any time and in any thread. The time that takes is not counted."""
        assert self._unproven is None, "the first frames are looked at as they are drawn"
        state = self._open_state()
        if restart:
            self._restart()
        drawing = self.engine.begin_render(state, motion.to(self.engine.device))
        timing = self.timing
        self.timing = replace(timing, frames_in=timing.frames_in + 1, frames_out=timing.frames_out + 1)
        return lambda: drawing()[0]

    def _given(
        self, item: Driving, window: Similarity | None, openness: tuple[float, float, float] | None
    ) -> Waiting:
        driving = to_tensor(item, self.engine.stream, self.engine.family, self.engine.device)
        place = [1.0, 0.0, 0.0] if window is None else [window.scale, *window.shift]
        opened = openness if openness is not None else (float("nan"),) * 3
        windows, measured = (
            torch.tensor([row], device=driving.device).expand(len(driving), 3) for row in (place, opened)
        )
        return Waiting(driving, windows, measured)

    def flush(self) -> list[Tensor]:
        """The frames still owed, so that as many came out as went in. Then nothing more can be pushed."""
        self._open_state()
        frames: list[Tensor] = []
        if self._waiting is not None and len(self._waiting):
            frames += self._step(self._waiting.filled(self._chunk_length))
        if self.timing.frames_in:
            frames += self._proven(lambda: self._timed(lambda: self.engine.flush(self._open_state())))
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
        """The stream as it stands, flushed or not, to be continued by `restore`."""
        state = self._state if self._phase == "flushed" else self._open_state()
        assert state is not None
        tensors, scalars = state.to_tensors()
        mark = Bookmark({_STATE + name: tensor for name, tensor in tensors.items()}, {"state": scalars})
        mark.keep("family", self.engine.family)
        mark.keep("dtype", str(self.engine.dtype))
        mark.keep("seed", self._seed)
        mark.keep("phase", self._phase)
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
            session._phase = mark.data["phase"]
            session._seed = mark.data["seed"]
            session._unproven = None if session.timing.frames_in else []
            waiting = mark.data["waiting"]
            session._waiting = waiting and mark.part("waiting", Waiting, device)
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

    def _step(self, chunk: Waiting) -> list[Tensor]:
        def step() -> Tensor:
            state = self._open_state()
            if self.engine.stream.driving != "video":
                return self.engine.step(state, chunk.driving)
            return self.engine.step(state, chunk.driving, chunk.windows, chunk.openness)

        return self._proven(lambda: self._timed(step))

    def _restart(self) -> None:
        self._do(lambda: self.engine.restart(self._open_state()))

    def _do(self, work: Callable[[], None]) -> None:
        """What changes the state and draws nothing."""

        def deed() -> list[Tensor]:
            work()
            return []

        self._proven(deed)

    def _proven(self, deed: _Deed) -> list[Tensor]:
        """Do it. The first frames of all are looked at: half precision overflows on some devices."""
        frames = deed()
        if self._unproven is None:
            return frames
        self._unproven.append(deed)
        if not frames:
            return frames
        if not all(bool(torch.isfinite(frame).all()) for frame in frames):
            self.timing = replace(self.timing, frames_out=self.timing.frames_out - len(frames))
            frames = self._in_float32()
            if not all(bool(torch.isfinite(frame).all()) for frame in frames):
                raise InputError(_DAMAGED)
        self._unproven = None
        return frames

    def _in_float32(self) -> list[Tensor]:
        """Do everything again with the same seed, in float32; never silent: the log says so. The frames due by now."""
        state = self._open_state()
        if self.engine.dtype == torch.float32:
            raise InputError(_DAMAGED)
        log.warning("the first frame is not a number in %s; computing in float32", self.engine.dtype)
        self.engine = self.engine.in_float32()
        portrait = self.engine.prepare_again(state.portrait)
        self._state = self.engine.start(portrait, state.options, self._seed)
        self._state.frame_rate_hz = state.frame_rate_hz
        return [frame for deed in self._unproven or [] for frame in deed()]

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


def _is_finite(motion: Any) -> bool:
    """Whether every number of a Motion is one."""
    tensors: dict[str, Tensor] = {}
    records.to_data(motion, tensors)
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
