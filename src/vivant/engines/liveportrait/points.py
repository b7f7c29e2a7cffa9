"""The 81 keypoints of the compact networks, by name.

68 points in Multi-PIE order, two pupils, and eleven points on forehead, head, ears and cheeks.
Left and right are the subject's. The published networks learn their own 21 points and do not use this file.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vivant.engines.liveportrait.config_compact import NUM_POINTS as NUM_POINTS

JAW = tuple(range(0, 17))
BROW_RIGHT = tuple(range(17, 22))
BROW_LEFT = tuple(range(22, 27))
NOSE = tuple(range(27, 36))
EYE_RIGHT = tuple(range(36, 42))
EYE_LEFT = tuple(range(42, 48))
LIPS_OUTER = tuple(range(48, 60))
LIPS_INNER = tuple(range(60, 68))
PUPIL_LEFT = 68
PUPIL_RIGHT = 69
HEAD = tuple(range(70, 81))

EYE_OUTER_RIGHT, EYE_OUTER_LEFT = 36, 45
LIP_TOP_INNER, LIP_BOTTOM_INNER = 62, 66
LIP_CORNER_RIGHT, LIP_CORNER_LEFT = 60, 64

LIPS = LIPS_OUTER + LIPS_INNER
MOUTH_REGION = LIPS + tuple(range(2, 15))
"""What the mouth network reports: lips and the moving part of the jaw line."""
EYE_REGION_RIGHT = EYE_RIGHT + BROW_RIGHT + (PUPIL_RIGHT,)
EYE_REGION_LEFT = (45, 44, 43, 42, 47, 46, 26, 25, 24, 23, 22, PUPIL_LEFT)
"""The mirror image of EYE_REGION_RIGHT, point by point, so that one network serves both eyes."""

# Closed or open polylines that are drawn as conditioning pictures: (points, closed).
CONTOURS: tuple[tuple[tuple[int, ...], bool], ...] = (
    (EYE_RIGHT, True),
    (EYE_LEFT, True),
    ((PUPIL_RIGHT,), False),
    ((PUPIL_LEFT,), False),
    (BROW_RIGHT, False),
    (BROW_LEFT, False),
    (NOSE[:4], False),
    (NOSE[4:], False),
    (LIPS_OUTER, True),
    (LIPS_INNER, True),
    (JAW, False),
)
CONTOUR_STEPS = 4


def contour_weights() -> tuple[Tensor, list[int]]:
    """Matrix (P, 81) that turns keypoints into P points along all contours, and the points per contour."""
    rows: list[Tensor] = []
    counts: list[int] = []
    eye = torch.eye(NUM_POINTS)
    for points, closed in CONTOURS:
        segments = list(zip(points, points[1:] + points[:1] if closed else points[1:], strict=False))
        contour = [
            eye[a] * (1 - step / CONTOUR_STEPS) + eye[b] * (step / CONTOUR_STEPS)
            for a, b in segments
            for step in range(CONTOUR_STEPS)
        ]
        if not closed:
            contour.append(eye[points[-1]])
        rows += contour
        counts.append(len(contour))
    return torch.stack(rows), counts


def openness(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right eye, left eye and lip opening ratios, each (T,), of keypoints (T, 81, 2 or more)."""
    p = points[..., :2]

    def gap(a: int, b: int) -> Tensor:
        return (p[..., a, :] - p[..., b, :]).norm(dim=-1)

    right = (gap(37, 41) + gap(38, 40)) / (2 * gap(36, 39) + 1e-6)
    left = (gap(43, 47) + gap(44, 46)) / (2 * gap(42, 45) + 1e-6)
    lips = gap(LIP_TOP_INNER, LIP_BOTTOM_INNER) / (gap(LIP_CORNER_RIGHT, LIP_CORNER_LEFT) + 1e-6)
    return right, left, lips
