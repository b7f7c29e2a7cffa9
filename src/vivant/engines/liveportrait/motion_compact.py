"""Compact motion networks: whole face -> pose, pose-normalised mouth and eye crops -> expression.

A network that sees the whole face learns pose at once and expression hardly at all; crops placed by the
rigid pose (expression zero, so that jaw motion shows as displacement inside the crop) learn expression in
minutes. One eye network serves both eyes: the left eye is mirrored in and its answer mirrored back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config_compact import CompactConfig
from vivant.engines.liveportrait.layers_compact import ConvNormAct, Down, Residual, rotation_from_6d
from vivant.engines.liveportrait.motion import Motion, projected
from vivant.ops.exact import exactly

MOUTH_CROP_RADIUS = 0.55
EYE_CROP_RADIUS = 0.36
"""Half sides of the crops in units of the head scale (10 cm)."""


@dataclass
class CompactMotion:
    """Everything the compact networks say about a picture. B pictures, K keypoints, E blendshape weights."""

    rotation: Tensor  # (B, 3, 3), row vectors: X = x @ rotation; x right, y down, z inward
    scale: Tensor  # (B, 1), half crops per 10 cm
    translation: Tensor  # (B, 3), crop units (whole crop = 2); z unused, zero
    canonical: Tensor  # (B, K, 3), neutral points in the head frame, units of 10 cm
    expression: Tensor  # (B, K, 3), offsets from canonical in the head frame, 10 cm
    weights: Tensor  # (B, E), blendshape weights, about 0..1
    gaze: Tensor  # (B, 2), yaw and pitch in degrees relative to the head

    def as_motion(self) -> Motion:
        """The same as the family's Motion, float32, with openness read from the named points.

        Measured on the unturned head, so that looking up does not close an eye.
        """
        right, left, lips = points.openness((self.canonical + self.expression).float())
        return Motion(
            rotation=self.rotation.float(),
            expression=self.expression.float(),
            scale=self.scale.float(),
            translation=self.translation.float(),
            canonical=self.canonical.float(),
            eyes_open=torch.stack([right, left], 1),
            lips_open=lips[:, None],
        )


@exactly
def project(
    canonical: Tensor,
    expression: Tensor,
    rotation: Tensor,
    scale: Tensor,
    translation: Tensor,
    distance: float,
) -> Tensor:
    """Keypoints (B, K, 3) in crop units of heads whose expression turns with them (training_notes, last form)."""
    return projected((canonical + expression) @ rotation, scale, translation, distance)


@exactly
def crop_at(image: Tensor, centre: Tensor, radius: Tensor, roll: Tensor, size: int) -> Tensor:
    """Square crops (B, C, size, size) around centre (B, 2), half side radius (B,), turned by roll (B,) radians."""
    cos, sin = torch.cos(roll) * radius, torch.sin(roll) * radius
    theta = torch.stack(
        [torch.stack([cos, -sin, centre[:, 0]], 1), torch.stack([sin, cos, centre[:, 1]], 1)], 1
    )
    grid = F.affine_grid(theta.float(), [len(image), image.shape[1], size, size], align_corners=False)
    return F.grid_sample(image.float(), grid, align_corners=False, padding_mode="border")


class Trunk(nn.Module):
    """Strided stages, then a narrow 1x1 so that the fully connected layer after it stays small."""

    def __init__(self, num_in: int, channels: tuple[int, ...], cells: int, hidden: int, last_stride: bool):
        super().__init__()
        self.cells = cells
        self.stem = ConvNormAct(num_in, channels[0], kernel=5, stride=2)
        stages: list[nn.Module] = [Down(a, b) for a, b in pairwise(channels[:-1])]
        last = channels[-2], channels[-1]
        stages.append(Down(*last) if last_stride else nn.Sequential(ConvNormAct(*last), Residual(last[1])))
        self.stages = nn.Sequential(*stages)
        narrow = max(4, channels[-1] // 4)
        self.narrow = nn.Conv2d(channels[-1], narrow, 1)
        self.norm = nn.LayerNorm(narrow * cells * cells)
        self.hidden = nn.Linear(narrow * cells * cells, hidden)

    def features(self, x: Tensor) -> list[Tensor]:
        """The picture at each stage, finest first (also used as a perceptual measure)."""
        levels = [self.stem(x)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, n, n) -> (B, hidden) in float32."""
        narrow = F.adaptive_avg_pool2d(self.narrow(self.features(x)[-1]).float(), self.cells)
        # Outside autocast: a thousand-input layer feeding angles is where bfloat16 would be felt.
        with torch.autocast(x.device.type, enabled=False):
            return F.relu(self.hidden(self.norm(narrow.flatten(1))))


