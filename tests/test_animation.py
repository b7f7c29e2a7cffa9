"""animate: how many frames, which ones where no face is seen, pasting, constant memory, closing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins import FakeTracker, pictures, tiny_engine

import vivant
from vivant import casting, drivers
from vivant.drivers import Refers, Seen, Watched, referring
from vivant.engine import Engine
from vivant.engines.liveportrait.config import Options
from vivant.engines.personalive.config import tiny as tiny_personalive
from vivant.engines.personalive.engine import PersonaLive
from vivant.errors import FaceError, InputError
from vivant.face.crop import box_crop
from vivant.face.framing import Framing
from vivant.face.points import Landmarks
from vivant.face.window import Similarity
from vivant.media.types import Frame
from vivant.ops.fetching import as_pixels, set_out
from vivant.session import Session


@pytest.fixture(scope="module")
def engine() -> Engine:
    return tiny_engine()


@pytest.fixture
def portrait(engine: Engine) -> Any:
    return engine.prepare(pictures(1, 64)[0], face=None)


@pytest.fixture
def framed(portrait: Any) -> Any:
    """A portrait cut from the middle of a larger picture."""
    picture = pictures(1, 160, seed=3)[0]
    landmarks = Landmarks(np.zeros((468, 3), np.float32), 1.0)
    crop = box_crop(np.array([40.0, 40.0, 120.0, 120.0]), 64)
    return replace(portrait, framing=Framing(picture, crop, landmarks, 0))


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    fake = type("Fake", (FakeTracker,), {})
    monkeypatch.setattr(drivers, "FaceTracker", fake)
    return fake


def test_every_driving_frame_gives_one(engine: Engine, portrait: Any) -> None:
    run = vivant.animate(engine, portrait, pictures(5), driving_face=None)
    frames = list(run)
    assert len(frames) == 5
    assert all(frame.dtype == np.uint8 and frame.shape == (*run.frame_size, 3) for frame in frames)
    assert run.report.num_frames == run.report.engine.frames_out == 5
    assert run.num_frames_estimate == 5
    assert not np.array_equal(frames[0], frames[1])


def test_it_equals_a_session(engine: Engine, portrait: Any) -> None:
    driving = pictures(3)
    with vivant.Session(engine, portrait) as session:
        expected = [frame for picture in driving for frame in session.push(picture)] + session.flush()
    frames = list(vivant.animate(engine, portrait, driving, driving_face=None))
    for frame, want in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(int) - (want * 255).permute(1, 2, 0).numpy()).max() <= 0.51


def test_pasting_keeps_the_surroundings(engine: Engine, framed: Any) -> None:
    run = vivant.animate(engine, framed, pictures(2), driving_face=None)
    assert run.frame_size == (160, 160)
    frames = list(run)
    assert np.array_equal(frames[1][:30], framed.framing.image[:30])
    assert not np.array_equal(frames[1][60:100, 60:100], framed.framing.image[60:100, 60:100])
    square = vivant.animate(engine, framed, pictures(1), driving_face=None, paste_back=False)
    assert next(square).shape == (64, 64, 3)
    square.close()


def test_pasting_needs_a_picture(engine: Engine, portrait: Any) -> None:
    with pytest.raises(InputError, match="no picture to paste into"):
        vivant.animate(engine, portrait, pictures(1), paste_back=True)


def test_no_face_holds_the_last_picture(engine: Engine, portrait: Any, tracker: type[FakeTracker]) -> None:
    tracker.blind = frozenset({0, 3, 4})
    run = vivant.animate(engine, portrait, pictures(6))
    frames = list(run)
    assert len(frames) == 6
    assert np.array_equal(frames[3], frames[2])
    assert np.array_equal(frames[4], frames[2])
    assert not np.array_equal(frames[5], frames[4])
    rest = (portrait.reference * 255).permute(1, 2, 0).numpy()
    assert np.abs(frames[0] - rest).max() <= 1, "nothing to hold yet: the portrait as it was given"
    spans = run.report.without_face
    assert [(span.first_frame, span.last_frame) for span in spans] == [(0, 0), (3, 4)]
    assert spans[1].start == Fraction(3, 25)
    assert run.report.num_without_face == 3


def test_no_face_shows_the_source(engine: Engine, framed: Any, tracker: type[FakeTracker]) -> None:
    tracker.blind = frozenset({2})
    frames = list(vivant.animate(engine, framed, pictures(4), on_missing="source"))
    assert np.array_equal(frames[2], framed.framing.image)
    assert not np.array_equal(frames[3], framed.framing.image)


def test_no_face_fails_if_asked(engine: Engine, portrait: Any, tracker: type[FakeTracker]) -> None:
    tracker.blind = frozenset({1})
    run = vivant.animate(engine, portrait, pictures(4), on_missing="fail")
    next(run)
    with pytest.raises(FaceError, match="frame 1"):
        next(run)


def test_no_face_at_all_is_the_portrait(engine: Engine, portrait: Any, tracker: type[FakeTracker]) -> None:
    tracker.blind = frozenset(range(3))
    assert len(list(vivant.animate(engine, portrait, pictures(3)))) == 3


def test_a_cut_starts_over(engine: Engine, portrait: Any, tracker: type[FakeTracker]) -> None:
    """After a cut, motion is relative to the new shot: its first frame shows the portrait at rest."""
    tracker.cuts = frozenset({2})
    frames = list(vivant.animate(engine, portrait, pictures(3)))
    assert np.abs(frames[2].astype(int) - frames[0].astype(int)).max() <= 1
    assert not np.array_equal(frames[1], frames[0])


def test_times_of_frames_are_kept(engine: Engine, portrait: Any, tracker: type[FakeTracker]) -> None:
    tracker.blind = frozenset({1})
    clip = [Frame(picture, Fraction(index, 7)) for index, picture in enumerate(pictures(2))]
    run = vivant.animate(engine, portrait, clip)
    list(run)
    assert run.report.without_face[0].start == Fraction(1, 7)


def test_nothing_is_taken_ahead(engine: Engine, portrait: Any) -> None:
    """A live source is read one frame at a time, and is closed when the caller leaves."""
    taken, closed = [], []

    def camera() -> Iterator[np.ndarray]:
        try:
            for index, picture in enumerate(pictures(9)):
                taken.append(index)
                yield picture
        finally:
            closed.append(True)

    with vivant.animate(engine, portrait, camera(), driving_face=None) as run:
        next(run)
        assert taken == [0]
        next(run)
        assert taken == [0, 1]
    assert closed == [True]
    assert list(run) == []


AHEAD = 4


@pytest.fixture
def asks_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(casting, "asked_ahead", lambda engine: AHEAD)


@pytest.mark.parametrize("count", [2, 11])
def test_what_is_asked_ahead_shows_the_same(
    portrait: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Of an engine that draws frame by frame, and of one that draws two at a time and four late."""
    late = PersonaLive(tiny_personalive(), PersonaLive.build_networks(tiny_personalive()))
    for each, own in ((engine, portrait), (late, late.prepare(pictures(1, 64)[0], face=None))):
        expected = list(vivant.animate(each, own, pictures(count), driving_face=None))
        with monkeypatch.context() as patch:
            patch.setattr(casting, "asked_ahead", lambda engine: AHEAD)
            run = vivant.animate(each, own, pictures(count), driving_face=None)
            frames = [next(run)]
            asked = min(count, AHEAD + 1 + each.stream.delay_frames)
            assert asked <= run.report.engine.frames_in < asked + each.stream.chunk_frames
            frames += run
        assert len(frames) == len(expected) == count
        assert all(np.array_equal(a, b) for a, b in zip(frames, expected, strict=True))


