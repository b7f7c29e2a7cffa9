"""Time is exact: which frame shows when, and for how long."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivant.errors import InputError
from vivant.media.resample import TIMESTAMP_SLACK, choose_frame_rate, resample, tidy_rate
from vivant.media.types import Frame

NTSC = Fraction(30000, 1001)


def frames_at(times: list[Fraction]) -> list[Frame]:
    """Frames whose first pixel is their number."""
    return [Frame(np.full((1, 1, 3), index % 256, np.uint8), time) for index, time in enumerate(times)]


def shown(frames: list[Frame]) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in frames]


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy

rates = st.sampled_from([Fraction(n) for n in (1, 10, 24, 25, 30, 50, 60)] + [NTSC, Fraction(24000, 1001)])
spacings = st.lists(
    st.fractions(min_value=Fraction(1, 240), max_value=Fraction(1, 2), max_denominator=90000),
    min_size=1,
    max_size=40,
)


@unhurried
@given(spacings=spacings, rate=rates)
def test_any_spacing(spacings: list[Fraction], rate: Fraction) -> None:
    times = [sum(spacings[:index], Fraction(0)) for index in range(len(spacings))]
    end = sum(spacings, Fraction(0))
    output = list(resample(frames_at(times), rate, end=end))

    assert [frame.time for frame in output] == [index / rate for index in range(len(output))]
    numbers = shown(output)
    assert all(a <= b for a, b in pairwise(numbers)), "time never runs backwards"
    slack = min(TIMESTAMP_SLACK, 1 / (4 * rate))
    for frame, number in zip(output, numbers, strict=True):
        assert times[number] <= frame.time + slack or number == 0
        assert number + 1 == len(times) or times[number + 1] > frame.time + slack
    lasts = len(output) / rate
    assert end - slack <= lasts < end + 1 / rate or len(output) == 1


@unhurried
@given(count=st.integers(1, 300), rate=rates)
def test_same_rate_changes_nothing(count: int, rate: Fraction) -> None:
    output = list(resample(frames_at([index / rate for index in range(count)]), rate))
    assert shown(output) == [index % 256 for index in range(count)]


@pytest.mark.parametrize("rate", [NTSC, Fraction(30), Fraction(60000, 1001), Fraction(24000, 1001)])
def test_times_rounded_to_milliseconds_neither_repeat_nor_drop(rate: Fraction) -> None:
    times = [Fraction(round(1000 * index / rate), 1000) for index in range(250)]
    end = times[-1] + Fraction(round(1000 / rate), 1000)
    assert shown(list(resample(frames_at(times), rate, end=end))) == list(range(250))


def test_24_to_30_keeps_ten_seconds() -> None:
    output = list(resample(frames_at([Fraction(index, 24) for index in range(240)]), Fraction(30)))
    assert len(output) == 300
    assert shown(output)[:6] == [0, 0, 1, 2, 3, 4]


def test_60_to_30_takes_every_second_frame() -> None:
    output = list(resample(frames_at([Fraction(index, 60) for index in range(60)]), Fraction(30)))
    assert shown(output) == list(range(0, 60, 2))


def test_last_frame_shows_until_the_end() -> None:
    frames = frames_at([Fraction(0), Fraction(1, 10)])
    assert shown(list(resample(frames, Fraction(10), end=Fraction(1)))) == [0] + [1] * 9
    assert shown(list(resample(frames, Fraction(10)))) == [0, 1]


def test_first_frame_covers_the_beginning() -> None:
    frames = frames_at([Fraction(3, 10), Fraction(4, 10)])
    assert shown(list(resample(frames, Fraction(10)))) == [0, 0, 0, 0, 1]


def test_one_frame_and_none() -> None:
    assert len(list(resample(frames_at([Fraction(0)]), Fraction(25)))) == 1
    assert list(resample([], Fraction(25))) == []


def test_is_lazy() -> None:
    """A live source: an output frame comes as soon as the input frame after it is known."""
    pulled = 0

    def live() -> object:
        nonlocal pulled
        for frame in frames_at([Fraction(index, 30) for index in range(1000)]):
            pulled += 1
            yield frame

    output = resample(live(), Fraction(30))
    for _ in range(10):
        next(output)
    assert pulled <= 12


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("driving", NTSC),
        ("source", Fraction(24)),
        (" Source ", Fraction(24)),
        ("25", Fraction(25)),
        ("25.0", Fraction(25)),
        ("29.97", NTSC),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("24000/1001", Fraction(24000, 1001)),
    ],
)
def test_frame_rate_choice(choice: str, expected: Fraction) -> None:
    assert choose_frame_rate(choice, Fraction(24), NTSC) == expected


@pytest.mark.parametrize(
    "choice", ["", "fast", "0", "-25", "nan", "inf", "1e3", "25/0", "0/5", "241", "25fps", "1/2/3", "٢٥"]
)
def test_frame_rate_nonsense(choice: str) -> None:
    with pytest.raises(InputError, match="frame rate"):
        choose_frame_rate(choice, None, Fraction(25))


def test_picture_has_no_rate() -> None:
    with pytest.raises(InputError, match="--fps driving"):
        choose_frame_rate("source", None, Fraction(25))


def test_measured_rates_become_tidy() -> None:
    assert tidy_rate(Fraction(2997003, 100000)) == NTSC
    assert tidy_rate(Fraction(30)) == 30
    assert tidy_rate(Fraction(16200000, 541013)).denominator <= 1001
    assert tidy_rate(Fraction(1, 4000)) == Fraction(1, 4000)
