"""Where in its driving an animation stands, with whatever follows the driving there.

Counted in what the driving is made of: frames of a clip at the output rate, rows of saved motion, pieces of sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from vivant.bookmark import Bookmark
from vivant.face.track import TrackerState
from vivant.face.window import WindowState
from vivant.voice import Voice

T = TypeVar("T")


@dataclass
class FollowerState:
    """What following a face remembers."""

    seconds: float
    """Wall time spent on it."""
    started: bool
    """Whether a face was seen yet."""
    tracker: TrackerState
    window: WindowState


class Following(Protocol):
    """Whoever follows a face: its state may be taken and put back."""

    state: FollowerState


@dataclass(kw_only=True)
class Place:
    """Moved on by the readers in vivant.drivers as they read."""

    num_taken: int = 0
    """Frames, rows or pieces taken from the start on."""
    is_settled: bool = True
    """Whether all that was taken has been passed on, so that one can go on from here."""
    follow: Following | None = None
    speech: Any = None
    """State of the voice, where one speaks."""

    def rest_of(self, items: Iterable[T]) -> Iterator[T]:
        """Those that were not taken yet, counted as they are taken."""
        for item in islice(items, self.num_taken, None):
            self.num_taken += 1
            yield item

    def keep_in(self, mark: Bookmark) -> None:
        """Only where it is settled, or where nothing follows."""
        mark.keep("num_taken", self.num_taken)
        mark.keep("follower", None if self.follow is None else self.follow.state)
        mark.keep("speech", self.speech)

    @classmethod
    def in_mark(cls, mark: Bookmark | None, voice: Voice | None = None) -> Place:
        """The place that was kept, or the start. Whoever follows a face is not there yet."""
        if mark is None:
            return cls()
        speech = None
        if voice is not None and mark.data["speech"] is not None:
            speech = mark.part("speech", type(voice.start()))
        return cls(num_taken=mark.data["num_taken"], speech=speech)