def test_one_can_stop_and_go_on_where_frames_are_asked_ahead(
    engine: Engine, portrait: Any, asks_ahead: None
) -> None:
    frames, marks = [], {}
    with vivant.animate(engine, portrait, pictures(14), driving_face=None) as run:
        for frame in run:
            frames.append(frame)
            if (mark := run.bookmark()) is not None:
                marks[len(frames)] = mark
    assert list(marks) == [5, 10, 14], "all that was asked has been shown"
    for taken, mark in marks.items():
        with vivant.animate(engine, portrait, pictures(14), driving_face=None, resume=mark) as again:
            rest = list(again)
        assert len(rest) == 14 - taken
        assert all(np.array_equal(a, b) for a, b in zip(rest, frames[taken:], strict=True))


def test_a_mistake_that_is_met_ahead_waits_its_turn(
    engine: Engine, portrait: Any, tracker: type[FakeTracker], asks_ahead: None
) -> None:
    tracker.blind = frozenset({2})
    run = vivant.animate(engine, portrait, pictures(6), on_missing="fail")
    assert len([next(run), next(run)]) == 2
    with pytest.raises(FaceError, match="frame 2"):
        next(run)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pixels_arrive_from_a_gpu() -> None:
    frames = torch.rand(3, 3, 16, 24, device="cuda")
    for frame, arrived in zip(frames, set_out(list(frames)), strict=True):
        assert torch.equal(arrived(), as_pixels(frame).cpu())


