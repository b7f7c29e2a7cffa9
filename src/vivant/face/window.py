"""Which square of a clip the networks see, chosen while the clip streams: of the driver, and of a source video.

The published code averages the boxes of all frames, which needs the whole clip and loses a moving head. Here
the square is placed on the first face and stays put, so that motion inside it is head motion. When the face
leaves it, it is placed anew, and the step is reported so that it can be taken out of the measured motion.

The person of a source video is drawn and pasted back in each frame, so there the square goes along with the head, as
the networks were trained, without the tremor of single landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vivant.face.crop import (
    DRIVING_CROP,
    Crop,
    CropSpec,
    Square,
    box_crop,
    crop_square,
    driving_box,
    square_crop,
)
from vivant.face.points import Landmarks

# The face may come this near to the window's edge, relative to the window.
MARGIN = 0.06
# The face may shrink or grow this much before the window is placed anew.
SMALLEST_FACE, LARGEST_FACE = 0.55, 1.6
# The square of a source video follows the head with this time constant, and is never further behind than this: its
# place and size relative to its side, its angle in radians.
FOLLOW_SECONDS = 0.3
PLACE_LAG, SIZE_LAG, ANGLE_LAG = 0.04, 0.05, float(np.radians(4))


@dataclass(frozen=True)
class Similarity:
    """From the current window to the reference window: position' = scale * position + shift.

    Positions are relative to a window: -1 to 1 from left to right and from top to bottom, as the motion
    networks count.
    """

    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def apply(self, positions: np.ndarray) -> np.ndarray:
        """Positions (..., 2) of the current window as seen from the reference window."""
        return positions * self.scale + np.asarray(self.shift, positions.dtype)


@dataclass(frozen=True)
class DrivingView:
    """What to cut from one frame."""

    crop: Crop
    to_reference: Similarity
    """Identity until the window moves for the first time after the start or a cut."""
    moved: bool
    """Whether the window was placed anew for this frame."""
    restarted: bool
    """Whether this frame starts a new reference: the first face, or the first after a cut."""


@dataclass
class WindowState:
    """Where the window is."""

    box: np.ndarray | None = None
    """x0, y0, x1, y1 in pixels; None before the first face."""
    reference_box: np.ndarray | None = None
    """Where it was when the shot began."""


class DrivingWindow:
    """The window of one clip, to be stepped once per frame that has a face."""

    def __init__(self, size_px: int, crop: CropSpec = DRIVING_CROP) -> None:
        self.size_px = size_px
        self.crop = crop
        self.state = WindowState()

    def update(self, landmarks: Landmarks, *, cut: bool = False) -> DrivingView:
        """The window for a frame with this face; `cut` says that a new shot began since the last face."""
        state = self.state
        wanted = driving_box(landmarks.points, self.crop.scale, self.crop.vx, self.crop.vy)
        restarted = cut or state.box is None or state.reference_box is None
        moved = restarted or not self._holds(landmarks, wanted)
        if moved:
            state.box = wanted
        if restarted:
            state.reference_box = wanted
        assert state.box is not None
        assert state.reference_box is not None
        return DrivingView(
            box_crop(state.box, self.size_px), _between(state.box, state.reference_box), moved, restarted
        )

    def _holds(self, landmarks: Landmarks, wanted: np.ndarray) -> bool:
        """Whether the face is well inside the present window."""
        box = self.state.box
        assert box is not None
        side = box[2] - box[0]
        x0, y0, x1, y1 = landmarks.box
        margin = MARGIN * side
        inside = (
            x0 >= box[0] + margin
            and y0 >= box[1] + margin
            and x1 <= box[2] - margin
            and y1 <= box[3] - margin
        )
        growth = (wanted[2] - wanted[0]) / side
        return bool(inside and SMALLEST_FACE <= growth <= LARGEST_FACE)


@dataclass
class SourceWindow:
    """The square of one person in a source video: a state to be stepped once per frame that shows the face."""

    size_px: int
    frame_rate_hz: float
    scale: float = 2.3
    """scale, vx, vy: see `crop_square`."""
    vx: float = 0.0
    vy: float = -0.125
    place: tuple[float, float, float, float] | None = None
    """x, y, logarithm of the side in pixels, angle in radians; None before the first face."""

    def update(self, landmarks: Landmarks, *, restart: bool = False) -> Crop:
        """The crop for a frame with this face; `restart` says that the face was not followed to here."""
        wanted = crop_square(landmarks.points, self.scale, self.vx, self.vy)
        target = (float(wanted.centre[0]), float(wanted.centre[1]), float(np.log(wanted.side)), wanted.angle)
        if self.place is None or restart:
            self.place = target
        rest = float(np.exp(-1 / (FOLLOW_SECONDS * self.frame_rate_hz)))
        behind = np.subtract(self.place, target)
        behind[3] = (behind[3] + np.pi) % (2 * np.pi) - np.pi
        behind *= rest
        distance = float(np.hypot(behind[0], behind[1])) / wanted.side
        behind[:2] *= PLACE_LAG / max(distance, PLACE_LAG)
        behind[2:] = np.clip(behind[2:], [-SIZE_LAG, -ANGLE_LAG], [SIZE_LAG, ANGLE_LAG])
        x, y, size, angle = (float(value) for value in np.add(target, behind))
        self.place = (x, y, size, angle)
        return square_crop(Square(np.array([x, y]), float(np.exp(size)), angle), self.size_px)


def _between(current: np.ndarray, reference: np.ndarray) -> Similarity:
    half, reference_half = (current[2] - current[0]) / 2, (reference[2] - reference[0]) / 2
    shift = ((current[:2] + half) - (reference[:2] + reference_half)) / reference_half
    return Similarity(float(half / reference_half), (float(shift[0]), float(shift[1])))
