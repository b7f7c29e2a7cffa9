"""Motion as a value, keypoints of both sets of networks, and driving in words rather than in published cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vivant.engines.liveportrait.config import Config, Options, published, tiny, tiny_published
from vivant.engines.liveportrait.motion import (
    Motion,
    amplify,
    drive,
    expression_gain,
    expression_mask,
    keypoints,
)
from vivant.engines.liveportrait.motion_compact import project
from vivant.ops.rotation import rotation_from_degrees

PUBLISHED = published()
COMPACT = tiny()
CONFIGS = [PUBLISHED, COMPACT]


def motion_of(num_frames: int, config: Config, seed: int = 0) -> Motion:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    angles = random(3, num_frames) * 20
    return Motion(
        rotation=rotation_from_degrees(*angles),
        expression=random(num_frames, config.num_keypoints, 3) * 0.05,
        scale=random(num_frames, 1) * 0.1 + 1.2,
        translation=random(num_frames, 3) * 0.1,
        canonical=random(num_frames, config.num_keypoints, 3) * 0.5,
    )


def assert_same(first: Motion, second: Motion, tolerance: float = 0.0) -> None:
    for name, value in first.to_tensors().items():
        torch.testing.assert_close(value, second.to_tensors()[name], atol=tolerance, rtol=0)


def test_slices_and_cat() -> None:
    motion = motion_of(5, PUBLISHED)
    assert len(motion) == 5
    assert len(motion[2]) == 1
    assert_same(Motion.cat([motion[0], motion[1:4], motion[-1]]), motion)
    assert_same(motion[3].repeat(2)[1], motion[3])
    with pytest.raises(IndexError, match="frame 5 of a motion of 5"):
        motion[5]


def test_tensors_round_trip() -> None:
    motion = motion_of(2, PUBLISHED)
    tensors = motion.to_tensors()
    assert_same(Motion.from_tensors(tensors), motion)
    with pytest.raises(ValueError, match="a motion holds"):
        Motion.from_tensors({**tensors, "gaze": torch.zeros(2, 2)})
    assert motion.to(dtype=torch.float64).scale.dtype == torch.float64


def test_openness_travels_where_it_was_measured() -> None:
    plain = motion_of(2, PUBLISHED)
    assert set(plain.to_tensors()).isdisjoint({"eyes_open", "lips_open"})
    motion = replace(plain, eyes_open=torch.rand(2, 2), lips_open=torch.rand(2, 1))
    assert_same(Motion.from_tensors(motion.to_tensors()), motion)
    assert_same(Motion.cat([motion[0], motion[1]]), motion)
    assert Motion.cat([motion, plain]).lips_open is None
    assert motion.repeat(2)[1].eyes_open is not None


def test_shapes_are_checked() -> None:
    motion = motion_of(2, PUBLISHED)
    with pytest.raises(ValueError, match="motion of 2 frames has shapes"):
        replace(motion, lips_open=torch.ones(2, 2))
    with pytest.raises(ValueError, match="motion of 2 frames has shapes"):
        replace(motion, scale=torch.ones(3, 1))


def test_angles() -> None:
    angles = torch.tensor([[10.0, -5.0], [30.0, 0.0], [-20.0, 7.0]])
    motion = replace(motion_of(2, PUBLISHED), rotation=rotation_from_degrees(*angles))
    torch.testing.assert_close(
        torch.stack([motion.pitch, motion.yaw, motion.roll]), angles, atol=1e-4, rtol=0
    )


def test_compact_keypoints_are_those_of_the_compact_networks() -> None:
    motion = motion_of(3, COMPACT)
    ours = keypoints(motion, motion.canonical, COMPACT)
    parts = motion.canonical, motion.expression, motion.rotation, motion.scale, motion.translation
    torch.testing.assert_close(ours, project(*parts, 10.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=["published", "compact"])
@pytest.mark.parametrize("region", ["all", "exp", "pose", "lip", "eyes"])
def test_a_still_driver_leaves_the_portrait_still(config: Config, region: Any) -> None:
    source, driving = motion_of(1, config, 1), motion_of(1, config, 2)
    assert_same(drive(source, driving, driving, Options(region=region), config), source, 1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=["published", "compact"])
def test_relative_driving_by_oneself_is_the_identity(config: Config) -> None:
    """A portrait that is the driver's first frame follows the driver exactly, expression times its calibration."""
    driving = motion_of(4, config)
    driven = drive(driving[0], driving, driving[0], Options(), config)
    first = driving[0].repeat(4)
    expression = first.expression + expression_gain(config) * (driving.expression - first.expression)
    expected = replace(driving, canonical=first.canonical, expression=expression)
    assert_same(driven, expected, 1e-5)


def test_the_published_networks_are_not_recalibrated() -> None:
    assert torch.equal(expression_gain(PUBLISHED), torch.ones(PUBLISHED.num_keypoints, 1))


@pytest.mark.parametrize("config", CONFIGS, ids=["published", "compact"])
def test_regions_leave_the_rest_alone(config: Config) -> None:
    source, driving = motion_of(1, config, 1), motion_of(3, config, 2)
    still = source.repeat(3)
    pose = drive(source, driving, driving[0], Options(region="pose"), config)
    torch.testing.assert_close(pose.expression, still.expression)
    for region in ("exp", "lip", "eyes"):
        driven = drive(source, driving, driving[0], Options(region=region), config)
        for name in ("rotation", "scale", "translation", "canonical"):
            torch.testing.assert_close(driven.to_tensors()[name], still.to_tensors()[name])
        assert (driven.expression[1:] != still.expression[1:]).any()


@pytest.mark.parametrize("config", CONFIGS, ids=["published", "compact"])
def test_lips_and_eyes_do_not_overlap(config: Config) -> None:
    lips, eyes = (expression_mask(region, config, whole=True) for region in ("lip", "eyes"))
    assert lips.any()
    assert eyes.any()
    assert not (lips & eyes).any()


def test_amplify() -> None:
    first, second = torch.rand(1, 21, 3), torch.rand(4, 21, 3)
    torch.testing.assert_close(amplify(first, second, 0.0), first.expand(4, 21, 3))
    torch.testing.assert_close(amplify(first, second, 1.0), second)


def test_options_are_checked() -> None:
    bad: Any = "nose"
    with pytest.raises(ValueError, match="got 'nose'"):
        Options(region=bad)
    with pytest.raises(ValueError, match=r"between 0 and 4, got -1"):
        Options(driving_multiplier=-1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"published": None}, "sizes are given for"),
        ({"image_size": 100, "output_size": 200}, "multiple of 128"),
        ({"output_size": 128}, "draw twice that"),
        ({"expression_frame": "head"}, "camera-frame expression"),
        ({"camera_distance": -1.0}, "positive or None"),
    ],
)
def test_configs_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(tiny_published(), **change)


def test_sizes_are_checked() -> None:
    sizes = tiny_published().published
    assert sizes is not None
    with pytest.raises(ValueError, match="eye network 5"):
        replace(sizes, eye_hidden=(8, 8))
    with pytest.raises(ValueError, match="1 or more"):
        replace(sizes, depth=0)
    with pytest.raises(ValueError, match=r"fall from size to size, got \(8, 4, 4\)"):
        replace(sizes, generator_channels=(8, 4, 4))
