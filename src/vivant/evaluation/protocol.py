"""What is measured how: data, crop, resolution, counts, seed and targets, so that a number always means the same.

Whoever changes anything here, or a metric's definition, raises the version: numbers of different versions are not
comparable.
"""

from __future__ import annotations

from dataclasses import dataclass

from vivant.evaluation.report import Target

SYNTHETIC = "synthetic-self-reenactment/2"
"""2: the mesh's errors of copying and of the output are over the same pairs, and engines in 16 bits read motion
in float32; other only where faces are lost or `--dtype` is 16 bits wide."""
REAL = "real-drive/4"
"""2: yaw, pitch and roll are those of the rigid part of the face; 1 took them from the whole mesh. 3: jitter over three
faces in a row, texture and background on frames spread over all; other only where faces are missing. 4: motion is
smoothed at the rate of the frames used; up to 3 as if they came 25 times a second."""
SPEED = "speed/1"


@dataclass(frozen=True, kw_only=True)
class Reenactment:
    """How people are driven and scored: the same for every preset, so that a number always means the same.

    Output and target are compared inside a square around the face (CropSpec's default, of the first frame), at
    REENACTMENT_PX.
    """

    name: str
    """With its version."""
    title: str
    max_frames: int | None
    """Driving frames of a clip that are used, from the first; None: all."""
    every: int
    """Each how manieth frame the measures of single frames see. Flicker, sync and clips need all of them."""
    drift_seconds: float | None = None
    """Length of the ends that are compared; None: drift is not measured."""


REENACTMENT_PX = 256
REENACTMENT_SEED = 0
REENACTMENTS = {
    "self": Reenactment(
        name="self-reenactment/1",
        title="Self-reenactment: the first frame of a clip is driven by the rest",
        max_frames=100,
        every=1,
    ),
    # 24 frames, one of every ten, as the paper drives TalkingHead-1KH (appendix A). All are drawn here: families with
    # a memory need them.
    "cross": Reenactment(
        name="cross-reenactment/1",
        title="Cross-reenactment: portraits driven by clips of others",
        max_frames=240,
        every=10,
    ),
    "long": Reenactment(
        name="long-reenactment/1",
        title="Long clips: what drifts between the first and the last seconds",
        max_frames=None,
        every=5,
        drift_seconds=5.0,
    ),
}

# Synthetic people. Sessions of identities below vivant.training.data.sessions.NUM_HELD_OUT.
SIZE_PX = 256
SEED = 3
PAIRS_PER_SESSION = 8
NUM_IDENTITIES = 12
CROP_SCALE, CROP_VY = 2.3, -0.125
"""Side of the crop over the landmarks' extent, and its shift towards the forehead, as in preparing a portrait."""

# Real people.
EVERY_FRAMES = 2
"""Every second frame of a driving clip is used."""
MOVES_AT_LEAST = {
    **{"yaw": 1.5, "pitch": 1.5, "roll": 1.5, "mouth": 0.02, "eyes": 0.03},
    **{"yaw_mesh": 1.5, "pitch_mesh": 1.5},
}
"""Standard deviation of a driver's quantity (degrees; outer eye distances; lid gap over eye width) below which the
driver "hardly moves": its correlation is shown, but it is mostly noise of the mesh and left out of the mean."""
NUM_SHEET_COLUMNS = 9

SYNTHETIC_TARGETS = (
    Target(number="psnr_over_copy", least=4.0, says="PSNR at least 4 dB over copying the source"),
    Target(
        number="landmark_error_over_copy", most=0.25, says="landmark error at most a quarter of copying's"
    ),
    Target(number="jaw_correlation", least=0.8, says="re-extracted jaw correlation at least 0.8"),
    Target(number="blink_correlation", least=0.5, says="re-extracted blink correlation at least 0.5"),
)

REAL_CORRELATION = {"yaw": 0.9, "pitch": 0.8, "mouth": 0.7, "eyes": 0.4}
REAL_AMPLITUDE = (0.5, 1.5)
REAL_TARGETS = tuple(
    target
    for quantity, least in REAL_CORRELATION.items()
    for target in (
        Target(
            number=f"{quantity}_correlation",
            least=least,
            says=f"{quantity}: correlation with the driver at least {least}",
        ),
        Target(
            number=f"{quantity}_amplitude",
            least=REAL_AMPLITUDE[0],
            most=REAL_AMPLITUDE[1],
            says=f"{quantity}: amplitude between {REAL_AMPLITUDE[0]} and {REAL_AMPLITUDE[1]} of the driver's",
        ),
    )
)

SPEED_TARGETS = (
    Target(number="networks_fps", least=20.0, says="networks at least 20 frames/s"),
    Target(number="end_to_end_fps", least=12.0, says="end to end at least 12 frames/s"),
)
