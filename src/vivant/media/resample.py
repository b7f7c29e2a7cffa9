"""Choosing which frame is showing at each output instant. All times are exact fractions of a second.

    input    |--a--|-b-|-----c-----|d|--------e-------|          any spacing
    output   0     1     2     3     4     5     6      7        k / frame_rate
             a     a*    c     c     d     e     e               the latest frame that has begun

*: b begins between two instants and is never shown; that is what a lower rate means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction

from vivant.errors import InputError
from vivant.media.types import Frame

TIMESTAMP_SLACK = Fraction(1, 1000)
"""Seconds. A frame that begins at most this late after an output instant counts as begun: Matroska, FLV and
others round their times to milliseconds, and exact comparison would then repeat one frame and drop the
next."""

_STANDARD_RATES = tuple(
    sorted(
        [Fraction(n) for n in (12, 15, 24, 25, 30, 48, 50, 60, 100, 120)]
        + [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120)]
    )
)
_MAX_CHOSEN_RATE = 240


def resample(
    frames: Iterable[Frame], frame_rate: Fraction, *, end: Fraction | None = None
) -> Iterator[Frame]:
    """Frames at exactly 0, 1/frame_rate, 2/frame_rate, ... each showing the latest input frame begun by then.

    `end` is when the last input frame stops showing, in seconds (a reader's `shown_until`). None: it shows as
    long as the frame before it did, or for one output frame when it is the only one. The output has one
    frame for each instant before the end, so it lasts as long as the input, plus less than one output
    frame. An input whose first frame comes late shows that frame from zero on. Holds two frames at most.
    """
    if frame_rate <= 0:
        raise ValueError(f"frame_rate must be positive, got {frame_rate}")
    slack = min(TIMESTAMP_SLACK, 1 / (4 * frame_rate))
    current: Frame | None = None
    spacing = 1 / frame_rate
    index = 0
    for upcoming in frames:
        if current is not None and upcoming.time > current.time:
            spacing = upcoming.time - current.time
            while index / frame_rate + slack < upcoming.time:
                yield Frame(current.image, index / frame_rate)
                index += 1
        current = upcoming
    if current is None:
        return
    stop = current.time + spacing if end is None else end
    while index == 0 or index / frame_rate + slack < stop:
        yield Frame(current.image, index / frame_rate)
        index += 1


def num_resampled(frame_rate: Fraction, end: Fraction) -> int:
    """How many frames `resample` gives of an input that ends showing then, in seconds."""
    slack = min(TIMESTAMP_SLACK, 1 / (4 * frame_rate))
    return max(1, math.ceil((end - slack) * frame_rate))


def choose_frame_rate(choice: str, source: Fraction | None, driving: Fraction) -> Fraction:
    """The output rate for `--fps source|driving|N`, in frames per second.

    `source` is None when the source is a still picture. N may be 25, 29.97 (taken as 30000/1001) or
    24000/1001. Measured rates of clips are tidied: see `tidy_rate`. Raises InputError for anything else.
    """
    wanted = choice.strip().lower()
    if wanted == "driving":
        return tidy_rate(driving)
    if wanted == "source":
        if source is None:
            raise InputError(
                "--fps source needs a video as source, this one is a picture; use --fps driving."
            )
        return tidy_rate(source)
    rate = _parse_rate(wanted)
    if rate is None or not 0 < rate <= _MAX_CHOSEN_RATE:
        raise InputError(
            f"--fps {choice} is not a frame rate; use source, driving or a number up to {_MAX_CHOSEN_RATE} "
            "such as 25, 29.97 or 24000/1001."
        )
    return rate


def is_standard_rate(rate: Fraction) -> bool:
    """Whether cameras and players know this rate by name."""
    return rate in _STANDARD_RATES


def tidy_rate(rate: Fraction) -> Fraction:
    """A measured rate as one that players and editors like: the standard rate within 0.02 %, otherwise the
    nearest fraction with a small denominator. Frames are placed by time, so this shifts nothing."""
    nearest = min(_STANDARD_RATES, key=lambda standard: abs(standard - rate))
    if abs(nearest - rate) <= nearest / 5000:
        return nearest
    return rate.limit_denominator(1001) or rate


def _parse_rate(text: str) -> Fraction | None:
    """`25`, `29.97` or `30000/1001`; None when it is nothing of the kind."""
    if not re.fullmatch(r"[0-9]{1,6}([./][0-9]{1,6})?", text):
        return None
    numerator, _, denominator = text.partition("/")
    if denominator:
        return Fraction(int(numerator), int(denominator)) if int(denominator) else None
    rate = Fraction(text)
    if rate.denominator == 1:
        return rate
    for nominal in (24, 30, 48, 60, 120):
        broadcast = Fraction(nominal * 1000, 1001)
        if math.isclose(rate, broadcast, abs_tol=0.006):
            return broadcast
    return rate