class PoseNetwork(nn.Module):
    """The whole face: rotation, scale, translation, neutral shape and a coarse expression."""

    def __init__(self, config: CompactConfig):
        super().__init__()
        k = points.NUM_POINTS
        self.trunk = Trunk(3, config.pose_channels, 4, config.hidden, last_stride=True)
        self.head = nn.Linear(config.hidden, 9 + 6 * k)
        nn.init.normal_(self.head.weight, std=0.003)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias[0] = self.head.bias[4] = 1.0

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, n, n) in [0, 1] -> rotation, scale, xy translation, z-scored shape and expression."""
        hidden = self.trunk(image)
        with torch.autocast(image.device.type, enabled=False):
            out = self.head(hidden)
        k = points.NUM_POINTS
        rotation = rotation_from_6d(out[:, :6])
        scale = 0.5 * torch.exp(out[:, 6:7].clamp(-2, 2))
        shape = out[:, 9 : 9 + 3 * k].view(-1, k, 3)
        return rotation, scale, out[:, 7:9], shape, out[:, 9 + 3 * k :].view(-1, k, 3)


class LocalNetwork(nn.Module):
    """One pose-normalised crop plus the head rotation -> z-scored offsets, weights, gaze."""

    def __init__(self, config: CompactConfig, num_points: int):
        super().__init__()
        self.num_points = num_points
        cells = config.local_image_size // 8
        self.trunk = Trunk(3, config.local_channels, cells, config.hidden, last_stride=False)
        self.rotation = nn.Linear(9, config.hidden)
        self.head = nn.Linear(config.hidden, 3 * num_points + config.num_expression_weights + 2)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, crop: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, n, n) and (B, 3, 3) -> offsets (B, P, 3), weights (B, E), gaze (B, 2) degrees."""
        hidden = self.trunk(crop)
        with torch.autocast(crop.device.type, enabled=False):
            out = self.head(hidden + F.relu(self.rotation(rotation.flatten(1).float())))
        n = 3 * self.num_points
        return out[:, :n].view(-1, self.num_points, 3), out[:, n:-2], out[:, -2:] * 20


