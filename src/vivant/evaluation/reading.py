"""What an engine's own networks read from a driving clip, in the words of the face mesh.

Following a driver has two halves, seeing and drawing. Where the output does not follow, this tells which half fails.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vivant.engine import Engine
from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.evaluation.faces import FaceSeries
from vivant.evaluation.reenact import Seen, look_at
from vivant.face.window import DrivingWindow


def read_driver(
    engine: Engine, frames: Sequence[np.ndarray], faces: FaceSeries
) -> dict[str, np.ndarray] | None:
    """The quantities of `faces.QUANTITIES`, (T,) each, nan without a face, from the crops that `animate` would cut.

    None for engines whose keypoints have no names.
    """
    if not isinstance(engine, LivePortrait):
        return None
    window = DrivingWindow(engine.crop_size_px)
    rows: list[dict[str, float] | None] = []
    for frame, landmarks in zip(frames, faces.landmarks, strict=True):
        if landmarks is None:
            rows.append(None)
            continue
        crop = window.update(landmarks).crop.apply(frame)
        seen = look_at(engine, torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255)
        if not seen.is_named:
            return None
        rows.append(_quantities(seen))
    return {
        name: np.array([float("nan") if row is None else row[name] for row in rows])
        for name in faces.quantities
    }


def _quantities(seen: Seen) -> dict[str, float]:
    """Of one picture. The networks count yaw and roll the other way round than the mesh."""
    right, left, _ = points.openness(seen.keypoints)
    at = seen.keypoints[0, :, :2]
    lips = (at[points.LIP_TOP_INNER] - at[points.LIP_BOTTOM_INNER]).norm()
    eyes = (at[points.EYE_OUTER_RIGHT] - at[points.EYE_OUTER_LEFT]).norm()
    yaw, pitch = -seen.motion.yaw.item(), seen.motion.pitch.item()
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": -seen.motion.roll.item(),
        "mouth": (lips / eyes).item(),
        "eyes": ((right + left) / 2).item(),
        "yaw_mesh": yaw,
        "pitch_mesh": pitch,
    }
