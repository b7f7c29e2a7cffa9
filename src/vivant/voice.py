"""The contract between what speaks and what shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from vivant.engine import StreamSpec


class Voice(Protocol):
    """Speech to the Motion of a family that video drives; weights only, streams are states."""

    stream: StreamSpec

    def start(self, seed: int = 0) -> Any:
        """A fresh stream."""

    def push(self, state: Any, samples: Tensor) -> Sequence[Any]:
        """Mono samples (S,) at the stream's rate -> the motions, of one frame each, that are due."""

    def flush(self, state: Any) -> Sequence[Any]:
        """What the look-ahead still owes."""
