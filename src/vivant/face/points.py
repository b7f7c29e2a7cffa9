"""Names for the points of the face mesh, and simple measures taken from them.

The mesh has 468 points and, with irises, 478. Left and right are **as seen in the picture** (image left is
the person's right side), which is also the order of the published 106- and 203-point sets and of Multi-PIE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_MESH = 468
NUM_IRIS = 10
NUM_WITH_IRIS = NUM_MESH + NUM_IRIS
SHORTEST_PX = 1e-6

# Single points.
FOREHEAD_TOP = 10
CHIN = 152
NOSE_TIP = 1
NOSE_BASE = 2
FACE_SIDE_LEFT, FACE_SIDE_RIGHT = 234, 454
EYE_LEFT_OUTER, EYE_LEFT_INNER = 33, 133
EYE_RIGHT_INNER, EYE_RIGHT_OUTER = 362, 263
LIP_LEFT_CORNER, LIP_RIGHT_CORNER = 61, 291
LIP_INNER_LEFT, LIP_INNER_RIGHT = 78, 308
LIP_INNER_TOP, LIP_INNER_BOTTOM = 13, 14
LIP_OUTER_TOP, LIP_OUTER_BOTTOM = 0, 17

# Lids from image left to image right, without the corners; upper[i] faces lower[i].
LID_LEFT_UPPER = (246, 161, 160, 159, 158, 157, 173)
LID_LEFT_LOWER = (7, 163, 144, 145, 153, 154, 155)
LID_RIGHT_UPPER = (398, 384, 385, 386, 387, 388, 466)
LID_RIGHT_LOWER = (382, 381, 380, 374, 373, 390, 249)
# The three middle pairs say how open an eye is.
MIDDLE_OF_LID = slice(2, 5)

EYE_LEFT = (EYE_LEFT_OUTER, *LID_LEFT_UPPER, EYE_LEFT_INNER, *reversed(LID_LEFT_LOWER))
EYE_RIGHT = (EYE_RIGHT_INNER, *LID_RIGHT_UPPER, EYE_RIGHT_OUTER, *reversed(LID_RIGHT_LOWER))

BROW_LEFT = (70, 63, 105, 66, 107)
BROW_RIGHT = (336, 296, 334, 293, 300)

LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)

# Each iris: centre, then its edge on the nose's side, top, on the ear's side, bottom.
IRIS_LEFT = (468, 469, 470, 471, 472)
IRIS_RIGHT = (473, 474, 475, 476, 477)

# Ear to chin to ear.
JAW = (127, 234, 93, 132, 172, 136, 149, 148, 152, 377, 378, 365, 397, 361, 323, 454, 356)

# Multi-PIE 68-point order: jaw, brows, nose bridge, nose base, eyes, outer lip, inner lip.
MULTI_PIE_68 = (
    *JAW,
    *BROW_LEFT,
    *BROW_RIGHT,
    *(168, 197, 5, 4),
    *(98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144),
    *(362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 81, 13, 311, 308, 402, 14, 178),
)

# In the published 203 points: upper and lower middle, then the two corners.
LIDS_203_LEFT = (6, 18, 0, 12)
LIDS_203_RIGHT = (30, 42, 24, 36)
LIPS_203 = (90, 102, 48, 66)

# Mirror pairs (image left, image right) that span the face: they give its horizontal axis.
MIRROR_PAIRS = (
    (EYE_LEFT_OUTER, EYE_RIGHT_OUTER),
    (EYE_LEFT_INNER, EYE_RIGHT_INNER),
    (LIP_LEFT_CORNER, LIP_RIGHT_CORNER),
    (FACE_SIDE_LEFT, FACE_SIDE_RIGHT),
    (127, 356),
)


@dataclass(frozen=True)
class Landmarks:
    """The points of one face in one picture."""

    points: np.ndarray
    """float32 (478, 3), or (468, 3) without irises: x and y in pixels of the picture, z in the same unit
    (smaller is nearer to the camera, 0 about the middle of the head)."""
    score: float
    """How sure the mesh network is that this is a face, 0 to 1."""

    def __post_init__(self) -> None:
        if self.points.shape not in ((NUM_MESH, 3), (NUM_WITH_IRIS, 3)) or self.points.dtype != np.float32:
            raise ValueError(
                f"landmarks are float32 (468 or 478, 3), got {self.points.dtype} {self.points.shape}"
            )

    def __repr__(self) -> str:
        x0, y0, x1, y1 = (round(edge) for edge in self.box)
        return f"Landmarks({len(self.points)} points in {x0},{y0}..{x1},{y1}, score={self.score:.2f})"

    @property
    def has_iris(self) -> bool:
        return len(self.points) == NUM_WITH_IRIS

    @property
    def xy(self) -> np.ndarray:
        """float32 (num_points, 2)."""
        return self.points[:, :2]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around the mesh, forehead to chin."""
        low, high = self.xy[:NUM_MESH].min(0), self.xy[:NUM_MESH].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def eye_openness(landmarks: Landmarks) -> tuple[float, float]:
    """Lid distance over eye width, image-left then image-right eye: about 0.05 closed, 0.3 open."""
    points = landmarks.points
    return (
        _openness(points, LID_LEFT_UPPER, LID_LEFT_LOWER, EYE_LEFT_OUTER, EYE_LEFT_INNER),
        _openness(points, LID_RIGHT_UPPER, LID_RIGHT_LOWER, EYE_RIGHT_INNER, EYE_RIGHT_OUTER),
    )


