"""What an engine's own networks read from a driving clip, in the words of the face mesh.

Following a driver has two halves, seeing and drawing. Where the output does not follow, this tells which half fails.
"""

from __future__ import annotations

import numpy as np
import torch

from vivant.engine import Engine
from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.evaluation.faces import QUANTITIES, measured, series_of
from vivant.evaluation.reenact import Seen, look_at
from vivant.face.points import Landmarks
from vivant.face.window import DrivingWindow


class DriverReading:
    """Reads the quantities of `faces.QUANTITIES` from the crops that `animate` would cut, frame after frame."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine if isinstance(engine, LivePortrait) else None
        self._window = DrivingWindow(engine.crop_size_px, engine.driving_crop)
        self._rows: list[tuple[float, ...]] = []

    def update(self, frame: np.ndarray, face: Landmarks | None) -> None:
        """The next frame, uint8 RGB (H, W, 3), with the face found in it."""
        if self._engine is None:
            return
        if face is None:
            self._rows.append(measured(None))
            return
        crop = self._window.update(face).crop.apply(frame)
        seen = look_at(self._engine, torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255)
        if not seen.is_named:
            self._engine = None
            return
        named = _quantities(seen)
        self._rows.append(tuple(named[name] for name in QUANTITIES))

    @property
    def quantities(self) -> dict[str, np.ndarray] | None:
        """(T,) each, nan without a face; None for engines whose keypoints have no names."""
        return None if self._engine is None else series_of(self._rows).quantities


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
