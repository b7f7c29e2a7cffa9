"""A video as source: in step with the driver by time, tracked, pasted back, and left alone where nobody is seen."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stand_ins import FakeTracker, pictures, tiny_engine

import vivant
from vivant import drivers, scenes
from vivant.engine import Engine
from vivant.errors import FaceError, InputError
from vivant.face.paste import paste_back
from vivant.media.types import Frame
from vivant.session import Session
from vivant.sources import SourceVideo

SCENES = pictures(5, 128, seed=1)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return tiny_engine()


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> tuple[type[FakeTracker], type[FakeTracker]]:
    """What follows the driver and what follows the source."""
    fakes = type("Driver", (FakeTracker,), {}), type("Source", (FakeTracker,), {})
    for module, fake in zip((drivers, scenes), fakes, strict=True):
        monkeypatch.setattr(module, "FaceTracker", fake)
    return fakes


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Five pictures, 25 per second."""
    for index, image in enumerate(SCENES):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    return tmp_path


def run(engine: Engine, clip: Path, driving: Any, **settings: Any) -> list[np.ndarray]:
    return list(vivant.animate(engine, SourceVideo(engine, clip), driving, **settings))


def test_each_frame_is_its_own_portrait(engine: Engine, clip: Path, trackers: Any) -> None:
    """As Sessions do it by hand: the source's frame k, driven by frame k of the driver."""
    driving = pictures(5, seed=2)
    frames = run(engine, clip, driving)
    source = list(SourceVideo(engine, clip).scenes(Fraction(25), hold=False))
    follow = drivers.Follower(engine, "largest")
    session = None
    for scene, picture, frame in zip(source, driving, frames, strict=True):
        (framing,), seen = scene.faces, follow.update(picture)
        assert framing is not None
        assert seen is not None
        session = session or Session(engine, engine.prepare_framed([framing]), frame_rate_hz=25)
        session.appear(framing)
        (drawn,) = session.push(seen.image, window=seen.window, openness=seen.openness)
        pixels = (drawn.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        assert scene.image is not None
        np.testing.assert_array_equal(frame, paste_back(scene.image, pixels, framing.crop))


def test_an_unmoved_driver_leaves_the_video_moving(engine: Engine, clip: Path, trackers: Any) -> None:
    frames = run(engine, clip, [pictures(1)[0]] * 5)
    for frame, scene in zip(frames, SCENES, strict=True):
        np.testing.assert_array_equal(frame[118:, 118:], scene[118:, 118:])
    assert len({frame[48].tobytes() for frame in frames}) == 5


@pytest.mark.parametrize(
    ("num_driving", "length", "num_frames"),
    [
        (3, "shortest", 3),
        (3, "driving", 3),
        (3, "source", 5),
        (7, "shortest", 5),
        (7, "driving", 7),
        (7, "source", 5),
    ],
)
def test_length(
    engine: Engine, clip: Path, trackers: Any, num_driving: int, length: Any, num_frames: int
) -> None:
    driving = pictures(num_driving, seed=2)
    frames = run(engine, clip, driving, length=length)
    assert len(frames) == num_frames
    held = (driving + [driving[-1]] * 7)[:num_frames]
    expected = run(engine, clip, held, length="driving")
    for frame, want in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame, want)


@pytest.mark.parametrize("length", ["shortest", "driving", "source"])
def test_a_picture_drives_as_long_as_the_video_lasts(
    engine: Engine, clip: Path, trackers: Any, tmp_path: Path, length: Any
) -> None:
    Image.fromarray(pictures(1, seed=2)[0]).save(tmp_path / "still.jpg")
    animation = vivant.animate(
        engine, SourceVideo(engine, clip / "%d.png"), tmp_path / "still.jpg", length=length
    )
    assert animation.num_frames_estimate == len(list(animation)) == 5


def test_clips_meet_by_time(engine: Engine, clip: Path, trackers: Any, tmp_path: Path) -> None:
    """A driver of 50 frames per second moves the picture that shows at the same time."""
    fast = [Frame(image, Fraction(index, 50)) for index, image in enumerate(pictures(10, seed=2))]
    folder = tmp_path / "driving"
    folder.mkdir()
    for index, frame in enumerate(fast[::2]):
        Image.fromarray(frame.image).save(folder / f"{index}.png")
    slow = list(vivant.animate(engine, SourceVideo(engine, clip), folder, reference_frame=0))
    assert len(slow) == 5
    every_second = run(engine, clip, [frame.image for frame in fast[::2]])
    for frame, want in zip(slow, every_second, strict=True):
        np.testing.assert_array_equal(frame, want)
    doubled = vivant.animate(engine, SourceVideo(engine, clip), folder, frame_rate=50)
    assert len(list(doubled)) == 10


def test_missing_faces_on_either_side(engine: Engine, clip: Path, trackers: Any) -> None:
    driver, source = trackers
    driving = pictures(5, seed=2)
    whole = run(engine, clip, driving)
    source.blind = frozenset({0, 2})
    animation = vivant.animate(engine, SourceVideo(engine, clip), driving)
    frames = list(animation)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, SCENES[index] if index in source.blind else whole[index])
    assert [span.first_frame for span in animation.report.without_source_face] == [0, 2]
    source.blind, driver.blind = frozenset(), frozenset({3})
    held = run(engine, clip, driving)
    assert not np.array_equal(held[3], held[2]), "the source moves on"
    shown = run(engine, clip, driving, on_missing="source")
    np.testing.assert_array_equal(shown[3], SCENES[3])
    driver.blind = frozenset()
    repeated = run(engine, clip, [*driving[:3], driving[2], driving[4]])
    np.testing.assert_array_equal(held[3], repeated[3], "the driver's last motion on the next picture")


def test_a_driver_that_has_ended_is_not_missing(
    engine: Engine, clip: Path, trackers: Any, tmp_path: Path
) -> None:
    """`--on-missing source` is about faces that are not seen; after the end the last motion goes on."""
    driving = pictures(3, seed=2)
    held = run(engine, clip, driving, length="source")
    shown = run(engine, clip, driving, length="source", on_missing="source")
    for frame, want in zip(shown, held, strict=True):
        np.testing.assert_array_equal(frame, want)
    (tmp_path / "other").mkdir()
    Image.fromarray(driving[0]).save(tmp_path / "other" / "still.jpg")
    still = [
        run(engine, clip, tmp_path / "other" / "still.jpg", on_missing=policy)
        for policy in ("hold", "source")
    ]
    for frame, want in zip(*still, strict=True):
        np.testing.assert_array_equal(frame, want)
    trackers[0].blind = frozenset({2})
    rested = run(engine, clip, driving, length="source", on_missing="source")
    np.testing.assert_array_equal(rested[1], held[1])
    for index in (2, 3, 4):
        np.testing.assert_array_equal(rested[index], SCENES[index], "what was at rest at the end stays so")


def test_the_square_alone(engine: Engine, clip: Path, trackers: Any) -> None:
    trackers[1].blind = frozenset({1})
    frames = run(engine, clip, pictures(5, seed=2), paste_back=False)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 5


def test_what_cannot_be(engine: Engine, clip: Path, trackers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trackers[1].blind = frozenset(range(5))
    with pytest.raises(FaceError, match="never shows face largest"):
        SourceVideo(engine, clip)
    monkeypatch.setattr(type(engine), "takes_source_video", False)
    with pytest.raises(InputError, match="liveportrait animates pictures, not videos"):
        SourceVideo(engine, clip)
