"""What users meet when they drive: open mouths at the start, sensor noise, cuts and gaps, one picture as driver."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from stand_ins import tiny_engine

import vivant
from vivant.controls import Controls
from vivant.editing import Editor
from vivant.engine import Engine
from vivant.engines.liveportrait.config import Options
from vivant.errors import FaceError
from vivant.face.framing import list_faces
from vivant.face.models import face_models_available
from vivant.face.points import LIP_INNER_BOTTOM, LIP_INNER_TOP, lip_openness
from vivant.media.writer import VideoWriter
from vivant.presets import DEFAULT_PRESET

pytestmark = pytest.mark.skipif(
    not face_models_available(), reason="needs the face models (vivant doctor --fix)"
)

FACE = np.ascontiguousarray(astronaut()[:220, 120:340])


@pytest.fixture(scope="module")
def mini() -> Engine:
    return vivant.load(DEFAULT_PRESET, "cpu", "float32")


@pytest.fixture(scope="module")
def portrait(mini: Engine) -> Any:
    return mini.prepare(FACE)


def drawn(engine: Engine, portrait: Any, driving: Any, **settings: Any) -> np.ndarray:
    """(T, H, W, 3) int."""
    return np.stack(list(vivant.animate(engine, portrait, driving, **settings))).astype(int)


def clip_of(path: Path, images: list[np.ndarray], rate: Fraction = Fraction(25)) -> Path:
    height, width = images[0].shape[:2]
    with VideoWriter(path, rate, width, height, crf=4, preset="ultrafast") as writer:
        for image in images:
            writer.write(np.ascontiguousarray(image, np.uint8))
    return path


def test_an_open_mouth_at_the_start(mini: Engine, portrait: Any, tmp_path: Path) -> None:
    """`--reference-frame auto` gives what the clip gives that is cut to begin with the calm face, within 3 levels."""
    edit = Editor(mini, portrait)
    opened, closed = edit.apply(Controls(lip_open=1.0)), edit.apply(Controls(lip_open=-1.0, smile=-0.5))
    open_by, closed_by = (lip_openness(list_faces(image)[0].landmarks) for image in (opened, closed))
    assert open_by > closed_by + 0.1
    calm = [np.roll(closed, shift, axis=1) for shift in (0, 1, 3)]
    whole, trimmed = (
        clip_of(tmp_path / "whole.mp4", [opened, opened, *calm]),
        clip_of(tmp_path / "calm.mp4", calm),
    )
    plain = Options(smoothing_ms=0)
    expected = drawn(mini, portrait, trimmed, options=plain)
    auto = drawn(mini, portrait, whole, options=plain)[2:]
    first = drawn(mini, portrait, whole, options=plain, reference_frame=0)[2:]
    assert np.abs(auto - expected).mean() < 3
    assert np.abs(first - expected).mean() > 1.5 * np.abs(auto - expected).mean()


def test_sensor_noise_is_not_motion(mini: Engine, portrait: Any) -> None:
    """A driver that repeats one frame under noise of 5 levels: what moves from frame to frame is less than half."""
    random = np.random.default_rng(0)
    noisy = [np.clip(FACE + random.normal(0, 5, FACE.shape), 0, 255).astype(np.uint8) for _ in range(12)]
    raw, steady = (
        float(
            np.abs(np.diff(drawn(mini, portrait, noisy, options=options, frame_rate=25)[2:], axis=0)).mean()
        )
        for options in (Options(smoothing_ms=0), Options())
    )
    assert raw > 0
    assert steady < 0.5 * raw


def test_cuts_and_gaps_stay_in_sync(tmp_path: Path) -> None:
    """Every frame comes, at its time; after the cut the mouth is where the portrait has it."""
    engine = tiny_engine()
    portrait = engine.prepare(FACE)
    shot = [astronaut()[i : i + 220, 120 + 3 * i : 340 + 3 * i] for i in range(5)]
    # What a random network makes of slower movement can be less than a grey level from one frame to the next.
    places = [(0, 0), (8, 24), (8, 21), (8, 18), (8, 15)]
    nods = [astronaut()[y : y + 220, 120 + x : 340 + x] for y, x in places]
    other = [255 - (255 - image[:, ::-1].astype(int)) // 3 for image in nods]
    images = [*shot, *[np.zeros_like(FACE)] * 3, *other]
    clip = clip_of(tmp_path / "clip.mp4", images, Fraction(30000, 1001))
    run = vivant.animate(engine, portrait, clip, reference_frame=0)
    frames = list(run)
    assert (len(frames), run.frame_rate) == (13, Fraction(30000, 1001))
    (span,) = run.report.without_face
    assert (span.first_frame, span.last_frame) == (5, 7)
    assert (span.start, span.end) == (Fraction(5 * 1001, 30000), Fraction(7 * 1001, 30000))
    for held in frames[5:8]:
        np.testing.assert_array_equal(held, frames[4])
    assert np.abs(frames[8].astype(int) - frames[0]).max() <= 1, "the portrait at rest again"
    assert not np.array_equal(frames[9], frames[8]), "and from there it moves as the new shot does"


def test_a_picture_drives(mini: Engine, portrait: Any, tmp_path: Path) -> None:
    """One frame that looks as the driver does, or that differs as the driver does from a picture at rest."""
    opened = Editor(mini, portrait).apply(Controls(lip_open=1.0))
    Image.fromarray(opened).save(tmp_path / "open.png")
    Image.fromarray(FACE).save(tmp_path / "rest.png")

    def lips(image: np.ndarray) -> float:
        points = list_faces(image.astype(np.uint8))[0].landmarks.points
        return float(np.linalg.norm(points[LIP_INNER_TOP] - points[LIP_INNER_BOTTOM]))

    (by_itself,) = drawn(mini, portrait, tmp_path / "open.png")
    (by_rest,) = drawn(mini, portrait, tmp_path / "open.png", reference_frame=tmp_path / "rest.png")
    (unmoved,) = drawn(mini, portrait, tmp_path / "rest.png", reference_frame=tmp_path / "rest.png")
    assert lips(by_rest) > lips(unmoved) + 0.7
    assert lips(by_itself) > lips(FACE) + 0.4
    (same,) = drawn(mini, portrait, tmp_path / "rest.png")
    assert np.abs(same - FACE).mean() < 4, "whoever looks like the portrait does not move it"
    assert abs(lips(unmoved) - lips(FACE)) < 2
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "wall.png")
    with pytest.raises(FaceError, match=r"wall\.png shows no face largest that could be neutral"):
        drawn(mini, portrait, tmp_path / "open.png", reference_frame=tmp_path / "wall.png")