class CompactMotionNetwork(nn.Module):
    """Picture -> CompactMotion. The statistics of the training set are buffers: they travel with the weights."""

    keep_float32 = True
    """At one picture per call these small layers are faster in float32 than in bfloat16, and exact."""

    mean_shape: Tensor
    std_shape: Tensor
    std_expression: Tensor
    eye_weights: Tensor
    mirrored_weights: Tensor

    def __init__(self, config: CompactConfig, camera_distance: float):
        super().__init__()
        self.config = config
        self.camera_distance = camera_distance
        k = points.NUM_POINTS
        self.pose = PoseNetwork(config)
        self.mouth = LocalNetwork(config, len(points.MOUTH_REGION))
        self.eye = LocalNetwork(config, len(points.EYE_REGION_RIGHT))
        self.register_buffer("mean_shape", torch.zeros(k, 3))
        self.register_buffer("std_shape", torch.full((k, 3), 0.05))
        self.register_buffer("std_expression", torch.full((k, 3), 0.03))
        # Which blendshape weights the eye network answers for, and where each goes under mirroring.
        self.register_buffer("eye_weights", torch.zeros(config.num_expression_weights, dtype=torch.bool))
        self.register_buffer("mirrored_weights", torch.arange(config.num_expression_weights))

    def forward(self, image: Tensor) -> CompactMotion:
        """(B, 3, S, S) RGB in [0, 1], any S -> CompactMotion."""
        return self.refine(image, self.coarse(image))

    def coarse(self, image: Tensor) -> CompactMotion:
        """Pose and shape from the whole face; its own expression guess, zero weights."""
        size = self.config.pose_image_size
        if image.shape[-1] != size:
            image = F.interpolate(
                image.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True
            )
        image = image.to(self._dtype(), memory_format=torch.channels_last)
        rotation, scale, xy, shape, expression = self.pose(image)
        zero = scale.new_zeros(len(scale), self.config.num_expression_weights)
        return CompactMotion(
            rotation=rotation,
            scale=scale,
            translation=F.pad(xy, (0, 1)),
            canonical=self.mean_shape + shape * self.std_shape,
            expression=expression * self.std_expression,
            weights=zero,
            gaze=zero[:, :2],
        )

    def local_crops(self, image: Tensor, motion: CompactMotion, jitter: float = 0.0) -> tuple[Tensor, Tensor]:
        """Mouth crops (B, 3, n, n) and eye crops (2B, 3, n, n): right eyes, then mirrored left eyes.

        `jitter` (training) moves, turns and scales the crops at random as a slightly wrong pose would.
        """
        rigid = project(
            motion.canonical,
            torch.zeros_like(motion.expression),
            motion.rotation,
            motion.scale,
            motion.translation,
            self.camera_distance,
        )
        roll = torch.atan2(motion.rotation[:, 0, 1], motion.rotation[:, 0, 0])
        scale = motion.scale[:, 0]

        def crop(indices: tuple[int, ...], radius: float) -> Tensor:
            noise = (
                torch.randn(len(image), 4, device=image.device) * jitter if jitter else roll.new_zeros(1, 4)
            )
            centre = rigid[:, list(indices), :2].mean(1) + 0.09 * noise[:, :2] * scale[:, None]
            turned = roll + 0.08 * noise[:, 2]
            return crop_at(
                image,
                centre,
                scale * radius * torch.exp(0.1 * noise[:, 3]),
                turned,
                self.config.local_image_size,
            )

        mouth = crop(points.LIPS, MOUTH_CROP_RADIUS)
        right = crop(points.EYE_RIGHT, EYE_CROP_RADIUS)
        left = crop(points.EYE_LEFT, EYE_CROP_RADIUS).flip(-1)
        return mouth, torch.cat([right, left])

    def local(
        self, image: Tensor, motion: CompactMotion, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Z-scored offsets of mouth, right-eye and (mirrored back) left-eye points, weights of both, gaze."""
        mouth, eyes = self.local_crops(image, motion, jitter)
        dtype = self._dtype()
        z_mouth, weights_mouth, _ = self.mouth(
            mouth.to(dtype, memory_format=torch.channels_last), motion.rotation
        )
        mirror = motion.rotation.new_tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
        rotations = torch.cat([motion.rotation, motion.rotation * mirror])
        z_eyes, weights_eyes, gaze = self.eye(eyes.to(dtype, memory_format=torch.channels_last), rotations)
        z_right, z_left = z_eyes.chunk(2)
        w_right, w_left = weights_eyes.chunk(2)
        g_right, g_left = gaze.chunk(2)
        z_left = z_left * z_left.new_tensor([-1.0, 1.0, 1.0])
        weights_eyes = 0.5 * (w_right + w_left[:, self.mirrored_weights])
        gaze = 0.5 * (g_right + g_left * g_left.new_tensor([-1.0, 1.0]))
        return z_mouth, z_right, z_left, weights_mouth, weights_eyes, gaze

    def refine(self, image: Tensor, motion: CompactMotion) -> CompactMotion:
        """Replace the coarse expression by what the mouth and eye crops show."""
        z_mouth, z_right, z_left, weights_mouth, weights_eyes, gaze = self.local(image, motion)
        expression = motion.expression.clone()
        for region, z in (
            (points.MOUTH_REGION, z_mouth),
            (points.EYE_REGION_RIGHT, z_right),
            (points.EYE_REGION_LEFT, z_left),
        ):
            expression[:, list(region)] = z * self.std_expression[list(region)]
        return CompactMotion(
            rotation=motion.rotation,
            scale=motion.scale,
            translation=motion.translation,
            canonical=motion.canonical,
            expression=expression,
            weights=torch.where(self.eye_weights, weights_eyes, weights_mouth),
            gaze=gaze,
        )

    def _dtype(self) -> torch.dtype:
        return self.pose.trunk.narrow.weight.dtype
