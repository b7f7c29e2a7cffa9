"""What the published networks make of the Controls: the sliders of the published program, at its constants.

Its 21 keypoints are learned and have no names; which component moves what was found by its authors. Blinks and open
lips are retargeting networks. What it has no slider for raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vivant.controls import Controls
from vivant.engines.liveportrait.config import MAX_OPEN
from vivant.engines.liveportrait.motion import Motion
from vivant.engines.liveportrait.published_motion import neutral_expression
from vivant.engines.liveportrait.retargeting import RetargetingNetworks
from vivant.errors import InputError

X, Y, Z = 0, 1, 2
Gains = tuple[tuple[int, int, float], ...]
"""(keypoint, axis, gain per unit of the slider)."""

_LOOK_DOWN: Gains = ((11, Y, -0.0005), (15, Y, -0.0005), (13, Y, -0.00015), (16, Y, -0.00015))
_WINK: Gains = ((11, Y, 0.001), (13, Y, -0.0003), (17, X, 0.0003), (17, Y, 0.0003), (3, Y, -0.0003))
_SMILE: Gains = (
    (20, Y, -0.01), (14, Y, -0.02), (17, Y, 0.0065), (17, Z, 0.003), (13, Y, -0.00275), (16, Y, -0.00275),
    (3, Y, -0.0035), (7, Y, -0.0035),
)  # fmt: skip
_OPEN: Gains = ((19, Y, 0.001), (19, Z, 0.0001), (17, Y, -0.0001))
_GRIN: Gains = ((20, Z, -0.001), (20, Y, -0.001), (14, Y, -0.001))
_PURSING: Gains = ((14, Y, 0.001), (3, Y, -0.0005), (7, Y, -0.0005), (17, Z, -0.0005))
_BROWS_UP: Gains = ((1, Y, 0.001), (2, Y, -0.001))
_BROWS_DOWN: Gains = ((1, X, -0.001), (2, X, 0.001), (1, Y, 0.0003), (2, Y, -0.0003))

SLIDERS: Mapping[str, tuple[tuple[float, Gains], tuple[float, Gains]]] = {
    "gaze_x": ((30.0, ((11, X, 0.0007), (15, X, 0.001))), (-30.0, ((11, X, 0.001), (15, X, 0.0007)))),
    "gaze_y": ((-63.0, _LOOK_DOWN), (63.0, _LOOK_DOWN)),
    "brows": ((30.0, _BROWS_UP), (-30.0, _BROWS_DOWN)),
    "wink_left": ((39.0, _WINK), (0.0, ())),
    "smile": ((1.3, _SMILE), (-0.3, _SMILE)),
    "aa": ((120.0, _OPEN), (-90.0, _OPEN)),
    "ee": ((15.0, _GRIN), (0.0, ())),
    "oo": ((15.0, _PURSING), (-20.0, _PURSING)),
    "mouth_x": ((0.09, ((19, X, 1.0),)), (-0.09, ((19, X, 1.0),))),
}
"""The slider's value at 1 and what it adds, and the same at -1. In its words: gaze, eyebrow, wink, smile, lip
close-open (aa), grin (ee), pursing (oo), pouting (mouth_x). Which eye winks was read off the mouth corner that goes
along."""
MISSING = ("wink_right", "grimace", "pout", "purse", "mouth_y")


def expression(
    networks: RetargetingNetworks, source: Motion, source_keypoints: Tensor, controls: Controls
) -> Tensor:
    """(1, K, 3): the portrait's delta under the controls. Raises InputError for what the published program lacks."""
    if lacking := [name for name in MISSING if getattr(controls, name)]:
        raise InputError(f"the published networks have no {' and no '.join(lacking)}; leave it out.")
    own = source.expression + controls.calm * (neutral_expression().to(source.expression) - source.expression)
    offset = torch.zeros_like(own)
    for name, sides in SLIDERS.items():
        amount = getattr(controls, name)
        value, gains = sides[0] if amount > 0 else sides[1]
        for keypoint, axis, gain in gains:
            offset[:, keypoint, axis] += abs(amount) * value * gain
    eyes = _opened("blink", source.eyes_open, -controls.blink, networks)
    lips = _opened("lip_open", source.lips_open, controls.lip_open, networks)
    if eyes is not None or lips is not None:
        _, moved = networks.retarget(source, source_keypoints, source, eyes, lips)
        offset = offset + moved / source.scale[..., None]
    return own + offset


def _opened(name: str, own: Tensor | None, amount: float, networks: RetargetingNetworks) -> Tensor | None:
    """How far open, between closed (-1), as it is (0) and the widest (1); None where nothing is asked for."""
    if not amount:
        return None
    if not networks.has_retargeting:
        raise InputError(
            f"this preset has no networks for {name}; leave it out, or convert all published files."
        )
    if own is None:
        raise InputError(
            f"{name} needs the portrait's face points; prepare the portrait with a face, not face=None."
        )
    return own * (1 + amount) if amount < 0 else own + amount * (MAX_OPEN - own).clamp(min=0)
