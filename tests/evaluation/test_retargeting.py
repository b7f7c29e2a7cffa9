"""The protocol of stitching and retargeting: what it refuses, what it counts, and that its numbers can move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vivant.engines.liveportrait.config import tiny_whole
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.errors import InputError
from vivant.evaluation.retargeting import SWEEP, measure_retargeting
from vivant.face.models import face_models_available

from .conftest import tiny_engine

PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "astronaut.png"
needs_mesh = pytest.mark.skipif(
    not face_models_available(), reason="the face mesh is fetched at the first use"
)


def engine_of(seed: int) -> LivePortrait:
    torch.manual_seed(seed)
    return LivePortrait(tiny_whole(), CompactNetworks(tiny_whole()))


def test_a_preset_without_the_networks_is_refused() -> None:
    with pytest.raises(InputError, match="no stitching and retargeting networks"):
        measure_retargeting(tiny_engine("compact"), portraits=[PORTRAIT])


@needs_mesh
def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="there is no face to measure"):
        measure_retargeting(engine_of(0))


@needs_mesh
def test_stitching_counts_and_a_rerun_agrees() -> None:
    engine = engine_of(0)
    report = measure_retargeting(engine, portraits=[PORTRAIT])
    off, on = (report.numbers[f"shoulder error, stitching {word}"] for word in ("off", "on"))
    assert 0 < on < off / 4, "shoulders are held by the flow, trained or not"
    assert len(report.tables[1].rows[0]) == 1 + len(SWEEP)
    assert np.isfinite(report.numbers["lips: change elsewhere"])
    assert measure_retargeting(engine, portraits=[PORTRAIT]).to_json() == report.to_json()
