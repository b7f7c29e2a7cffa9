"""A family that answers late, through the whole program: as many frames as went in, and its latency is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vivant import checkpoint
from vivant.engines import engine_class

from .lines import Run


def test_late_frames_are_all_there(
    run: Run, here: Path, media: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints") / "late"
    family = engine_class("personalive")
    config = family.tiny_configs()["tiny"]
    torch.manual_seed(0)
    checkpoint.save(folder, "personalive", config, family.build_networks(config))
    line = (
        "animate",
        "-s",
        media / "face.png",
        "-d",
        media / "drive.mp4",
        "--preset",
        folder,
        "--renoise",
        "fresh",
    )
    done = run(*line, "-o", "made.mp4")
    assert done.code == 0, done.err
    assert "made.mp4: 5 frames, 400x400" in done.out
    assert "live, a frame would be answered 5 frames and one step later" in done.out
    manifest = json.loads((here / "made.json").read_text())
    assert manifest["latency"]["frames"] == 5
    assert manifest["latency"]["live_seconds"] > 5 / 25
    assert manifest["options"]["renoise"] == "fresh"
    refused = run(*line, "--max-keyframes", "0", "-o", "other.mp4")
    assert refused.code == 2
    assert "--max-keyframes is 1 to 8, got 0" in refused.err
