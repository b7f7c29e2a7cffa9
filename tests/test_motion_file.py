"""Saved motion: what is read is what was written, strange files are refused, replaying is animating."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vivant.animation import animate
from vivant.engines import engine_class
from vivant.engines.liveportrait.config import Options, tiny
from vivant.engines.liveportrait.motion import Motion
from vivant.errors import InputError
from vivant.face.models import face_models_available
from vivant.motion_capture import record_motion
from vivant.motion_file import Mark, MotionFile, MotionWriter
from vivant.runtime import precision
from vivant.session import Session


def some_motion(seed: int) -> Motion:
    torch.manual_seed(seed)
    return Motion(
        rotation=torch.randn(1, 3, 3),
        expression=torch.randn(1, 5, 3),
        scale=torch.rand(1, 1),
        translation=torch.randn(1, 3),
        canonical=torch.randn(1, 5, 3),
    )


def write(path: Path, *motions: Motion | None, restart_at: int | None = None) -> Path:
    with MotionWriter(path, "liveportrait", "compact-5", Fraction(30000, 1001), "clip.mp4") as writer:
        for index, motion in enumerate(motions):
            writer.write(motion, restarts=index == restart_at)
    return path


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    motions = [None, some_motion(1), None, some_motion(2), *(some_motion(i) for i in range(3, 600))]
    file = MotionFile(write(tmp_path / "m.safetensors", *motions, restart_at=3))
    assert file.header.frame_rate == Fraction(30000, 1001)
    assert (file.header.source, len(file)) == ("clip.mp4", len(motions))
    entries = list(file.entries(Motion))
    marks = [entry.mark for entry in entries[:5]]
    assert marks == [Mark.MISSING, Mark.MOVES, Mark.MISSING, Mark.RESTARTS, Mark.MOVES]
    for entry, motion in zip(entries, motions, strict=True):
        if motion is None:
            assert entry.motion is None
        else:
            for name, tensor in motion.to_tensors().items():
                assert torch.equal(entry.motion.to_tensors()[name], tensor)
    part = list(file.entries(Motion, 300, 302))
    assert torch.equal(part[1].motion.expression, motions[301].expression)


def test_nothing_is_left_of_a_recording_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match=r"clip\.mp4 shows no face"):
        write(path, None, None)
    with pytest.raises(ValueError, match="the same fields"):
        write(path, some_motion(0), replace(some_motion(0), lips_open=torch.zeros(1, 1)))
    assert list(tmp_path.iterdir()) == []
    write(path, some_motion(0))
    with pytest.raises(InputError, match="exists already"):
        write(path, some_motion(1))


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        MotionFile(path)
    path.write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(InputError, match="is not a motion file"):
        MotionFile(path)
    save_file({"rows": torch.zeros(2, 3)}, path)
    with pytest.raises(InputError, match="does not say that it is one"):
        MotionFile(path)
    good = write(tmp_path / "good.safetensors", some_motion(0)).read_bytes()
    path.write_bytes(good[:-4])
    with pytest.raises(InputError, match="is not a motion file"):
        MotionFile(path)
    length = struct.unpack("<Q", good[:8])[0]
    for old, new, says in (
        ('"version": "1"', '"version": "9"', "its version is 9, known is 1"),
        ("30000/1001", "-3000/1001", "its frame rate is"),
        ("30000/1001", "30000/0000", "its frame rate is 30000/0000"),
        ('"scale\\": [1]', '"scale\\": [2]', "numbers are promised"),
    ):
        header = good[8 : 8 + length].decode().replace(old, new)
        assert header.encode() != good[8 : 8 + length]
        path.write_bytes(good[:8] + header.encode() + good[8 + length :])
        with pytest.raises(InputError, match=says):
            MotionFile(path)
    assert json.loads(good[8 : 8 + length])["rows"]["shape"][0] == 1
    with pytest.raises(InputError, match="means nothing to liveportrait \\(compact-81\\)"):
        MotionFile(tmp_path / "good.safetensors").check("liveportrait", "compact-81")
    path.write_bytes(good[: 8 + length] + struct.pack("<f", 7.0) + good[8 + length + 4 :])
    with pytest.raises(InputError, match="marks no frame"):
        list(MotionFile(path).entries(Motion))


def test_seeing_then_drawing_is_pushing(tmp_path: Path) -> None:
    family = engine_class("liveportrait")
    torch.manual_seed(0)
    networks = precision.place(family.build_networks(tiny()), torch.device("cpu"), torch.float32)
    engine = family(tiny(), networks)
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)
    frames = torch.rand(5, 3, 64, 64)
    pushed = Session(engine, portrait, Options()).push(frames)
    seeing, drawing = Session(engine, portrait), Session(engine, portrait, Options())
    drawn = [frame for one in frames for frame in drawing.push_motion(seeing.see(one))]
    assert torch.equal(torch.stack(drawn), torch.stack(pushed))
    assert drawing.timing.frames_in == drawing.timing.frames_out == 5


@pytest.mark.skipif(not face_models_available(), reason="the face models are fetched by `make models`")
def test_replaying_is_animating(tmp_path: Path) -> None:
    import vivant

    engine = vivant.load("liveportrait-mini", device="cpu", dtype="float32")
    root = Path(__file__).parents[1]
    portrait = engine.prepare(root / "examples" / "astronaut.png")
    path = tmp_path / "m.safetensors"
    rate = Fraction(5)
    count = record_motion(engine, root / "examples" / "driving.mp4", path, frame_rate=rate)
    shown = list(animate(engine, portrait, root / "examples" / "driving.mp4", frame_rate=rate))
    replayed = animate(engine, portrait, path)
    assert (replayed.frame_rate, replayed.num_frames_estimate) == (rate, count)
    again = list(replayed)
    assert len(again) == len(shown) == count
    assert all(np.array_equal(one, other) for one, other in zip(again, shown, strict=True))
    with pytest.raises(InputError, match="was recorded at 5 frames per second"):
        animate(engine, portrait, path, frame_rate=25)
