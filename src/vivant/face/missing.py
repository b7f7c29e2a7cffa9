"""Frames of a clip without a face: what the user wants done, and a report of where they are.

`hold` keeps the last motion, `source` shows the portrait at rest, `fail` stops with an error. Only `fail`
is carried out here; the other two are up to whoever renders.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vivant.errors import FaceError

MissingPolicy = Literal["hold", "source", "fail"]


@dataclass(frozen=True)
class MissingSpan:
    """A run of frames without a face."""

    first_frame: int
    last_frame: int
    start: Fraction
    """Time of the first frame, in seconds."""
    end: Fraction
    """Time of the last frame, in seconds."""

    @property
    def num_frames(self) -> int:
        return self.last_frame - self.first_frame + 1

    def __str__(self) -> str:
        if self.num_frames == 1:
            return f"frame {self.first_frame} ({float(self.start):.2f} s)"
        return (
            f"frames {self.first_frame}-{self.last_frame} ({float(self.start):.2f}-{float(self.end):.2f} s)"
        )


class MissingReport:
    """Collects the spans of one clip, frame by frame."""

    def __init__(
        self,
        policy: MissingPolicy = "hold",
        *,
        name: str = "driving",
        keep: int | None = None,
        num_frames: int = 0,
        spans: Iterable[MissingSpan] = (),
    ) -> None:
        """keep: how many spans to remember, for streams without an end; None: all.

        num_frames, spans: of a report that goes on.
        """
        self.policy = policy
        self.name = name
        self.num_frames = num_frames
        self._spans: deque[MissingSpan] = deque(spans, maxlen=keep)

    def record(self, time: Fraction, *, found: bool) -> None:
        """Note the next frame. Under the policy `fail` a frame without a face raises FaceError."""
        frame = self.num_frames
        self.num_frames += 1
        if found:
            return
        if self.policy == "fail":
            raise FaceError(
                f"no face in {self.name} at frame {frame} ({float(time):.2f} s): "
                "use --on-missing hold or source to go on, or cut these frames out"
            )
        if self._spans and self._spans[-1].last_frame == frame - 1:
            span = self._spans[-1]
            self._spans[-1] = MissingSpan(span.first_frame, frame, span.start, time)
        else:
            self._spans.append(MissingSpan(frame, frame, time, time))

    @property
    def spans(self) -> tuple[MissingSpan, ...]:
        return tuple(self._spans)

    @property
    def num_missing(self) -> int:
        return sum(span.num_frames for span in self._spans)

    def __str__(self) -> str:
        if not self._spans:
            return f"{self.name}: a face in each of {self.num_frames} frames"
        places = ", ".join(str(span) for span in self._spans)
        return f"{self.name}: no face in {self.num_missing} of {self.num_frames} frames: {places}"
