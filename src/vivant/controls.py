"""What can be edited on a face, as numbers with names, and the names that other programs give them.

Light on purpose: no tensors, no families. A family turns Controls into its Motion (`Engine.edit_motion`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeAlias

from vivant.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Controls:
    """One face as it shall look, against how it looks. All zero: exactly as it is.

    Expression: 1 is fully, -1 the opposite. Left and right eye are the person's own. Directions are the viewer's.
    """

    pitch: float = 0.0
    """Degrees that the head nods down, -20 to 20."""
    yaw: float = 0.0
    """Degrees that the nose turns to the right of the picture, -25 to 25."""
    roll: float = 0.0
    """Degrees that the head tilts counter-clockwise, -30 to 30."""
    x: float = 0.0
    """Move the head right by this part of the face's square, -0.12 to 0.12."""
    y: float = 0.0
    """Move the head down by this part of the face's square, -0.12 to 0.12."""
    scale: float = 0.0
    """Enlarge the head by this part of its size, -0.15 to 0.15."""
    blink: float = 0.0
    """Close both eyes (1), or open them wide (-1)."""
    wink_left: float = 0.0
    """Close the person's left eye, 0 to 1."""
    wink_right: float = 0.0
    """Close the person's right eye, 0 to 1."""
    gaze_x: float = 0.0
    """Look to the right (1) or left (-1) of the picture."""
    gaze_y: float = 0.0
    """Look down (1) or up (-1)."""
    brows: float = 0.0
    """Raise (1) or lower (-1) the brows."""
    smile: float = 0.0
    """Smile (1) or pull the corners of the mouth down (-1)."""
    aa: float = 0.0
    """The mouth of "father"."""
    ee: float = 0.0
    """The mouth of "cheese"."""
    oo: float = 0.0
    """The mouth of "food"."""
    lip_open: float = 0.0
    """Open the mouth (1), or close it as far as it is open (-1)."""
    grimace: float = 0.0
    """Stretch the lips and bare the lower teeth."""
    pout: float = 0.0
    """Push the lower lip up and out."""
    purse: float = 0.0
    """Press the lips together."""
    mouth_x: float = 0.0
    """Move the mouth to the right (1) or left (-1) of the picture."""
    mouth_y: float = 0.0
    """Move the mouth down (1) or up (-1)."""
    calm: float = 0.0
    """Take the portrait's own expression away: 0 none of it, 1 all of it."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = LIMITS.get(field.name, (-1.0, 1.0))
            if not (isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high):
                hint = FOREIGN_HINT if field.name in ("blink", "smile") else ""
                raise InputError(f"{field.name} is between {low:g} and {high:g}, got {value!r}{hint}.")

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of those that are not zero."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != 0)

    @property
    def head_moves(self) -> float:
        """How far the whole head moves, about 1 for three degrees: 0 where only the face does."""
        turns = (abs(self.pitch) + abs(self.yaw) + abs(self.roll)) / 3
        return turns + (abs(self.x) + abs(self.y) + abs(self.scale)) / 0.02


LIMITS: dict[str, tuple[float, float]] = {
    "pitch": (-20.0, 20.0),
    "yaw": (-25.0, 25.0),
    "roll": (-30.0, 30.0),
    "x": (-0.12, 0.12),
    "y": (-0.12, 0.12),
    "scale": (-0.15, 0.15),
    "wink_left": (0.0, 1.0),
    "wink_right": (0.0, 1.0),
    "calm": (0.0, 1.0),
}
"""Of those that do not go from -1 to 1: what the networks can draw."""
NAMES = tuple(field.name for field in fields(Controls))

Sliders: TypeAlias = Literal["vivant", "alp", "facefusion"]
FOREIGN_HINT = "; for the sliders of AdvancedLivePortrait add --sliders alp"

Spread: TypeAlias = Callable[[float], Mapping[str, float]]


@dataclass(frozen=True)
class Slider:
    """A slider of another program: its range there, and what its values mean here."""

    low: float
    high: float
    meaning: Spread


def _plain(low: float, high: float, name: str, full: float) -> Slider:
    """`full` is the value that means 1 (or, for angles, one degree) here."""
    least, most = LIMITS.get(name, (-1.0, 1.0))
    return Slider(low, high, lambda value: {name: min(max(value / full, least), most)})


def _two(low: float, high: float, name: str, down: float, up: float) -> Slider:
    """Reaches -1 at `down` and 1 at `up`, or the other way round."""

    def meaning(value: float) -> Mapping[str, float]:
        side, sign = (up, 1) if value * up > 0 else (down, -1)
        return {name: sign * min(value / side, 1.0) if value else 0.0}

    return Slider(low, high, meaning)


def _nothing(value: float) -> Mapping[str, float]:
    """Without a sample picture this slider does nothing there either."""
    return {}


SLIDERS: dict[str, dict[str, Slider]] = {
    "alp": {
        "rotate_pitch": _plain(-20, 20, "pitch", 1),
        "rotate_yaw": _plain(-20, 20, "yaw", -1),
        "rotate_roll": _plain(-20, 20, "roll", -1),
        "blink": _two(-20, 5, "blink", 5, -20),
        "eyebrow": _two(-10, 15, "brows", -10, 15),
        "wink": _plain(0, 25, "wink_left", 25),
        "pupil_x": _plain(-15, 15, "gaze_x", 15),
        "pupil_y": _plain(-15, 15, "gaze_y", -15),
        "aaa": _plain(-30, 120, "aa", 120),
        "eee": _plain(-20, 15, "ee", 15),
        "woo": _plain(-20, 15, "oo", 15),
        "smile": _plain(-0.3, 1.3, "smile", 1.3),
        "src_ratio": Slider(0, 1, lambda value: {"calm": 1 - value}),
        "sample_ratio": Slider(-0.2, 1.2, _nothing),
    },
    "facefusion": {
        "eyebrow_direction": _plain(-1, 1, "brows", 1),
        "eye_gaze_horizontal": _plain(-1, 1, "gaze_x", 1),
        "eye_gaze_vertical": _plain(-1, 1, "gaze_y", -1),
        "eye_open_ratio": _plain(-1, 1, "blink", -1),
        "lip_open_ratio": _plain(-1, 1, "lip_open", 1),
        "mouth_grim": _plain(-1, 1, "grimace", 1),
        "mouth_pout": _plain(-1, 1, "pout", 1),
        "mouth_purse": _plain(-1, 1, "purse", 1),
        "mouth_smile": _plain(-1, 1, "smile", 1),
        "mouth_position_horizontal": _plain(-1, 1, "mouth_x", 1),
        "mouth_position_vertical": _plain(-1, 1, "mouth_y", -1),
        "head_pitch": Slider(-1, 1, lambda value: {"pitch": -20 * value}),
        "head_yaw": Slider(-1, 1, lambda value: {"yaw": 20 * value}),
        "head_roll": Slider(-1, 1, lambda value: {"roll": -20 * value}),
    },
}
"""Of ComfyUI-AdvancedLivePortrait and FaceFusion, by name. Ranges are as they document them, strengths are ours, and so
are the signs of FaceFusion's head sliders: up, right and clockwise are positive."""
FOREIGN_PREFIX = "face_editor_"
ABSURD = 1e9
"""Larger numbers mean nothing anywhere; whole ones may not even be floats."""


