"""A driver with a cut in it: saved motion, and a live stream, draw what animating draws."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins import FakeTracker, pictures

from vivant import drivers
from vivant.animation import animate
from vivant.engines.flashportrait import motion
from vivant.engines.flashportrait.config import tiny_differences
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.face.align import similarity
from vivant.live.stream import LiveSettings, LiveStream
from vivant.media.reader import read_clip
from vivant.media.writer import VideoWriter
from vivant.motion_capture import record_motion
from vivant.motion_file import MotionFile

RATE = Fraction(25)
NUM_FRAMES, CUT = 36, 29
"""After the first frame has come out of the live stream, which from then on sees before it draws."""


@pytest.fixture(scope="module")
def engine() -> FlashPortrait:
    torch.manual_seed(0)
    networks = FlashPortrait.build_networks(tiny_differences())
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    engine = FlashPortrait(tiny_differences(), networks.eval())
    assert engine.config.alignment == "first", "what is seen is relative to the first face of a shot"
    assert engine.stream.delay_frames < CUT
    return engine


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every frame another picture, whose face is aligned another way; the shot changes at CUT."""

    def alignment_of(picture: np.ndarray, size_px: int) -> np.ndarray:
        side = picture.shape[0]
        shift = picture.mean((0, 1))[:2] / 255 * side / 4
        return similarity(motion.POINTS_IN_CROP * side + shift, motion.ALIGNED_POINTS * size_px)

    monkeypatch.setattr(motion, "alignment_of", alignment_of)
    monkeypatch.setattr(drivers, "FaceTracker", type("Fake", (FakeTracker,), {"cuts": frozenset({CUT})}))
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, RATE, 96, 96, preset="ultrafast") as writer:
        for picture in pictures(NUM_FRAMES):
            writer.write(picture)
    return path


@pytest.fixture
def portrait(engine: FlashPortrait, clip: Path) -> Any:
    return engine.prepare(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)), face=None)


def test_replaying_is_animating(engine: FlashPortrait, portrait: Any, clip: Path, tmp_path: Path) -> None:
    shown = list(animate(engine, portrait, clip))
    path = tmp_path / "m.safetensors"
    assert record_motion(engine, clip, path) == NUM_FRAMES
    again = list(animate(engine, portrait, path))
    assert len(again) == len(shown) == NUM_FRAMES
    different = [
        index
        for index, (one, other) in enumerate(zip(shown, again, strict=True))
        if not np.array_equal(one, other)
    ]
    assert different == []
    entries = [entry.motion for entry in MotionFile(path).entries(engine.motion_type)]
    still = torch.eye(2, 3).flatten()
    for index in (0, CUT):
        torch.testing.assert_close(entries[index].features[0, -6:], still, atol=1e-4, rtol=0)


def test_live_is_animating(engine: FlashPortrait, portrait: Any, clip: Path) -> None:
    frames = [frame.image for frame in read_clip(clip)]
    expected = list(animate(engine, portrait, frames))
    stream = LiveStream(engine, portrait, None, LiveSettings(policy="wait", watermark=None, rate_hz=25))
    shown = []
    for number, frame in enumerate(frames):
        assert stream.offer(frame, number / 25)
        shown += stream.step()
    assert [picture.number for picture in shown] == list(range(len(shown)))
    assert len(shown) > NUM_FRAMES - engine.stream.delay_frames
    different = [p.number for p in shown if not np.array_equal(p.image, expected[p.number])]
    assert different == []
