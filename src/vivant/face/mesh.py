"""The 468-point face mesh and the irises, from a picture and a first idea of where the face is.

The networks see upright squares around the face and around each eye, as in mediapipe (Kartynnik et al.,
"Real-time Facial Surface Geometry", 2019; Ablavatski et al., "Real-time Pupil Tracking", 2020).
"""

from __future__ import annotations

import numpy as np

from vivant.face import points as mesh
from vivant.face.crop import Crop, upright_crop
from vivant.face.detect import Detection
from vivant.face.models import IRIS, MESH, FaceNetwork
from vivant.face.points import Landmarks

__all__ = ["FaceMesh", "Landmarks"]

FACE_PX = 192
FACE_SCALE = 1.5
EYE_PX = 64
EYE_SCALE = 2.3
MIN_FACE_SCORE = 0.5
SHORTEST_EYE_LINE_PX = 1e-3

# The eye network lists its eye contour first: lower lid from corner to corner, then the upper lid inward.
EYE_CONTOUR_LEFT = (
    mesh.EYE_LEFT_OUTER,
    *mesh.LID_LEFT_LOWER,
    mesh.EYE_LEFT_INNER,
    *mesh.LID_LEFT_UPPER,
)
EYE_CONTOUR_RIGHT = (
    mesh.EYE_RIGHT_OUTER,
    *reversed(mesh.LID_RIGHT_LOWER),
    mesh.EYE_RIGHT_INNER,
    *reversed(mesh.LID_RIGHT_UPPER),
)


class FaceMesh:
    """The mesh and eye networks. They are not thread-safe: one mesh per thread."""

    def __init__(self, *, with_iris: bool = True, min_score: float = MIN_FACE_SCORE) -> None:
        self._face_network = FaceNetwork(MESH)
        self._eye_network = FaceNetwork(IRIS) if with_iris else None
        self.min_score = min_score

    def landmarks(
        self, image: np.ndarray, where: Detection | Landmarks, *, irises: bool = True
    ) -> Landmarks | None:
        """Points of the face near `where` in a uint8 RGB picture; None if there is no face in that place.

        irises: look at the eyes too, which takes twice as long as the face; without, lids are as the mesh has them.
        """
        if isinstance(where, Detection):
            # The detector's box sits differently on the face than the mesh's own: look twice.
            first = self._mesh(image, _detected_crop(where))
            if first is None:
                return None
            where = first
        found = self._mesh(image, _tracked_crop(where))
        if found is None or self._eye_network is None or not irises:
            return found
        return self._with_irises(image, found)

    def _mesh(self, image: np.ndarray, crop: Crop) -> Landmarks | None:
        coordinates, flag = self._face_network(_scaled(crop.apply(image)), "conv2d_21", "conv2d_31")
        score = float(1 / (1 + np.exp(-np.clip(flag.item(), -80, 80))))
        if score < self.min_score:
            return None
        return Landmarks(_to_image(crop, coordinates.reshape(mesh.NUM_MESH, 3)), score)

    def _with_irises(self, image: np.ndarray, face: Landmarks) -> Landmarks:
        points = np.concatenate([face.points, np.empty((mesh.NUM_IRIS, 3), np.float32)])
        left = (mesh.EYE_LEFT_OUTER, mesh.EYE_LEFT_INNER)
        right = (mesh.EYE_RIGHT_INNER, mesh.EYE_RIGHT_OUTER)
        for corners, contour, iris, mirrored in (
            (left, EYE_CONTOUR_LEFT, mesh.IRIS_LEFT, False),
            (right, EYE_CONTOUR_RIGHT, mesh.IRIS_RIGHT, True),
        ):
            ends = face.xy[list(corners)]
            side = EYE_SCALE * float(np.linalg.norm(ends[1] - ends[0]))
            crop = upright_crop(ends.mean(0), side, ends, EYE_PX)
            contour_points, iris_points = self._eye(image, crop, mirrored)
            # The eye network sees the lids better than the mesh does; it knows no depth, so that is kept.
            points[list(contour), :2] = contour_points[:, :2]
            points[list(iris), :2] = iris_points[:, :2]
            points[list(iris), 2] = face.points[list(corners), 2].mean()
        return Landmarks(points, face.score)

    def _eye(self, image: np.ndarray, crop: Crop, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        """Eye contour (16, 3) and iris (5, 3) in the picture; the network knows image-left eyes only."""
        assert self._eye_network is not None
        picture = crop.apply(image)
        seen = _scaled(picture[:, ::-1] if mirrored else picture)
        contour, iris = self._eye_network(seen, "output_eyes_contours_and_brows", "output_iris")
        contour, iris = contour.reshape(-1, 3)[: len(EYE_CONTOUR_LEFT)], iris.reshape(-1, 3)
        if mirrored:
            contour, iris = (rows * [-1, 1, 1] + [EYE_PX, 0, 0] for rows in (contour, iris))
        return _to_image(crop, contour), _to_image(crop, iris)


def _detected_crop(detection: Detection) -> Crop:
    eyes = np.array([detection.eye_left, detection.eye_right])
    return upright_crop(np.array(detection.centre), FACE_SCALE * detection.side_px, eyes, FACE_PX)


def _tracked_crop(face: Landmarks) -> Crop:
    """Square around known points, measured along the eye line so that a tilt does not enlarge it."""
    eyes = face.xy[[mesh.EYE_LEFT_OUTER, mesh.EYE_RIGHT_OUTER]]
    along = (eyes[1] - eyes[0]) / max(float(np.linalg.norm(eyes[1] - eyes[0])), SHORTEST_EYE_LINE_PX)
    axes = np.stack([along, [-along[1], along[0]]])
    turned = face.xy[: mesh.NUM_MESH] @ axes.T
    low, high = turned.min(0), turned.max(0)
    return upright_crop((low + high) / 2 @ axes, FACE_SCALE * float((high - low).max()), eyes, FACE_PX)


def _scaled(picture: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [0, 1]."""
    return picture * np.float32(1 / 255)


def _to_image(crop: Crop, coordinates: np.ndarray) -> np.ndarray:
    """Network coordinates (N, 3), counted from the crop's edge, in pixels of the picture; float32."""
    ratio = crop.side_px / crop.size_px
    xy = crop.to_image(coordinates[:, :2] - 0.5)
    return np.concatenate([xy, coordinates[:, 2:] * ratio], axis=1).astype(np.float32)