def test_a_missing_file_is_named(engine: Engine, portrait: Any) -> None:
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        vivant.animate(engine, portrait, "nowhere.mp4")


def seen(unrest: float, *, restart: bool = False) -> Watched:
    image = np.full((4, 4, 3), round(unrest * 10), np.uint8)
    return Watched(Fraction(0), Seen(image, Similarity(1.0, np.zeros(2)), restart, (0.3, 0.3, 0.0), unrest))


def referred(items: list[Watched], reference: Any) -> tuple[float | None, int]:
    """The chosen face's unrest, and how many frames come out behind it."""
    out = list(referring((item for item in items), reference, Fraction(2)))
    first = out[0].seen.unrest if out and isinstance(out[0], Refers) else None
    return first, sum(isinstance(item, Watched) for item in out)


def test_reference_is_the_calmest_face_of_the_first_two_seconds() -> None:
    open_mouth = [seen(0.9), seen(0.8), Watched(Fraction(0), None), seen(0.1), seen(0.0)]
    assert referred(open_mouth, "auto") == (0.1, 5), "two seconds at two frames per second are four frames"
    assert referred([seen(0.2), seen(0.15)], "auto") == (None, 2), "hardly calmer is not calmer"
    assert referred([seen(0.9), seen(0.1, restart=True)], "auto") == (None, 2), "another shot is another rest"
    assert referred(open_mouth, 1) == (0.8, 5)
    assert referred([Watched(Fraction(0), None)], "auto") == (None, 1)
    with pytest.raises(InputError, match="2 shows no face"):
        referred(open_mouth, 2)
    with pytest.raises(InputError, match="9 is beyond the end; the clip has 5 frames"):
        referred(open_mouth, 9)


def test_an_open_mouth_at_the_start_changes_nothing_later(engine: Engine, portrait: Any) -> None:
    """A clip that starts restless is, from its calm frame on, the clip that starts there."""
    calm, restless = pictures(1, 64, seed=5)[0], pictures(1, 64, seed=6)[0]
    later = pictures(3, 64, seed=7)

    def session(first: list[np.ndarray], refers: bool) -> list[torch.Tensor]:
        one = Session(engine, portrait, Options(smoothing_ms=0))
        if refers:
            one.refer(one.see(calm))
        return [frame for image in (*first, *later) for frame in one.push(image)]

    trimmed = session([calm], refers=False)
    whole = session([restless, restless, calm], refers=True)
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], trimmed, strict=True))
    assert not torch.equal(session([restless, calm], refers=False)[1], trimmed[0])
