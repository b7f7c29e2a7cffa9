"""Are edits independent? Each control over its range, and what the face mesh then says about every part of the face.

The mesh is an outside judge: it knows nothing of keypoints or shapes. Lengths are in distances of the outer eye
corners, openness is lid distance over eye width. Left and right are the person's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vivant.controls import LIMITS, Controls
from vivant.editing import Editor
from vivant.evaluation.faces import FaceFinder
from vivant.evaluation.metrics import rigid_pose
from vivant.face import points as mesh
from vivant.face.points import Landmarks, eye_openness, interocular, pupils

NOSE_BRIDGE = 168

OWN: Mapping[str, tuple[str, int]] = {
    "pitch": ("pitch", 1),
    "yaw": ("yaw", 1),
    "roll": ("roll", 1),
    "x": ("head x", 1),
    "y": ("head y", 1),
    "scale": ("head size", 1),
    "blink": ("eyes open", -1),
    "wink_left": ("left eye open", -1),
    "wink_right": ("right eye open", -1),
    "gaze_x": ("gaze x", 1),
    "gaze_y": ("gaze y", 1),
    "brows": ("brows", 1),
    "smile": ("corners up", 1),
    "aa": ("lips apart", 1),
    "ee": ("mouth width", 1),
    "oo": ("mouth width", -1),
    "lip_open": ("lips apart", 1),
    "grimace": ("lower lip down", 1),
    "pout": ("lower lip down", -1),
    "purse": ("lip height", -1),
    "mouth_x": ("mouth x", 1),
    "mouth_y": ("mouth y", 1),
}
"""Which measure a control is about, and whether more of it is more (1) or less (-1)."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "head": ("pitch", "yaw", "roll", "head x", "head y", "head size"),
    "left lids": ("left eye open",),
    "right lids": ("right eye open",),
    "gaze": ("gaze x", "gaze y"),
    "brows": ("brows",),
    "mouth": (
        "corners up", "lips apart", "mouth width", "lower lip down", "lip height", "mouth x", "mouth y",
    ),
}  # fmt: skip
"""Measures that belong together: sliders of one mouth move one mouth."""
SEEN_FROM_ANYWHERE = ("left eye open", "right eye open", "lips apart")
"""Measures that a turned head does not change by itself, more or less: asked of controls that move the head."""
UNITS: Mapping[str, float] = {
    "pitch": 10.0, "yaw": 10.0, "roll": 10.0, "head x": 0.1, "head y": 0.1, "head size": 0.1,
    "left eye open": 0.25, "right eye open": 0.25, "gaze x": 0.3, "gaze y": 0.2, "brows": 0.1,
    "corners up": 0.1, "lips apart": 0.3, "mouth width": 0.2, "lower lip down": 0.2, "lip height": 0.1,
    "mouth x": 0.1, "mouth y": 0.1,
}  # fmt: skip
"""What counts as a clear change of each: the unit in which changes are compared."""


@dataclass(frozen=True)
class Sweep:
    """One control over its range, on one portrait."""

    control: str
    values: tuple[float, ...]
    measured: Mapping[str, np.ndarray]
    """By measure, one number per value; nan where the mesh saw no face."""

    @property
    def own(self) -> np.ndarray:
        """What the control is about, so that more of the control should be more."""
        name, sign = OWN[self.control]
        if name == "eyes open":
            return sign * (self.measured["left eye open"] + self.measured["right eye open"]) / 2
        return sign * self.measured[name]

    @property
    def own_span(self) -> float:
        """Change of its own measure over the range, in the measure's units."""
        name = OWN[self.control][0]
        unit = UNITS["left eye open" if name == "eyes open" else name]
        return float(self.own[-1] - self.own[0]) / unit

    @property
    def elsewhere(self) -> tuple[float, str]:
        """The largest change of any measure of another group against the unedited face, in units; and whose."""
        still = self.values.index(0.0)
        others = [name for names in GROUPS.values() if not self._is_about(names) for name in names]
        if OWN[self.control][0] in GROUPS["head"]:
            others = [name for name in others if name in SEEN_FROM_ANYWHERE]
        changes = {
            n: float(np.nanmax(np.abs(self.measured[n] - self.measured[n][still]))) / UNITS[n] for n in others
        }
        worst = max(changes, key=lambda name: changes[name])
        return changes[worst], worst

    def _is_about(self, names: Sequence[str]) -> bool:
        own = OWN[self.control][0]
        return own in names or (own == "eyes open" and names[0] in ("left eye open", "right eye open"))


