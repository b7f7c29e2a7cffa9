"""The driving window: fixed while the face stays, moved with an exact account of the move."""

from __future__ import annotations

import numpy as np
import pytest

from vivant.face import points as names
from vivant.face.points import Landmarks
from vivant.face.window import PLACE_LAG, DrivingWindow, Similarity, SourceWindow


def face(x: float, y: float, size: float = 100.0) -> Landmarks:
    """A round face with eyes and lips in their places."""
    angle = np.linspace(0, 2 * np.pi, names.NUM_MESH, endpoint=False)
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1) * 0.5
    points[[names.EYE_LEFT_OUTER, names.EYE_LEFT_INNER, 159, 145], :2] = (-0.2, -0.1)
    points[[names.EYE_RIGHT_OUTER, names.EYE_RIGHT_INNER, 386, 374], :2] = (0.2, -0.1)
    points[[names.LIP_LEFT_CORNER, names.LIP_RIGHT_CORNER], :2] = (0, 0.25)
    points[list(names.JAW), :2] *= 1.0
    return Landmarks((points * size + [x, y, 0]).astype(np.float32), 1.0)


def relative(view_crop_points: np.ndarray, size_px: int) -> np.ndarray:
    """Pixels of the window to -1..1."""
    return view_crop_points / (size_px / 2) - 1


def test_fixed_while_the_face_stays() -> None:
    window = DrivingWindow(256)
    first = window.update(face(300, 200))
    assert first.moved
    assert first.restarted
    assert first.to_reference == Similarity()
    for x, size in ((310, 100), (330, 110), (280, 90)):
        view = window.update(face(x, 205, size))
        assert not view.moved
        np.testing.assert_array_equal(view.crop.image_to_crop, first.crop.image_to_crop)


@pytest.mark.parametrize("there", [(600, 250, 100.0), (300, 200, 190.0), (300, 200, 45.0)])
def test_moves_with_the_face_and_says_how(there: tuple[float, float, float]) -> None:
    window = DrivingWindow(256)
    reference = window.update(face(300, 200))
    landmarks = face(*there)
    view = window.update(landmarks)
    assert view.moved
    assert not view.restarted
    seen = relative(view.crop.to_crop(landmarks.xy), 256)
    expected = relative(reference.crop.to_crop(landmarks.xy), 256)
    np.testing.assert_allclose(view.to_reference.apply(seen), expected, atol=2e-3)
    assert np.abs(seen).max() < 1, "the face is inside the new window"
    again = window.update(landmarks)
    assert not again.moved
    assert again.to_reference == view.to_reference


def test_slow_drift_moves_in_steps() -> None:
    window = DrivingWindow(256)
    views = [window.update(face(300 + 4 * frame, 200)) for frame in range(100)]
    moves = sum(view.moved for view in views)
    assert 3 <= moves <= 12
    shift = views[-1].to_reference.shift[0] * 110
    assert 250 < shift < 410


def test_a_cut_starts_over() -> None:
    window = DrivingWindow(256)
    window.update(face(300, 200))
    window.update(face(700, 200))
    view = window.update(face(705, 200), cut=True)
    assert view.restarted
    assert view.to_reference == Similarity()


def test_the_square_of_a_source_goes_along_without_trembling() -> None:
    """Noise of landmarks is damped fourfold; a running head is never left behind by more than the lag."""
    random = np.random.default_rng(0)
    window = SourceWindow(256, 25.0)
    still = [window.update(face(*(random.normal(0, 1, 2) + 300))).crop_to_image for _ in range(60)]
    tremble = np.std([matrix[:, 2] for matrix in still[20:]], axis=0)
    assert tremble.max() < 0.3, "pixels, of a standard deviation of 1"
    for step in range(20):
        crop = window.update(face(300 + 20 * step, 300))
        target = SourceWindow(256, 25.0).update(face(300 + 20 * step, 300))
        behind = np.linalg.norm(
            crop.to_image(np.full((1, 2), 128.0)) - target.to_image(np.full((1, 2), 128.0))
        )
        assert behind <= PLACE_LAG * target.side_px * 1.01
    jumped = window.update(face(50, 60), restart=True)
    np.testing.assert_array_equal(
        jumped.crop_to_image, SourceWindow(256, 25.0).update(face(50, 60)).crop_to_image
    )
