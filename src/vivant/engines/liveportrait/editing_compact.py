"""What the compact networks make of the Controls: shapes of the face model, mixed, fitted to the portrait, bounded.

The shapes (`face_shapes`) are full blendshapes of ICT-FaceKit; each
touches its own part of the face, and so sliders are independent. Lids and lips that close are fitted to the portrait:
closed is closed, however far they were open. Legend: K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vivant.controls import Controls
from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config_compact import NUM_POINTS
from vivant.engines.liveportrait.face_shapes import shapes
from vivant.engines.liveportrait.motion import Motion

RECIPES: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
    "gaze_x": ({"lookRight": 0.8}, {"lookLeft": 0.8}),
    "gaze_y": ({"lookDown": 0.8}, {"lookUp": 0.8}),
    "brows": ({"browInnerUp": 1.0, "browOuterUp": 1.0}, {"browDown": 1.6}),
    "smile": ({"mouthSmile": 1.0}, {"mouthFrown": 1.6}),
    "aa": ({"jawOpen": 0.5, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2}, {}),
    "ee": (
        {"mouthStretch": 0.9, "mouthSmile": 0.3, "mouthLowerDown": 0.6, "mouthUpperUp": 0.3, "jawOpen": 0.05},
        {},
    ),
    "oo": ({"mouthPucker": 1.2, "mouthFunnel": 0.4}, {}),
    "lip_open": ({"jawOpen": 0.6}, {}),
    "grimace": ({"mouthStretch": 0.8, "mouthLowerDown": 1.2}, {}),
    "pout": ({"mouthShrugLower": 1.2, "mouthPucker": 0.4}, {}),
    "purse": ({"mouthPress": 1.0, "mouthRollLower": 0.6, "mouthRollUpper": 0.6}, {}),
    "mouth_x": ({"mouthLeft": 0.7}, {"mouthRight": 0.7}),
}
"""Weights of shapes at 1 and at -1; where nothing is said for -1, half of the opposite. Left is the person's."""
BACKWARDS = 0.5
MOUTH = ("smile", "aa", "ee", "oo", "lip_open", "grimace", "pout", "purse")
MOST_MOUTH = 1.4
"""Mouth shapes together; more is held at this, in proportion."""
WIDE = 1.0
"""Weight of wide eyes at blink -1."""
MOUTH_Y = 0.06
"""How far the lips move up or down at 1, 10 cm."""

EYES = (
    ("R", (36, 39), ((37, 41), (38, 40))),
    ("L", (45, 42), ((44, 46), (43, 47))),
)
"""The person's right and left eye: outer and inner corner, pairs of upper and lower lid points."""
BROW_POINTS = (*points.BROW_RIGHT, *points.BROW_LEFT)
EYE_POINTS = (*points.EYE_RIGHT, *points.EYE_LEFT, points.PUPIL_LEFT, points.PUPIL_RIGHT)
FOREHEAD, CHEEKS, NOSE_WINGS = points.HEAD[:3], points.HEAD[8:10], points.NOSE[4:]
PARTS = {
    "gaze_x": EYE_POINTS,
    "gaze_y": EYE_POINTS,
    "brows": (*BROW_POINTS, *FOREHEAD),
}
MOUTH_PART = (*points.LIPS, *points.JAW[3:14], *NOSE_WINGS, *CHEEKS)
"""What each control may move. A smile lifts lower lids and brows draw at the nose: other sliders' business."""
BELOW_EYES = tuple(k for k in range(NUM_POINTS) if k not in (*BROW_POINTS, *EYE_POINTS))
UPPER_LIP = {49: 0.5, 50: 1.0, 51: 1.0, 52: 1.0, 53: 0.5, 61: 1.0, 62: 1.0, 63: 1.0}
LOWER_LIP = {55: 0.5, 56: 1.0, 57: 1.0, 58: 1.0, 59: 0.5, 65: 1.0, 66: 1.0, 67: 1.0}
UPPER_LIP_SHARE = 0.4
"""Of the way on which open lips close."""


