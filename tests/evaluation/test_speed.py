"""Speed: both precisions in one run, threads put back. The numbers themselves are not tested."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import cv2
import pytest
import torch

from vivant import checkpoint
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.evaluation.speed import measure_speed


@pytest.fixture
def checkpoint_folder(compact: LivePortrait, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "tiny", "liveportrait", compact.config, compact.networks)
    return tmp_path / "tiny"


def test_precisions_take_turns(
    checkpoint_folder: Path, astronaut: Path, driving: Path, face_models: None
) -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    calls: list[tuple[int, int]] = []
    report = measure_speed(
        checkpoint_folder,
        astronaut,
        driving,
        device="cpu",
        num_threads=1,
        num_frames=3,
        rounds=2,
        progress=lambda done, of: calls.append((done, of)),
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
    assert [row[0] for row in report.tables[0].rows] == ["bfloat16", "float32"]
    for name in ("networks_fps", "networks_fps_ratio", "end_to_end_fps", "first_frame_ms", "peak_memory_mib"):
        assert report.numbers[name] > 0
    assert report.subject["precision"] == "bfloat16 / float32"
    assert report.settings["frame"] == "64x64"
    assert json.loads(report.to_json())["verdicts"][0]["result"] in ("pass", "fail")


def test_one_precision_has_no_ratio(
    checkpoint_folder: Path, astronaut: Path, driving: Path, face_models: None
) -> None:
    report = measure_speed(
        checkpoint_folder, astronaut, driving, dtypes=("float32",), device="cpu", num_frames=2, rounds=1
    )
    assert len(report.tables) == 1
    assert json.loads(report.to_json())["numbers"]["networks_fps_ratio"] is None


def test_a_family_that_hears_is_timed_by_blocks(astronaut: Path, tmp_path: Path, face_models: None) -> None:
    with wave.open(str(tmp_path / "said.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * 16_000 * 2))
    how = {"dtypes": ("float32",), "device": "cpu", "num_threads": 1, "num_frames": 20, "rounds": 1}
    report = measure_speed("refvae-mini", astronaut, tmp_path / "said.wav", **how)
    assert report.settings["frames"] == 16
    assert report.numbers["networks_fps"] > 0
    assert report.numbers["end_to_end_fps"] > 0
    with pytest.raises(InputError, match="astronaut"):
        measure_speed("refvae-mini", astronaut, astronaut, **how)


def test_wrong_input_is_refused(astronaut: Path, driving: Path) -> None:
    with pytest.raises(InputError, match="at least one dtype"):
        measure_speed("liveportrait-mini", astronaut, driving, rounds=0)
