"""What the 468-point mesh says about the face in each of many pictures: the same ruler for driver and output.

The mesh is an outside judge: it took no part in training and knows nothing of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vivant.evaluation.metrics import rigid_pose
from vivant.face import points as mesh_points
from vivant.face.detect import FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.points import Landmarks
from vivant.face.track import FaceTracker

QUANTITIES = ("yaw", "pitch", "roll", "mouth", "eyes", "yaw_mesh", "pitch_mesh")
"""Degrees of `metrics.rigid_pose`; inner lip distance over outer eye distance; lid gap over eye width, mean of
both eyes. Last, degrees of `head_angles`, in which an open mouth looks like a nod: what protocol real-drive/1 called
yaw and pitch."""


@dataclass(frozen=True)
class FaceSeries:
    """T pictures; rows without a face hold nan."""

    found: np.ndarray
    """bool (T,)."""
    quantities: dict[str, np.ndarray]
    """(T,) each, see QUANTITIES."""
    meshes: np.ndarray
    """(T, 468, 2), pixels."""
    eye_distance: np.ndarray
    """(T,) pixels between the outer eye corners, depth included."""
    landmarks: tuple[Landmarks | None, ...]
    """T, as they were found."""


def follow_faces(pictures: Iterable[np.ndarray]) -> FaceSeries:
    """The largest face of a clip, followed from picture to picture; uint8 RGB (H, W, 3) each."""
    tracker = FaceTracker("largest")
    tracked = [tracker.update(picture) for picture in pictures]
    return _series([None if face is None else face.landmarks for face in tracked])


class FaceFinder:
    """Finds the largest face of single pictures."""

    def __init__(self) -> None:
        self._detector, self._mesh = FaceDetector(), FaceMesh()

    def faces(self, pictures: Sequence[np.ndarray]) -> FaceSeries:
        """The largest face of each picture, uint8 RGB (H, W, 3), looked for anew in each."""
        return _series([self._face(picture) for picture in pictures])

    def _face(self, picture: np.ndarray) -> Landmarks | None:
        faces = self._detector.detect(picture, tiles=False)
        if not faces:
            return None
        return self._mesh.landmarks(picture, max(faces, key=lambda face: face.side_px))


def mouth_opening(landmarks: Landmarks) -> float:
    """Inner lip distance over outer eye distance: unlike the ratio to mouth width, a smile does not change it."""
    at = landmarks.points
    gap = np.linalg.norm(at[mesh_points.LIP_INNER_TOP] - at[mesh_points.LIP_INNER_BOTTOM])
    return float(gap) / max(mesh_points.interocular(landmarks), mesh_points.SHORTEST_PX)


def _series(faces: Sequence[Landmarks | None]) -> FaceSeries:
    def each(measure: Callable[[Landmarks], float]) -> np.ndarray:
        return np.array([float("nan") if face is None else measure(face) for face in faces])

    meshes = np.full((len(faces), mesh_points.NUM_MESH, 3), np.nan, np.float32)
    for index, face in enumerate(faces):
        if face is not None:
            meshes[index] = face.points[: mesh_points.NUM_MESH]
    yaw, pitch, roll = rigid_pose(meshes).T
    return FaceSeries(
        found=np.array([face is not None for face in faces]),
        quantities={
            "yaw": yaw,
            "pitch": pitch,
            "roll": roll,
            "mouth": each(mouth_opening),
            "eyes": each(lambda face: float(np.mean(mesh_points.eye_openness(face)))),
            "yaw_mesh": each(lambda face: mesh_points.head_angles(face)[0]),
            "pitch_mesh": each(lambda face: mesh_points.head_angles(face)[1]),
        },
        meshes=meshes[..., :2],
        eye_distance=each(mesh_points.interocular),
        landmarks=tuple(faces),
    )
