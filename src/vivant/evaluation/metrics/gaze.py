"""Where the eyes look, from irises and eye corners alone: an estimate of the direction relative to the head.

The iris sits on a ball whose radius is a fixed share of the eye's width, so its shift between the corners is
proportional to the sine of the angle. Measured on rendered eyes in docs/evaluation.md.
"""

from __future__ import annotations

import numpy as np

from vivant.evaluation.metrics.expression import in_head_frame
from vivant.face.points import (
    EYE_LEFT_INNER,
    EYE_LEFT_OUTER,
    EYE_RIGHT_INNER,
    EYE_RIGHT_OUTER,
    IRIS_LEFT,
    IRIS_RIGHT,
    NUM_WITH_IRIS,
)

SINE_PER_WIDTH = np.array([2.95, 4.9])
"""Sine of yaw and of pitch per shift of the iris in eye widths, mean of eight rendered people."""
REST = np.array([0.01, -0.062])
"""Shift of the iris from between the corners when the eyes look straight ahead, in eye widths, on the same people."""


def gaze_angles(meshes: np.ndarray) -> np.ndarray:
    """Yaw and pitch (T, 2) of the eyes relative to the head, degrees, from meshes (T, 478, 3).

    Positive yaw looks to image right, positive pitch down. Zero differs between people by some degrees. A row
    with nan gives nan.
    """
    if meshes.shape[1] < NUM_WITH_IRIS:
        raise ValueError(f"gaze needs irises: {NUM_WITH_IRIS} points, got {meshes.shape[1]}")
    placed = in_head_frame(meshes)
    shifts = []
    for first, second, iris in (
        (EYE_LEFT_OUTER, EYE_LEFT_INNER, IRIS_LEFT[0]),
        (EYE_RIGHT_INNER, EYE_RIGHT_OUTER, IRIS_RIGHT[0]),
    ):
        width = np.linalg.norm(placed[:, second] - placed[:, first], axis=1)
        middle = (placed[:, first] + placed[:, second]) / 2
        shifts.append((placed[:, iris, :2] - middle[:, :2]) / width[:, None])
    return np.asarray(np.degrees(np.arcsin(np.clip(SINE_PER_WIDTH * (np.mean(shifts, 0) - REST), -1, 1))))


def gaze_direction(angles: np.ndarray) -> np.ndarray:
    """Unit vectors (T, 3), x to image right, y down, z towards the camera, of yaw and pitch (T, 2) in degrees."""
    yaw, pitch = np.radians(np.asarray(angles, np.float64)).T
    return np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], 1)
