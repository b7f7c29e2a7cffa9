"""What the 468-point mesh says about the face in each of many pictures: the same ruler for driver and output.

The mesh is an outside judge: it took no part in training and knows nothing of the engine. Of a clip a few numbers per
picture are kept, never pictures or meshes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vivant.evaluation.metrics import jitter, rigid_pose
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


@dataclass(frozen=True)
class FoundFaces(FaceSeries):
    """Few pictures, with the faces themselves."""

    landmarks: tuple[Landmarks | None, ...]
    """T, as they were found."""

    @property
    def meshes(self) -> np.ndarray:
        """(T, 468, 2), pixels."""
        none = np.full((mesh_points.NUM_MESH, 2), np.nan, np.float32)
        return np.stack(
            [none if face is None else face.xy[: mesh_points.NUM_MESH] for face in self.landmarks]
        )

    @property
    def eye_distance(self) -> np.ndarray:
        """(T,) pixels between the outer eye corners, depth included."""
        return np.array(
            [float("nan") if face is None else mesh_points.interocular(face) for face in self.landmarks]
        )


class FaceWatch:
    """Follows the largest face of a clip from picture to picture."""

    def __init__(self) -> None:
        self._tracker = FaceTracker("largest")
        self._rows: list[tuple[float, ...]] = []
        self._jitter = Jitter()

    def update(self, picture: np.ndarray) -> Landmarks | None:
        """The face in the next picture, uint8 RGB (H, W, 3); None where there is none."""
        tracked = self._tracker.update(picture)
        face = None if tracked is None else tracked.landmarks
        self._rows.append(measured(face))
        self._jitter.update(face)
        return face

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def series(self) -> FaceSeries:
        return series_of(self._rows)

    @property
    def jitter(self) -> float:
        """See Jitter."""
        return self._jitter.value


class Jitter:
    """Second difference of the mesh in thousandths of the outer eye distance, over three faces in a row."""

    def __init__(self) -> None:
        self._last: list[np.ndarray] = []
        self._sum, self._distance = 0.0, 0.0
        self._count = self._num_faces = 0

    def update(self, face: Landmarks | None) -> None:
        if face is None:
            self._last.clear()
            return
        self._last.append(face.xy[: mesh_points.NUM_MESH].astype(np.float64))
        self._distance += mesh_points.interocular(face)
        self._num_faces += 1
        if len(self._last) == 3:
            self._sum += jitter(np.stack(self._last))
            self._count += 1
            self._last.pop(0)

    @property
    def value(self) -> float:
        """nan where no three faces came in a row."""
        if not self._count:
            return float("nan")
        return 1000 * (self._sum / self._count) / (self._distance / self._num_faces)


class FaceFinder:
    """Finds the largest face of single pictures."""

    def __init__(self) -> None:
        self._detector, self._mesh = FaceDetector(), FaceMesh()

    def faces(self, pictures: Sequence[np.ndarray]) -> FoundFaces:
        """The largest face of each picture, uint8 RGB (H, W, 3), looked for anew in each."""
        found = [self.find(picture) for picture in pictures]
        series = series_of([measured(face) for face in found])
        return FoundFaces(series.found, series.quantities, tuple(found))

    def find(self, picture: np.ndarray) -> Landmarks | None:
        """The face in an uint8 RGB picture (H, W, 3); None where there is none."""
        faces = self._detector.detect(picture, tiles=False)
        if not faces:
            return None
        return self._mesh.landmarks(picture, max(faces, key=lambda face: face.side_px))


def mouth_opening(landmarks: Landmarks) -> float:
    """Inner lip distance over outer eye distance: unlike the ratio to mouth width, a smile does not change it."""
    at = landmarks.points
    gap = np.linalg.norm(at[mesh_points.LIP_INNER_TOP] - at[mesh_points.LIP_INNER_BOTTOM])
    return float(gap) / max(mesh_points.interocular(landmarks), mesh_points.SHORTEST_PX)


def measured(face: Landmarks | None) -> tuple[float, ...]:
    """The values of QUANTITIES, nan without a face."""
    if face is None:
        return (float("nan"),) * len(QUANTITIES)
    yaw, pitch, roll = rigid_pose(face.points[None])[0].tolist()
    eyes = float(np.mean(mesh_points.eye_openness(face)))
    yaw_mesh, pitch_mesh, _ = mesh_points.head_angles(face)
    return (yaw, pitch, roll, mouth_opening(face), eyes, yaw_mesh, pitch_mesh)


def series_of(rows: Sequence[tuple[float, ...]]) -> FaceSeries:
    """T rows of `measured`."""
    values = np.array(rows, np.float64).reshape(-1, len(QUANTITIES))
    return FaceSeries(
        found=np.asarray(np.isfinite(values).all(1)),
        quantities={name: values[:, column] for column, name in enumerate(QUANTITIES)},
    )
