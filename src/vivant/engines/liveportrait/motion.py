"""Motion of the family: what a driving frame says, how it moves a portrait, and where the keypoints end up.

Pure functions on small tensors; networks and state live elsewhere. Keypoints are row vectors, x right,
y down, z inward, crop units (whole crop = 2). Paper: arXiv 2407.03168, Eq. 2 and 7.
Legend: T frames, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from vivant.engine import MotionPart
from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config import MAX_OPEN, Config, Options, Region
from vivant.ops.exact import exactly
from vivant.ops.rotation import degrees_from_rotation, rotation_between
from vivant.ops.rows import FrameRows


@dataclass
class Motion(FrameRows):
    """Pose, expression and neutral shape of T frames. One tensor row per frame."""

    rotation: Tensor
    """(T, 3, 3): R, points turn as x @ R."""
    expression: Tensor
    """(T, K, 3): delta, offsets from the canonical keypoints."""
    scale: Tensor
    """(T, 1): s."""
    translation: Tensor
    """(T, 3): t; the third component is reported and never used."""
    canonical: Tensor
    """(T, K, 3): x_c, the neutral keypoints."""
    eyes_open: Tensor | None = None
    """(T, 2): c_eyes, lid distance over eye width, image-left then image-right eye; None where not measured."""
    lips_open: Tensor | None = None
    """(T, 1): c_lip, inner lip distance over mouth width; None where not measured."""

    def __post_init__(self) -> None:
        frames, keypoints = self.expression.shape[:2]
        expected = {
            "rotation": (frames, 3, 3),
            "expression": (frames, keypoints, 3),
            "scale": (frames, 1),
            "translation": (frames, 3),
            "canonical": (frames, keypoints, 3),
            "eyes_open": (frames, 2),
            "lips_open": (frames, 1),
        }
        shapes = {name: tuple(tensor.shape) for name, tensor in self.to_tensors().items()}
        expected = {name: expected[name] for name in shapes}
        if shapes != expected:
            raise ValueError(f"motion of {frames} frames has shapes {expected}, got {shapes}")

    @property
    def pitch(self) -> Tensor:
        """(T,) degrees."""
        return degrees_from_rotation(self.rotation)[0]

    @property
    def yaw(self) -> Tensor:
        """(T,) degrees."""
        return degrees_from_rotation(self.rotation)[1]

    @property
    def roll(self) -> Tensor:
        """(T,) degrees."""
        return degrees_from_rotation(self.rotation)[2]

    def toward(self, other: Motion, share: float) -> Self:
        """Between this motion (share 0) and another (1) of as many frames; heads turn along the shortest way."""

        def mixed(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else a + share * (b - a)

        return replace(
            self,
            rotation=rotation_between(self.rotation, other.rotation, share),
            expression=self.expression + share * (other.expression - self.expression),
            scale=self.scale * (other.scale / self.scale) ** share,
            translation=self.translation + share * (other.translation - self.translation),
            canonical=self.canonical + share * (other.canonical - self.canonical),
            eyes_open=mixed(self.eyes_open, other.eyes_open),
            lips_open=mixed(self.lips_open, other.lips_open),
        )

    def rebased(self, old: Motion, new: Motion) -> Self:
        """The same change, no longer from `old` but from `new` (one frame each): alike to relative motion."""

        def opened(now: Tensor | None, before: Tensor | None, after: Tensor | None) -> Tensor | None:
            known = now is not None and before is not None and after is not None
            return rescaled(after, now, before) if known else None

        return replace(
            self,
            rotation=self.rotation @ old.rotation.mT @ new.rotation,
            expression=new.expression + self.expression - old.expression,
            scale=new.scale * self.scale / old.scale,
            translation=new.translation + self.translation - old.translation,
            canonical=new.canonical.expand_as(self.canonical),
            eyes_open=opened(self.eyes_open, old.eyes_open, new.eyes_open),
            lips_open=opened(self.lips_open, old.lips_open, new.lips_open),
        )

    def taking(self, part: MotionPart, other: Motion, kind: str) -> Self:
        """This motion with one part of another's; `kind` is the engine's motion_kind, which names the keypoints."""
        if part == "pose":
            return replace(self, rotation=other.rotation, scale=other.scale, translation=other.translation)
        if part == "expression":
            return replace(
                self, expression=other.expression, eyes_open=other.eyes_open, lips_open=other.lips_open
            )
        regions = LIP_KEYPOINTS if part == "lips" else EYE_KEYPOINTS
        where = list(regions[kind.partition("-")[0]])
        expression = self.expression.clone()
        expression[:, where] = other.expression[:, where]
        if part == "lips":
            return replace(self, expression=expression, lips_open=other.lips_open)
        return replace(self, expression=expression, eyes_open=other.eyes_open)

    def likeness(self) -> Tensor:
        """(T, N): numbers whose Euclidean distance says how unlike two frames look.

        Rotation, place and size of the head, and expression, which counts double: a blink weighs as much as about
        fifteen degrees.
        """
        parts = (
            self.rotation.flatten(1),
            self.translation[:, :2],
            self.scale.log(),
            2 * self.expression.flatten(1),
        )
        return torch.cat(parts, 1)


def rescaled(source: Tensor | None, driving: Tensor | None, first: Tensor | None) -> Tensor:
    """What the driver's openness means for this portrait: c_s c_i / c_0 (paper, section 4.3), eye by eye.

    Where the driver opens wider than at first, the portrait opens by the same amount more: the plain ratio would
    explode for a driver who starts with closed lips or in a blink, and could never open closed lips.
    """
    if source is None or driving is None or first is None:
        raise ValueError("openness was not measured: check_measured comes first")
    less = source * driving / first.clamp(min=1e-3)
    return torch.where(driving < first, less, source + driving - first).clamp(0, MAX_OPEN)


# Keypoints that carry a region, per set of networks. The published sets were read off learned keypoints by
# the authors; nothing else about those points is named anywhere.
LIP_KEYPOINTS = {"published": (6, 12, 14, 17, 19, 20), "compact": points.MOUTH_REGION}
EYE_KEYPOINTS = {
    "published": (11, 13, 15, 16, 18),
    "compact": points.EYE_REGION_RIGHT + points.EYE_REGION_LEFT,
}

# Absolute expression, published networks: which axes of which keypoints are taken from the driver (the rest
# would carry the driver's identity along).
ABSOLUTE_ALL_AXES = (1, 2, 6, *range(11, 21))
ABSOLUTE_Y_ONLY = (3, 4)
ABSOLUTE_Z_ONLY = (5, 8)
ABSOLUTE_Y_AND_Z = (9,)


# Gains on the driver's change of expression, (lips, eyes), relative mode. The compact networks see and draw less
# than there is (regression to the mean, twice); more gain measures better and looks worse: mouths grow too wide.
EXPRESSION_GAINS = {"published": (1.0, 1.0), "compact": (1.3, 1.3)}


@exactly
def keypoints(motion: Motion, canonical: Tensor, config: Config) -> Tensor:
    """Keypoints (T, K, 3) of a head with the neutral shape `canonical` (T or 1, K, 3) under `motion`.

    Camera-frame expression (Eq. 2): X = x_c R + delta. Head frame: X = (x_c + delta) R.
    Then xy = s X_xy / (1 + X_z / D) + t_xy, and z = s X_z; D infinite where there is no camera distance.
    """
    if config.expression_frame == "camera":
        posed = canonical @ motion.rotation + motion.expression
    else:
        posed = (canonical + motion.expression) @ motion.rotation
    return projected(posed, motion.scale, motion.translation, config.camera_distance)


@exactly
def projected(posed: Tensor, scale: Tensor, translation: Tensor, camera_distance: float | None) -> Tensor:
    """Turned points X (T, K, 3) in crop units: xy = s X_xy / (1 + X_z / D) + t_xy, z = s X_z.

    scale (T, 1), translation (T, 3); without a camera distance D the projection is orthographic.
    """
    scaled = scale[..., None] * posed
    xy = scaled[..., :2]
    if camera_distance is not None:
        xy = xy / (1 + posed[..., 2:] / camera_distance)
    return torch.cat([xy + translation[..., None, :2], scaled[..., 2:]], -1)


@exactly
def drive(source: Motion, driving: Motion, driving_first: Motion, options: Options, config: Config) -> Motion:
    """Motion (T frames) of the portrait under `driving` (T frames); `source` and `driving_first` have 1 or T.

    Relative: the change of the driver since driving_first is added to the source's motion.
    Absolute: the driver's own values replace the source's; scale never does.
    What the region leaves out keeps the source's values, and so does the neutral shape.
    """
    frames = len(driving)
    source = source.repeat(frames) if len(source) == 1 else source
    rotation, expression, translation = driving.rotation, driving.expression, driving.translation
    scale = source.scale
    if options.relative:
        rotation = driving.rotation @ driving_first.rotation.mT @ source.rotation
        change = driving.expression - driving_first.expression
        expression = source.expression + expression_gain(config).to(change.device) * change
        translation = source.translation + driving.translation - driving_first.translation
        if options.region == "all":
            scale = source.scale * driving.scale / driving_first.scale
    # Animals take over every number, as published; people keep the axes that the published absolute mode spares.
    whole = options.relative or config.subject == "animal"
    mask = expression_mask(options.region, config, whole=whole).to(expression.device)
    poses = options.region in ("all", "pose")
    first_eyes = driving_first.eyes_open if options.relative else None
    first_lips = driving_first.lips_open if options.relative else None
    eyes, lips = options.region in ("all", "exp", "eyes"), options.region in ("all", "exp", "lip")
    return Motion(
        rotation=rotation if poses else source.rotation,
        expression=torch.where(mask, expression, source.expression),
        scale=scale,
        translation=translation if poses else source.translation,
        canonical=source.canonical,
        eyes_open=_driven_openness(source.eyes_open, driving.eyes_open, first_eyes, driven=eyes),
        lips_open=_driven_openness(source.lips_open, driving.lips_open, first_lips, driven=lips),
    )


def _driven_openness(
    source: Tensor | None, driving: Tensor | None, first: Tensor | None, *, driven: bool
) -> Tensor | None:
    """How open driven eyes or lips presumably are: moved as expression is moved, or taken over (first None)."""
    if source is None or driving is None or not driven:
        return source
    return driving if first is None else (source + driving - first).clamp(min=0)


def expression_gain(config: Config) -> Tensor:
    """(K, 1): EXPRESSION_GAINS of each keypoint, 1 outside lips and eyes."""
    gain = torch.ones(config.num_keypoints, 1)
    lips, eyes = EXPRESSION_GAINS[config.networks]
    gain[list(LIP_KEYPOINTS[config.networks])] = lips
    gain[list(EYE_KEYPOINTS[config.networks])] = eyes
    return gain


def expression_mask(region: Region, config: Config, *, whole: bool) -> Tensor:
    """Which numbers of the expression the driver moves: bool (K, 3).

    whole: regions "all" and "exp" move every number; otherwise the published networks keep the axes that
    ABSOLUTE_... does not name.
    """
    mask = torch.zeros(config.num_keypoints, 3, dtype=torch.bool)
    if region == "lip":
        mask[list(LIP_KEYPOINTS[config.networks])] = True
    elif region == "eyes":
        mask[list(EYE_KEYPOINTS[config.networks])] = True
    elif region in ("all", "exp") and (whole or config.networks == "compact"):
        mask[:] = True
    elif region in ("all", "exp"):
        mask[list(ABSOLUTE_ALL_AXES)] = True
        mask[list(ABSOLUTE_Y_ONLY), 1] = True
        mask[list(ABSOLUTE_Z_ONLY), 2] = True
        mask[list(ABSOLUTE_Y_AND_Z), 1:] = True
    return mask


def amplify(source_keypoints: Tensor, driven_keypoints: Tensor, multiplier: float) -> Tensor:
    """`driving_multiplier`: x_s + a (x_d - x_s), for keypoints (T or 1, K, 3) and (T, K, 3)."""
    return source_keypoints + multiplier * (driven_keypoints - source_keypoints)
