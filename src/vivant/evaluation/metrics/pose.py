"""Head pose that the mouth does not turn: a fit of the skull's points only.

`face.points.head_angles` looks at the chin and at the mouth's corners, so that an open jaw or a smile reads as a nod of
about 4 degrees. Here bridge and tip of the nose, eye corners, temples and the sides of the face are fitted to
a neutral face by rotation, scale and shift (Procrustes; W. Kabsch, 1976). The forehead is left out: in the
mesh it moves with mouth and brows. Measured in docs/evaluation.md.
"""

from __future__ import annotations

import numpy as np

RIGID_POINTS = (
    *(8, 168, 6, 197, 195, 5, 4, 1),
    *(33, 263, 133, 362),
    *(127, 356, 162, 389, 234, 454, 93, 323),
)
"""Indices into the 468-point mesh: nose from glabella to tip; eye corners; temples and sides of the face."""
NEUTRAL = np.array(
    [
        *((0, -0.192, -0.236), (0, -0.084, -0.240), (0, 0.020, -0.295), (0, 0.104, -0.361)),
        *((0, 0.182, -0.431), (0, 0.265, -0.502), (0, 0.367, -0.534), (0, 0.447, -0.513)),
        *((-0.500, 0, 0), (0.500, 0, 0), (-0.209, 0.018, -0.064), (0.209, 0.018, -0.064)),
        *((-0.811, 0.054, 0.578), (0.811, 0.054, 0.578), (-0.803, -0.125, 0.475), (0.803, -0.125, 0.475)),
        *((-0.798, 0.221, 0.617), (0.798, 0.221, 0.617), (-0.783, 0.390, 0.608), (0.783, 0.390, 0.608)),
    ]
)
"""Where the mesh sees RIGID_POINTS on neutral frontal faces, mean of eight rendered people; x right, y down, z away
from the camera, in outer eye distances. The person's own neutral mesh in its place changes correlations by 0.0001."""
GAIN = np.array([1.2, 0.79, 1.0])
"""Degrees that the fit turns per true degree of yaw, pitch and roll, on the same eight people."""


def rigid_pose(meshes: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll (T, 3) in degrees of meshes (T, 468 or more, 3), as `head_angles` counts them.

    Zero differs between people by up to 5 degrees of pitch: compare changes, or one person with himself. A row
    with nan gives nan.
    """
    seen = np.asarray(meshes, np.float64)[:, list(RIGID_POINTS)]
    whole = np.isfinite(seen).all((1, 2))
    angles = np.full((len(seen), 3), np.nan)
    if not whole.any():
        return angles
    centred = seen[whole] - seen[whole].mean(1, keepdims=True)
    covariance = np.einsum("tki,kj->tij", centred, NEUTRAL - NEUTRAL.mean(0))
    left, _, right = np.linalg.svd(covariance)
    # A mirror image is no rotation: its weakest axis is turned round.
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    across, down, backward = np.moveaxis(left @ right, 2, 0)
    yaw = np.arcsin(np.clip(across[:, 2], -1, 1))
    pitch = np.arctan2(down[:, 2], backward[:, 2])
    roll = np.arctan2(-across[:, 1], across[:, 0])
    angles[whole] = np.degrees(np.stack([yaw, pitch, roll], 1)) / GAIN
    return angles


def pose_error(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T,) mean absolute difference of yaw, pitch and roll (T, 3) to the true ones, in degrees."""
    return np.asarray(np.abs(np.asarray(poses, np.float64) - truth).mean(1))