def expression(source: Motion, controls: Controls) -> Tensor:
    """(1, K, 3): the portrait's expression under the controls. `source` is one frame."""
    own = source.expression.clone()
    own[:, list(BELOW_EYES)] *= 1 - controls.calm
    amounts = {name: getattr(controls, name) for name in RECIPES}
    if controls.smile > 0:
        amounts["smile"] *= smile_left(own)
    mouth = sum(abs(amounts[name]) for name in MOUTH)
    hold = min(1.0, MOST_MOUTH / mouth) if mouth else 1.0
    offset = torch.zeros_like(own)
    for name, amount in amounts.items():
        if amount:
            offset = offset + (hold if name in MOUTH else 1.0) * _shape(name, amount).to(own)
    if controls.lip_open < 0:
        offset = offset + closed_lips(source.canonical + own, -controls.lip_open)
    if controls.mouth_y:
        lips = list(points.LIPS)
        offset[:, lips, 1] += MOUTH_Y * controls.mouth_y
    return own + offset + _lids(source.canonical + own + offset, controls)


def smile_left(own: Tensor) -> float:
    """Which part of a full smile an expression (1, K, 3) still lacks; a little always, so that more is more."""
    smile, lips = shapes()["mouthSmile"].to(own), list(points.LIPS)
    there = (own[0, lips] * smile[lips]).sum() / smile[lips].square().sum()
    return float((1.15 - there).clamp(0.35, 1.0))


def closed_lids(shape: Tensor, closed: tuple[float, float]) -> Tensor:
    """(1, K, 3): what closes right and left eye of points (1, K, 3) by these parts of their opening."""
    offset = torch.zeros_like(shape)
    for (side, _, pairs), part in zip(EYES, closed, strict=True):
        lid = shapes()[f"eyeBlink_{side}"].to(shape)
        offset = offset + part * lid_gap(shape[0], pairs).clamp(min=0) / -lid_gap(lid, pairs) * lid
    return offset


def lid_gap(shape: Tensor, pairs: tuple[tuple[int, int], ...]) -> Tensor:
    """How far lower lids are below upper ones, of points (K, 3)."""
    return torch.stack([shape[low, 1] - shape[high, 1] for high, low in pairs]).mean()


def closed_lips(shape: Tensor, closed: float) -> Tensor:
    """(1, K, 3): what closes the lips of points (1, K, 3) by this part of their opening."""
    offset = torch.zeros_like(shape)
    gap = (shape[0, points.LIP_BOTTOM_INNER, 1] - shape[0, points.LIP_TOP_INNER, 1]).clamp(min=0)
    for parts, share in ((UPPER_LIP, UPPER_LIP_SHARE), (LOWER_LIP, UPPER_LIP_SHARE - 1)):
        for point, part in parts.items():
            offset[:, point, 1] = share * part * closed * gap
    return offset


def _lids(shape: Tensor, controls: Controls) -> Tensor:
    both = max(controls.blink, 0.0)
    closed = tuple(min(1.0, both + wink) for wink in (controls.wink_right, controls.wink_left))
    offset = closed_lids(shape, (closed[0], closed[1]))
    if controls.blink < 0:
        wide = shapes()["eyeWide_R"] + shapes()["eyeWide_L"]
        offset = offset - WIDE * controls.blink * wide.to(shape)
    return offset


def _shape(name: str, amount: float) -> Tensor:
    forwards, backwards = RECIPES[name]
    if amount < 0 and name == "lip_open":
        return torch.zeros(NUM_POINTS, 3)  # closing is fitted to the portrait
    recipe, factor = (forwards, amount) if amount > 0 or not backwards else (backwards, -amount)
    if amount < 0 and not backwards:
        factor = BACKWARDS * amount
    offset = factor * torch.stack([weight * shapes()[shape] for shape, weight in recipe.items()]).sum(0)
    part = list(PARTS.get(name, MOUTH_PART))
    kept = torch.zeros_like(offset)
    kept[part] = offset[part]
    return kept
