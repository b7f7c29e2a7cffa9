"""Places come out the same whatever the caller computes in; bfloat16 would move them by a pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from vivant.engines.flashportrait import kept
from vivant.engines.liveportrait.config import Options, tiny
from vivant.engines.liveportrait.layers_compact import keypoint_flows, splat
from vivant.engines.liveportrait.losses import equivariance
from vivant.engines.liveportrait.motion import Motion, drive, keypoints
from vivant.engines.liveportrait.motion_compact import crop_at, project
from vivant.engines.personalive.motion import Pose
from vivant.ops.bending import bent
from vivant.ops.exact import exactly
from vivant.ops.rotation import rotation_between, rotation_from_degrees
from vivant.ops.similarity import after, inverse, similarities, through

FRAMES = 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turns(seed: int) -> Tensor:
    return rotation_from_degrees(*(20 * numbers(3, FRAMES, seed=seed)))


def motion(seed: int) -> Motion:
    count = tiny().num_keypoints
    return Motion(
        rotation=turns(seed),
        expression=0.1 * numbers(FRAMES, count, 3, seed=seed),
        scale=1 + 0.1 * numbers(FRAMES, 1, seed=seed).abs(),
        translation=0.1 * numbers(FRAMES, 3, seed=seed),
        canonical=0.5 * numbers(FRAMES, count, 3, seed=seed),
        eyes_open=None,
        lips_open=None,
    )


def placements(seed: int) -> Tensor:
    return similarities(numbers(FRAMES, 5, 2, seed=seed), numbers(FRAMES, 5, 2, seed=seed + 1))


def driven() -> tuple[Tensor, ...]:
    made = drive(motion(0), motion(1), motion(2), Options(), tiny())
    return tuple(value for one in fields(made) if isinstance(value := getattr(made, one.name), Tensor))


POINTS = numbers(2, 5, 2)
PICTURES = numbers(2, 3, 16, 16)
COMPUTED: dict[str, Callable[[], Tensor | tuple[Tensor, ...]]] = {
    "similarities": lambda: placements(0),
    "through": lambda: through(placements(0), 100 * numbers(FRAMES, 5, 2)),
    "inverse": lambda: inverse(placements(0)),
    "after": lambda: after(placements(0), placements(3)),
    "rotation_between": lambda: rotation_between(turns(0), turns(1), 0.3),
    "bent": lambda: bent(PICTURES[:1], placements(0)[:1], placements(3)[None]),
    "keypoints": lambda: keypoints(motion(0), motion(1).canonical, tiny()),
    "drive": driven,
    "project": lambda: project(
        *(numbers(FRAMES, 5, 3, seed=i) for i in (0, 1)),
        turns(2),
        motion(3).scale,
        motion(3).translation,
        4.0,
    ),
    "crop_at": lambda: crop_at(PICTURES, POINTS[:, 0], POINTS[:, 1, 0].abs(), POINTS[:, 2, 0], 8),
    "keypoint_flows": lambda: keypoint_flows(POINTS, 0.1 * POINTS, 16, [0.05, 0.35]),
    "splat": lambda: splat(POINTS, [2, 3], 16, 0.1),
    "Pose.keypoints": lambda: (
        Pose(20 * numbers(FRAMES, 3), motion(0).scale, motion(0).translation, motion(1).canonical).keypoints
    ),
    "wobbled": lambda: kept.wobbled(placements(0), numbers(FRAMES, 4)),
    "placed": lambda: kept.placed(100 * numbers(FRAMES, 68, 2), placements(0), 64),
    "aligned_faces": lambda: kept.aligned_faces(
        (255 * PICTURES.sigmoid()).byte().permute(0, 2, 3, 1), placements(0)[:2], 16
    ),
    "equivariance": lambda: equivariance(POINTS, POINTS + 0.1, placements(0)[:2]),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_autocast_does_not_reach_places(name: str) -> None:
    exact = COMPUTED[name]()
    with torch.autocast("cpu", torch.bfloat16):
        assert (numbers(4, 4) @ numbers(4, 4)).dtype == torch.bfloat16
        other = COMPUTED[name]()
    for one, two in zip(*((x,) if isinstance(x, Tensor) else x for x in (exact, other)), strict=True):
        assert two.dtype == torch.float32
        assert torch.equal(one, two)


def test_tensors_of_16_bits_are_widened() -> None:
    multiplied = exactly(lambda a, b: a @ b)
    a, b = numbers(4, 4).bfloat16(), numbers(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        got = multiplied(a, b)
    assert torch.equal(got, a.float() @ b)
