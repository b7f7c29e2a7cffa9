"""Smoothing: still heads stand still, fast motion is not smeared, rotations stay rotations."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from test_motion import motion_of

from vivant.engines.liveportrait.config import tiny
from vivant.engines.liveportrait.motion import Motion
from vivant.engines.liveportrait.steadying import EXPRESSION_STEPS, ROTATION_STEP, steady
from vivant.ops.following import follow_rotation
from vivant.ops.rotation import degrees_from_rotation, rotation_from_degrees

CONFIG = tiny()


def run(frames: list[Motion], time_constant_seconds: float = 0.1, frame_rate_hz: float = 25) -> list[Motion]:
    out = frames[:1]
    for frame in frames[1:]:
        smooth = steady(
            out[-1], frame, CONFIG, time_constant_seconds=time_constant_seconds, frame_rate_hz=frame_rate_hz
        )
        out.append(smooth)
    return out


def yaw_of(motions: list[Motion]) -> torch.Tensor:
    return torch.cat([motion.yaw for motion in motions])


def turned(base: Motion, degrees: float) -> Motion:
    zero = torch.zeros(1)
    return replace(base, rotation=rotation_from_degrees(zero, torch.tensor([degrees]), zero))


def test_noise_is_averaged_and_a_fast_turn_passes() -> None:
    base = motion_of(1, CONFIG)
    noise = torch.randn(60, generator=torch.Generator().manual_seed(0)) * 0.2
    still = run([turned(base, float(x)) for x in noise])
    assert float(yaw_of(still)[10:].diff().std()) < 0.5 * float(noise[10:].diff().std())
    step = run([turned(base, x) for x in (0.0, 0.0, 20.0, 20.0)])
    assert float(yaw_of(step)[2]) > 19.9


def test_a_blink_is_not_smeared() -> None:
    base = motion_of(1, CONFIG)
    blink = base.expression.clone()
    blink[:, 37, 1] += 5 * EXPRESSION_STEPS["compact"]
    out = run([base, replace(base, expression=blink), base])
    assert float((out[1].expression - blink).abs().max()) < 0.01 * 5 * EXPRESSION_STEPS["compact"]
    assert float((out[2].expression - base.expression).abs().max()) < 0.01 * 5 * EXPRESSION_STEPS["compact"]


def test_seconds_do_not_depend_on_the_frame_rate() -> None:
    base = motion_of(1, CONFIG)
    small = math.degrees(ROTATION_STEP) * 0.01
    slow = run([turned(base, 0.0)] + [turned(base, small)] * 5, frame_rate_hz=25)
    fast = run([turned(base, 0.0)] + [turned(base, small)] * 10, frame_rate_hz=50)
    assert abs(float(yaw_of(slow)[-1] - yaw_of(fast)[-1])) < 0.01 * small


def test_rotations_stay_rotations() -> None:
    angles = torch.tensor([[0.0, 10.0], [0.0, -20.0], [0.0, 170.0]])
    a, b = rotation_from_degrees(*angles).unsqueeze(1)
    middle = follow_rotation(a, b, 0.02, 0.01)
    torch.testing.assert_close(middle @ middle.mT, torch.eye(3)[None], atol=1e-5, rtol=0)
    assert float(torch.det(middle)) > 0.999
    torch.testing.assert_close(follow_rotation(a, b, 1e-4, 1.0), b, atol=1e-5, rtol=0)
    assert torch.equal(follow_rotation(a, a, 0.02, 0.5), a)
    small = rotation_from_degrees(*torch.tensor([[0.0], [1.0], [0.0]]))
    half = follow_rotation(torch.eye(3)[None], small, 1e3, math.log(2))
    assert abs(float(degrees_from_rotation(half)[1]) - 0.5) < 1e-3