def parse_controls(
    values: Mapping[str, float], sliders: Sliders = "vivant", base: Controls | None = None
) -> Controls:
    """Controls of values by name, in our words or those of another program, added to `base`.

    `sliders` says whose a name is that several have ("blink", "smile"). Raises InputError for an unknown name and for
    values out of range.
    """
    added: dict[str, float] = {}
    for given, value in values.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < ABSURD:
            raise InputError(f"{given} is a number, got {str(value)[:40]}.")
        for name, part in _meaning(given, float(value), sliders).items():
            added[name] = added.get(name, 0.0) + part
    base = base or Controls()
    # Rounded, so that 0.1 + 0.02 is the 0.12 that is allowed.
    return replace(base, **{name: round(getattr(base, name) + part, 9) for name, part in added.items()})


def is_control(name: str) -> bool:
    """Whether a name is a control, or the slider of another program."""
    return _cleaned(name) in NAMES or any(_cleaned(name) in theirs for theirs in SLIDERS.values())


def _meaning(given: str, value: float, sliders: Sliders) -> Mapping[str, float]:
    name = _cleaned(given)
    if sliders == "vivant" and name in NAMES:
        return {name: value}
    theirs = SLIDERS.get(sliders, {}).get(name)
    if theirs is None and name in NAMES:
        return {name: value}
    if theirs is None:
        theirs = next((table[name] for table in SLIDERS.values() if name in table), None)
    if theirs is None:
        raise InputError(f"there is no control {given!r}; there are {', '.join(NAMES)}.")
    if not theirs.low <= value <= theirs.high:
        raise InputError(f"{given} is between {theirs.low:g} and {theirs.high:g}, got {value:g}.")
    return theirs.meaning(value)


def _cleaned(name: str) -> str:
    return name.strip().lstrip("-").replace("-", "_").lower().removeprefix(FOREIGN_PREFIX)