def sweep(editor: Editor, control: str, steps: int = 5) -> Sweep:
    """Draw a control at `steps` values over its range, zero among them, and measure. `steps` is odd."""
    low, high = LIMITS.get(control, (-1.0, 1.0))
    values = tuple(float(value) for value in np.linspace(low, high, steps))
    if 0.0 not in values:
        raise ValueError(f"an odd number of steps, so that zero is among them, got {steps}")
    found = FaceFinder().faces([editor.apply(Controls(**{control: value})) for value in values])
    unit = float(found.eye_distance[values.index(0.0)])
    rows = [measures(face, unit) if face is not None else {} for face in found.landmarks]
    names = [name for group in GROUPS.values() for name in group]
    return Sweep(control, values, {n: np.array([row.get(n, np.nan) for row in rows]) for n in names})


def measures(face: Landmarks, still_unit: float) -> dict[str, float]:
    """Every number of GROUPS for one face; still_unit: outer eye distance of the unedited face in pixels."""
    at, unit = face.points.astype(np.float64), interocular(face)
    yaw, pitch, roll = rigid_pose(face.points[None])[0].tolist()
    image_left, image_right = eye_openness(face)
    corners = at[[mesh.EYE_LEFT_OUTER, mesh.EYE_RIGHT_OUTER]]
    along = (corners[1] - corners[0])[:2] / np.linalg.norm((corners[1] - corners[0])[:2])
    down = np.array([-along[1], along[0]])
    middle = at[
        [mesh.EYE_LEFT_OUTER, mesh.EYE_LEFT_INNER, mesh.EYE_RIGHT_INNER, mesh.EYE_RIGHT_OUTER], :2
    ].mean(0)

    def place(indices: Sequence[int], axis: np.ndarray) -> float:
        return float((at[list(indices), :2].mean(0) - middle) @ axis) / unit

    lips = (mesh.LIP_LEFT_CORNER, mesh.LIP_RIGHT_CORNER)
    edges = (mesh.LIP_OUTER_TOP, mesh.LIP_OUTER_BOTTOM)
    inner = (mesh.LIP_INNER_TOP, mesh.LIP_INNER_BOTTOM)
    apart = float(np.linalg.norm(at[inner[0]] - at[inner[1]])) / unit
    gaze = (pupils(face) - corner_middles(at)).mean(0) / unit
    return {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "head x": float(at[NOSE_BRIDGE, 0]) / still_unit,
        "head y": float(at[NOSE_BRIDGE, 1]) / still_unit,
        "head size": float(np.log(unit)),
        "left eye open": image_right,
        "right eye open": image_left,
        "gaze x": 4 * float(gaze @ along),
        "gaze y": 4 * float(gaze @ down),
        "brows": -place((*mesh.BROW_LEFT, *mesh.BROW_RIGHT), down),
        "corners up": place(edges, down) - place(lips, down),
        "lips apart": apart,
        "mouth width": float(np.linalg.norm(at[lips[1]] - at[lips[0]])) / unit,
        "lower lip down": place(edges[1:], down),
        "lip height": float(np.linalg.norm(at[edges[1]] - at[edges[0]])) / unit - apart,
        "mouth x": place(lips, along),
        "mouth y": place(lips, down),
    }


def corner_middles(at: np.ndarray) -> np.ndarray:
    """(2, 2): between the corners of the image-left and the image-right eye."""
    left = at[[mesh.EYE_LEFT_OUTER, mesh.EYE_LEFT_INNER], :2].mean(0)
    right = at[[mesh.EYE_RIGHT_INNER, mesh.EYE_RIGHT_OUTER], :2].mean(0)
    return np.stack([left, right])
