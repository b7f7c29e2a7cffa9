"""Saved motion cut and put together: what is made of motion files replays as its parts did."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vivant.engines import engine_class
from vivant.engines.liveportrait.config import Options, tiny
from vivant.engines.liveportrait.motion import EYE_KEYPOINTS, LIP_KEYPOINTS, Motion
from vivant.errors import InputError
from vivant.montage import Taken, join_motion, loop_motion, mix_motion, slice_motion
from vivant.motion_file import Mark, MotionFile, MotionWriter
from vivant.ops.rotation import rotation_between, rotation_from_degrees
from vivant.runtime import precision
from vivant.session import Session

POINTS = 81


def at(seconds: float, yaw_degrees: float = 0.0, shape: float = 0.0, place: float = 0.0) -> Motion:
    """A head that turns and whose every keypoint moves by `shape`; time only tells frames apart."""
    zero = torch.zeros(1)
    return Motion(
        rotation=rotation_from_degrees(zero, zero + yaw_degrees, zero),
        expression=torch.full((1, POINTS, 3), shape),
        scale=torch.full((1, 1), 1.5),
        translation=torch.tensor([[place, 0.0, 0.0]]),
        canonical=torch.ones(1, POINTS, 3),
        eyes_open=torch.full((1, 2), 0.3),
        lips_open=torch.full((1, 1), 0.1 + abs(shape)),
    )


def write(
    path: Path,
    frames: list[Motion | None],
    rate: Fraction = Fraction(25),
    restart_at: int | None = None,
    refers: Motion | None = None,
    kind: str = "compact-81",
) -> Path:
    with MotionWriter(path, "liveportrait", kind, rate, path.stem + ".mp4") as writer:
        if refers is not None:
            writer.refer(refers)
        for index, motion in enumerate(frames):
            writer.write(motion, restarts=index == restart_at)
    return path


def curve(count: int, angle: Callable[[int], float], shape: float = 0.0) -> list[Motion | None]:
    return [at(i / 25, angle(i), shape) for i in range(count)]


def read(path: Path) -> list[Motion | None]:
    return [entry.motion for entry in MotionFile(path).entries(Motion)]


def yaws(path: Path) -> torch.Tensor:
    return torch.cat([motion.yaw for motion in read(path) if motion is not None])


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-4) -> bool:
    return bool(torch.allclose(a, b, atol=atol))


def test_rotations_are_blended_as_rotations() -> None:
    zero, third = torch.zeros(1), torch.full((1,), 1 / 3)
    start = rotation_from_degrees(zero + 20, zero + 60, zero - 30)
    end = rotation_from_degrees(zero - 10, zero - 50, zero + 35)
    between = rotation_between(start, end, third)
    torch.testing.assert_close(between @ between.mT, torch.eye(3)[None], atol=1e-6, rtol=0)
    turned = [((one.mT @ other).diagonal(dim1=-2, dim2=-1).sum() - 1) / 2 for one, other in
              ((start, between), (start, end))]  # fmt: skip
    assert math.acos(turned[0]) == pytest.approx(math.acos(turned[1]) / 3, abs=1e-5), (
        "a third of the shortest turn"
    )
    torch.testing.assert_close(rotation_between(start, end, 1.0), end, atol=1e-6, rtol=0)


def test_a_slice_shows_what_the_whole_shows(tmp_path: Path) -> None:
    """Through networks: also after a cut in the clip, and where the reference lies before the slice."""
    frames = [at(i / 25, 3.0 * i, 0.01 * i, 0.01 * i) for i in range(12)]
    frames[5] = None
    path = write(tmp_path / "m.safetensors", frames, restart_at=7, refers=at(0, -5.0))
    family = engine_class("liveportrait")
    torch.manual_seed(0)
    engine = family(
        tiny(), precision.place(family.build_networks(tiny()), torch.device("cpu"), torch.float32)
    )
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)

    def drawn(file: MotionFile) -> list[torch.Tensor | None]:
        session, shown = Session(engine, portrait, Options(smoothing_ms=0)), []
        reference = file.reference(Motion)
        if reference is not None:
            session.refer(reference)
        for entry in file.entries(Motion):
            restart = entry.mark is Mark.RESTARTS
            shown.append(
                None if entry.motion is None else session.push_motion(entry.motion, restart=restart)[0]
            )
        return shown

    whole = drawn(MotionFile(path))
    for start, stop in ((3, 9), (8, 12), (0, 4)):
        out = tmp_path / f"{start}.safetensors"
        assert slice_motion(path, out, start, stop) == stop - start
        part = drawn(MotionFile(out))
        for one, other in zip(part, whole[start:stop], strict=True):
            assert (one is None and other is None) or (one is not None and torch.equal(one, other))
    with pytest.raises(InputError, match="frames 0 to 11; 8 to 12 is no part of it"):
        slice_motion(path, tmp_path / "x.safetensors", 8, 13)


def test_a_mix_takes_changes_from_each(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", curve(10, lambda i: 5 + i, 0.0))
    other = write(tmp_path / "other.safetensors", [at(i, 40 + 2 * i, 0.2 + 0.02 * i) for i in range(8)])
    out = tmp_path / "mix.safetensors"
    assert mix_motion(base, [Taken("pose", other)], out) == 8, "the shortest ends it"
    assert close(yaws(out), 5 + 2 * torch.arange(8.0)), "how far the other turned, from where the base looked"
    assert all(motion is not None and float(motion.expression.abs().max()) == 0 for motion in read(out))
    taken = [Taken("lips", other, 0.5), Taken("eyes", other)]
    mix_motion(base, taken, out, overwrite=True)
    last = read(out)[-1]
    assert last is not None
    assert close(last.yaw, torch.tensor([12.0]))
    assert close(last.expression[0, LIP_KEYPOINTS["compact"][0]], torch.full((3,), 0.07))
    assert close(last.expression[0, EYE_KEYPOINTS["compact"][0]], torch.full((3,), 0.14))
    assert float(last.expression[0, 70].abs().max()) == 0, "the head's points are neither"
    assert mix_motion(base, taken, out, repeat=True, overwrite=True) == 10


def test_other_rates_are_met_by_time_and_cuts_are_made_good(tmp_path: Path) -> None:
    slow = write(tmp_path / "slow.safetensors", [at(i, 10.0 * i) for i in range(5)], Fraction(10))
    base = write(tmp_path / "base.safetensors", curve(100, lambda _: 0.0))
    out = tmp_path / "mix.safetensors"
    assert mix_motion(base, [Taken("pose", slow)], out) == 12  # half a second at 25 per second
    expected = torch.clamp(torch.arange(12.0) / 25 * 100, max=40)
    assert close(yaws(out), expected, 1e-3)
    cut = write(
        tmp_path / "cut.safetensors", [at(i, 3 + i if i < 5 else 60 + i) for i in range(9)], restart_at=5
    )
    mix_motion(base, [Taken("pose", cut)], out, overwrite=True)
    assert close(yaws(out), torch.tensor([0.0, 1, 2, 3, 4, 0, 1, 2, 3])), (
        "each shot counts from its beginning"
    )


def test_what_one_did_not_measure_or_see_is_left_out(tmp_path: Path) -> None:
    blind = [replace(at(i, i), eyes_open=None) for i in range(6)]
    base = write(tmp_path / "base.safetensors", curve(6, float))
    other = write(tmp_path / "other.safetensors", [*blind[:2], None, *blind[3:]])
    out = tmp_path / "mix.safetensors"
    mix_motion(base, [Taken("lips", other)], out)
    assert "eyes_open" not in MotionFile(out).header.fields
    assert [motion is None for motion in read(out)] == [False, False, True, False, False, False]
    with pytest.raises(InputError, match="means nothing to liveportrait"):
        mix_motion(base, [Taken("pose", write(tmp_path / "p.safetensors", blind, kind="published-81"))], out)
    with pytest.raises(InputError, match=r"weight of pose is between 0 and 1, got 1\.5"):
        mix_motion(base, [Taken("pose", other, 1.5)], out)


def test_joining_fades(tmp_path: Path) -> None:
    one = write(tmp_path / "one.safetensors", curve(20, lambda _: 7.0))
    other = write(tmp_path / "other.safetensors", [at(0, -40), *curve(19, lambda _: -20.0)])
    out = tmp_path / "both.safetensors"
    assert join_motion([one, other], out, fade_seconds=0.2) == 35
    turned = yaws(out)
    assert close(turned[:15], torch.full((15,), 7.0))
    assert close(turned[20:], torch.full((15,), 27.0)), "twenty degrees from its own beginning"
    assert bool((turned[14:21].diff() >= 0).all())
    assert join_motion([one, other, one], tmp_path / "hard.safetensors", fade_seconds=0) == 60
    with pytest.raises(InputError, match=r"one\.safetensors is too short to fade"):
        join_motion([one, other], out, fade_seconds=2, overwrite=True)


def test_a_loop_closes(tmp_path: Path) -> None:
    drifting = lambda i: 12 * math.sin(2 * math.pi * i / 50) + 0.02 * i  # noqa: E731
    path = write(tmp_path / "m.safetensors", curve(260, drifting))
    out = tmp_path / "loop.safetensors"
    found = loop_motion(path, out)
    turned = yaws(out)
    assert found.num_frames == len(turned) == found.stop - found.start
    assert abs(found.num_frames - 50 * round(found.num_frames / 50)) <= 2, "whole periods"
    assert found.seam <= 1.01
    around = torch.cat([turned, turned[:2]])
    assert float(around.diff().abs().max()) < 1.3 * float(yaws(path).diff().abs().max())
    assert loop_motion(path, out, times=3, overwrite=True).num_frames == 3 * found.num_frames
    back = loop_motion(path, out, ping_pong=True, overwrite=True)
    turned = yaws(out)
    assert len(turned) == 2 * (back.stop - back.start) - 2
    assert close(turned[1:], turned[1:].flip(0))
    assert abs(float(turned[1] - turned[0])) < 0.2, "turns back where the head is nearly still"
    with pytest.raises(InputError, match="too short for a loop"):
        loop_motion(write(tmp_path / "short.safetensors", curve(20, float)), out)