def lip_openness(landmarks: Landmarks) -> float:
    """Inner lip distance over mouth width: 0 closed, above 0.5 wide open."""
    points = landmarks.points
    return _length(points[LIP_INNER_TOP] - points[LIP_INNER_BOTTOM]) / max(
        _length(points[LIP_LEFT_CORNER] - points[LIP_RIGHT_CORNER]), SHORTEST_PX
    )


def published_ratios(points_203: np.ndarray) -> tuple[float, float, float]:
    """Openness of both eyes and the lips from the published 203 points: image left, image right, lips.

    `eye_openness` and `lip_openness` measure the same things on our mesh.
    """
    left, right, lips = (
        _length(points_203[a] - points_203[b]) / (_length(points_203[c] - points_203[d]) + SHORTEST_PX)
        for a, b, c, d in (LIDS_203_LEFT, LIDS_203_RIGHT, LIPS_203)
    )
    return left, right, lips


def pupils(landmarks: Landmarks) -> np.ndarray:
    """float32 (2, 2): image-left and image-right pupil; without irises the middle of each eye's corners."""
    if landmarks.has_iris:
        return landmarks.xy[[IRIS_LEFT[0], IRIS_RIGHT[0]]]
    left = landmarks.xy[[EYE_LEFT_OUTER, EYE_LEFT_INNER]].mean(0)
    right = landmarks.xy[[EYE_RIGHT_INNER, EYE_RIGHT_OUTER]].mean(0)
    return np.stack([left, right])


def interocular(landmarks: Landmarks) -> float:
    """Distance of the outer eye corners in pixels, depth included, so that yaw shortens it little."""
    points = landmarks.points
    return _length(points[EYE_RIGHT_OUTER] - points[EYE_LEFT_OUTER])


def head_angles(landmarks: Landmarks) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees, estimated from the mesh.

    Positive yaw turns the nose to image right, positive pitch down, positive roll counter-clockwise.
    """
    points = landmarks.points.astype(np.float64)
    left, right = (points[list(side)].mean(0) for side in zip(*MIRROR_PAIRS, strict=True))
    across = (right - left) / np.linalg.norm(right - left)
    down = points[CHIN] - points[FOREHEAD_TOP]
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    # The axes of the head are the columns of roll * yaw * pitch; x right, y down, z away from the camera.
    backward = np.cross(across, down)
    yaw = np.degrees(np.arcsin(np.clip(across[2], -1, 1)))
    pitch = np.degrees(np.arctan2(down[2], backward[2]))
    roll = np.degrees(np.arctan2(-across[1], across[0]))
    return float(yaw), float(pitch), float(roll)


def to_68(landmarks: Landmarks) -> np.ndarray:
    """float32 (70, 2): the Multi-PIE 68 points, then the pupils (image left, image right)."""
    return np.concatenate([landmarks.xy[list(MULTI_PIE_68)], pupils(landmarks)])


def _openness(
    points: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...], corner_a: int, corner_b: int
) -> float:
    gaps = np.linalg.norm(points[list(upper[MIDDLE_OF_LID])] - points[list(lower[MIDDLE_OF_LID])], axis=1)
    return float(gaps.mean()) / max(_length(points[corner_a] - points[corner_b]), SHORTEST_PX)


def _length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector))
