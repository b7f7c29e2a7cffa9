"""The report of frames without a face, and the policy that stops."""

from __future__ import annotations

from fractions import Fraction

import pytest

from vivant.errors import FaceError
from vivant.face.missing import MissingReport


def test_spans() -> None:
    report = MissingReport(name="talk.mp4")
    for frame in range(100):
        report.record(Fraction(frame, 25), found=not (frame < 25 or 40 <= frame < 50 or frame == 99))
    assert [(span.first_frame, span.last_frame) for span in report.spans] == [(0, 24), (40, 49), (99, 99)]
    assert report.spans[1].start == Fraction(8, 5)
    assert report.num_missing == 36
    assert str(report) == (
        "talk.mp4: no face in 36 of 100 frames: frames 0-24 (0.00-0.96 s), "
        "frames 40-49 (1.60-1.96 s), frame 99 (3.96 s)"
    )


def test_nothing_missing() -> None:
    report = MissingReport(name="a")
    report.record(Fraction(0), found=True)
    assert str(report) == "a: a face in each of 1 frames"


def test_fail_names_frame_time_and_the_way_out() -> None:
    report = MissingReport("fail", name="talk.mp4")
    report.record(Fraction(0), found=True)
    with pytest.raises(FaceError, match=r"talk\.mp4 at frame 1 \(0\.04 s\).*hold or source"):
        report.record(Fraction(1, 25), found=False)
