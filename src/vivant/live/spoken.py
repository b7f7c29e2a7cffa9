"""How sound becomes pictures for a `Speaker`: through a voice that makes motion, or by a family that hears itself.

    voice:  sound of a frame --> Voice --> Motion --> picture, at once
    hears:  sound of a frame --> block of frames --> drawn on a thread of its own, while the pictures before are shown

A family that hears draws blocks (16 frames in refvae), so that most calls would do nothing and every sixteenth would
take all of the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from threading import Lock
from typing import Protocol, TypeAlias

import numpy as np
import torch

from vivant.animation import Animation
from vivant.engine import StreamSpec
from vivant.media.types import AudioChunk
from vivant.performance import Shown
from vivant.voice import Voice

Due: TypeAlias = Callable[[], np.ndarray | None]
"""Makes the picture that is due, uint8 RGB (H, W, 3); None where it was left out."""

MAX_AT_WORK = 2
"""Blocks that are drawn or wait for that. More would only make the answer later."""


class Listener(Protocol):
    """What a Speaker gives its sound to."""

    def hear(self, samples: np.ndarray) -> Due | None:
        """The sound of one frame; the picture that is due, one at most. They come in order, one for each sound."""

    def hush(self) -> None:
        """Take what was heard and is not drawn yet for silence. Any thread may call this."""

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""


class Voiced:
    """A voice makes the motion of each frame."""

    def __init__(self, animation: Animation, voice: Voice, seed: int) -> None:
        self._animation, self._voice, self._state = animation, voice, voice.start(seed)

    def hear(self, samples: np.ndarray) -> Due | None:
        motions = self._voice.push(self._state, torch.from_numpy(samples))
        if not motions:
            return None
        (motion,) = motions
        return lambda: next(iter(self._animation.push(motion)), None)

    def hush(self) -> None:
        """A voice has drawn what it heard, but for its look-ahead, which is shorter than a syllable."""

    def close(self) -> None:
        self._animation.close()


class Ahead:
    """The family hears; blocks are drawn while those before are shown.

    A block that comes while `MAX_AT_WORK` are not drawn is left out: its frames have no picture, and the stream goes on
    as if it had not been heard. So neither time nor memory grows where a machine is too slow.
    """

    def __init__(self, animation: Animation, stream: StreamSpec) -> None:
        self._animation, self._chunk_frames = animation, stream.chunk_frames
        self._rate, self._num_drawn = stream.sample_rate_hz, 0
        self._lock = Lock()
        self._gathered: list[np.ndarray] = []
        self._waiting: deque[list[np.ndarray]] = deque()
        """Blocks that the thread has not begun."""
        self._blocks: deque[Future[list[list[Shown]]] | int] = deque()
        """In order, those whose pictures were not taken yet; or how many pictures were left out."""
        self._due: deque[Due] = deque()
        num_threads = torch.get_num_threads()  # which OpenMP keeps by thread
        self._thread = ThreadPoolExecutor(1, "vivant-ahead", torch.set_num_threads, (num_threads,))

    def hear(self, samples: np.ndarray) -> Due | None:
        with self._lock:
            self._gathered.append(samples.copy())
            if len(self._gathered) == self._chunk_frames:
                self._begin()
        self._take()
        return self._due.popleft() if self._due else None

    def hush(self) -> None:
        with self._lock:
            for block in (*self._waiting, self._gathered):
                for samples in block:
                    samples[:] = 0

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._animation.close()

    def _begin(self) -> None:
        block, self._gathered = self._gathered, []
        if sum(isinstance(other, Future) and not other.done() for other in self._blocks) >= MAX_AT_WORK:
            self._blocks.append(len(block))
            return
        self._waiting.append(block)
        self._blocks.append(self._thread.submit(self._drawn))

    def _drawn(self) -> list[list[Shown]]:
        with self._lock:
            block = np.concatenate(self._waiting.popleft())
        assert self._rate is not None, "a family that hears says at what rate"
        chunk = AudioChunk(block, self._rate, Fraction(self._num_drawn, self._rate))
        self._num_drawn += len(block)
        return self._animation.take(chunk)

    def _take(self) -> None:
        """What is drawn by now."""
        while self._blocks:
            block = self._blocks[0]
            if isinstance(block, int):
                self._due += [lambda: None] * block
            elif block.done():
                self._due += [partial(self._animation.finish, shown) for shown in block.result()]
            else:
                return
            self._blocks.popleft()
