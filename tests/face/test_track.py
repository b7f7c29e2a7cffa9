"""Following a face through made clips: motion, hiding, cuts, an empty start, and company."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vivant.face.cuts import CutDetector, look_at
from vivant.face.detect import FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.track import FaceTracker, TrackedFace

SIDE = 400
EMPTY = slice(0, 12)
HIDDEN = slice(25, 35)
OTHER_SHOT = slice(45, 60)


def swaying(portrait: np.ndarray, frame: int) -> np.ndarray:
    shift = np.array([[1, 0, 10 * np.sin(frame / 4)], [0, 1, 5 * np.cos(frame / 3)]])
    return cv2.warpAffine(portrait, shift, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)


def other_shot(portrait: np.ndarray, frame: int) -> np.ndarray:
    canvas = np.full((SIDE, SIDE, 3), (200, 40, 40), np.uint8)
    canvas[100:, :300] = cv2.resize(swaying(portrait, frame)[:, ::-1], (300, 300))
    return canvas


@pytest.fixture(scope="module")
def clip(portrait: np.ndarray) -> list[np.ndarray]:
    """An empty start, a swaying head, a hand before it, the head again, and another shot."""
    frames = [swaying(portrait, frame) for frame in range(60)]
    for frame in range(60)[EMPTY]:
        frames[frame] = np.full((SIDE, SIDE, 3), 90 + frame % 3, np.uint8)
    for frame in range(60)[HIDDEN]:
        frames[frame][20:240, 90:300] = (120, 90, 70)
    for frame in range(60)[OTHER_SHOT]:
        frames[frame] = other_shot(portrait, frame)
    return frames


def tracker(detector: FaceDetector, mesh: FaceMesh, choice: str = "largest") -> FaceTracker:
    return FaceTracker(choice, detector=detector, mesh=mesh)


def test_clip_with_gaps_and_a_cut(detector: FaceDetector, mesh: FaceMesh, clip: list[np.ndarray]) -> None:
    follow = tracker(detector, mesh)
    track = [follow.update(frame) for frame in clip]
    assert len(track) == len(clip)
    assert all(face is None for face in track[EMPTY])
    assert all(face is None for face in track[HIDDEN])
    shown = [face for face in track if face is not None]
    assert len(shown) == 60 - 12 - 10
    anew = [number for number, face in enumerate(track) if face is not None and face.found_anew]
    assert anew == [EMPTY.stop, HIDDEN.stop, OTHER_SHOT.start]
    cuts = [number for number, face in enumerate(track) if face is not None and face.cut]
    assert cuts == [OTHER_SHOT.start], "neither the first face nor a hand before the camera is a cut"
    centre = np.array([face.landmarks.xy.mean(0) for face in track[36:44] if face is not None])
    expected = np.array([[10 * np.sin(n / 4), 5 * np.cos(n / 3)] for n in range(36, 44)])
    np.testing.assert_allclose(centre - centre[0], expected - expected[0], atol=1.5)


def test_eyes_are_looked_at_where_a_face_is_found_anew_and_followed_only_on_demand(
    detector: FaceDetector, mesh: FaceMesh, clip: list[np.ndarray]
) -> None:
    follow = tracker(detector, mesh)
    track = [follow.update(frame, irises=number == 15) for number, frame in enumerate(clip[:20])]
    seen = [face is not None and face.landmarks.has_iris for face in track]
    assert [number for number, eyes in enumerate(seen) if eyes] == [EMPTY.stop, 15]
    assert all(track[EMPTY.stop :]), "the face is followed all the same"


def test_a_clip_without_faces(detector: FaceDetector, mesh: FaceMesh) -> None:
    follow = tracker(detector, mesh)
    assert [follow.update(np.zeros((120, 160, 3), np.uint8)) for _ in range(3)] == [None] * 3


def two_people(portrait: np.ndarray, frame: int, *, hide_left: bool = False) -> np.ndarray:
    """A larger person on the right who comes nearer, a smaller one on the left who sways."""
    canvas = np.full((420, 860, 3), 110, np.uint8)
    right = 330 + 2 * frame
    canvas[: min(420, right), 860 - right :] = cv2.resize(portrait, (right, right))[:420]
    if not hide_left:
        x = round(30 + 20 * np.sin(frame / 3))
        canvas[100:400, x : x + 300] = cv2.resize(portrait, (300, 300))
    return canvas


@pytest.mark.parametrize(("choice", "side"), [("1", "left"), ("170,180", "left"), ("largest", "right")])
def test_stays_with_the_chosen_person(
    detector: FaceDetector, mesh: FaceMesh, portrait: np.ndarray, choice: str, side: str
) -> None:
    follow = tracker(detector, mesh, choice)
    for frame in range(16):
        hidden = side == "left" and 6 <= frame < 10
        face = follow.update(two_people(portrait, frame, hide_left=hidden))
        assert (face is None) == hidden
        if face is not None:
            assert (face.landmarks.xy[:, 0].mean() < 430) == (side == "left")


def test_a_face_that_is_not_there_is_missing_not_an_error(
    detector: FaceDetector, mesh: FaceMesh, portrait: np.ndarray
) -> None:
    follow = tracker(detector, mesh, "3")
    assert follow.update(portrait) is None


def test_drift_is_noticed(detector: FaceDetector, mesh: FaceMesh, portrait: np.ndarray) -> None:
    follow = FaceTracker(detector=detector, mesh=mesh, redetect_every_frames=1)
    faces = [follow.update(swaying(portrait, frame)) for frame in range(4)]
    assert [isinstance(face, TrackedFace) and face.found_anew for face in faces] == [
        True,
        False,
        False,
        False,
    ]


def test_chunks_do_not_matter(detector: FaceDetector, mesh: FaceMesh, clip: list[np.ndarray]) -> None:
    """Two trackers fed in turns with the same networks see what each alone sees."""
    alone = [face.landmarks.points for face in map(tracker(detector, mesh).update, clip[12:18]) if face]
    first, second = tracker(detector, mesh), tracker(detector, mesh)
    turns = []
    for frame, other in zip(clip[12:18], reversed(clip[40:46]), strict=True):
        face = first.update(frame)
        second.update(other)
        assert face is not None
        turns.append(face.landmarks.points)
    np.testing.assert_array_equal(alone, turns)


def test_cuts_but_not_motion_or_light(portrait: np.ndarray) -> None:
    cuts = CutDetector()
    frames = [swaying(portrait, frame) for frame in range(10)]
    frames += [cv2.convertScaleAbs(frames[-1], alpha=1 - 0.05 * step) for step in range(8)]
    assert not any(cuts.is_cut(look_at(frame)) for frame in frames)
    assert cuts.is_cut(look_at(other_shot(portrait, 18)))
    assert not cuts.is_cut(look_at(other_shot(portrait, 19)))


def test_a_shaking_camera_is_not_a_cut() -> None:
    texture = np.random.default_rng(0).integers(0, 255, (14, 14, 3), np.uint8)
    scene = cv2.resize(texture, (560, 560), interpolation=cv2.INTER_CUBIC)
    cuts = CutDetector()
    places = np.random.default_rng(1).integers(0, 60, (30, 2))
    found = [cuts.is_cut(look_at(scene[y : y + 400, x : x + 400])) for x, y in places]
    assert sum(found[1:]) <= 1
