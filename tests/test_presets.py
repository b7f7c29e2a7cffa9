"""Presets: a consistent table, loading by name and by folder, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vivant
from vivant import checkpoint, presets, store
from vivant.engines import ENGINES, engine_class
from vivant.errors import CheckpointError, InputError
from vivant.presets import PRESETS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training writes."""
    family = engine_class("liveportrait")
    config = family.tiny_configs()["compact"]
    path = tmp_path_factory.mktemp("trained")
    checkpoint.save(path, "liveportrait", config, family.build_networks(config))
    return path


def test_the_table_is_consistent() -> None:
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.family in ENGINES
        assert preset.summary.endswith(".")
        assert preset.licence
        assert preset.source
        assert preset.sha256 is None or len(preset.sha256) == 64


@pytest.mark.parametrize("preset", [p for p in PRESETS.values() if p.embedded], ids=lambda p: p.name)
def test_embedded_weights_are_whole(preset: presets.Preset) -> None:
    if not (preset.folder / checkpoint.WEIGHTS).is_file():
        pytest.skip(f"{preset.name} is not trained yet")
    assert preset.sha256 == checkpoint.sha256_of(preset.folder / checkpoint.WEIGHTS)
    assert vivant.load(preset.name, device="cpu").family == preset.family


def test_load_a_folder(folder: Path) -> None:
    for path in (folder, str(folder), folder / checkpoint.WEIGHTS):
        engine = vivant.load(path, device="cpu", dtype="float32")
        assert engine.dtype == torch.float32
        assert engine.config == engine_class("liveportrait").tiny_configs()["compact"]
    portrait = engine.prepare(torch.rand(3, 32, 32), face=None)
    assert engine.step(engine.start(portrait), torch.rand(1, 3, 32, 32)).shape == (1, 3, 64, 64)


def test_load_in_half_precision(folder: Path) -> None:
    engine = vivant.load(folder, device="cpu", dtype="bfloat16")
    assert engine.dtype == torch.bfloat16
    weights = [m.weight.dtype for m in engine.networks.modules() if isinstance(m, torch.nn.Conv2d)]
    assert torch.bfloat16 in weights, "some networks may ask to stay in float32, not all"


def test_a_name_that_is_nothing() -> None:
    with pytest.raises(InputError, match="liveportrait-mini"):
        vivant.load("liveportrait-maxi")


def test_weights_that_must_be_converted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_HOME", str(tmp_path))
    assert PRESETS["liveportrait"].folder == tmp_path / "presets" / "liveportrait"
    with pytest.raises(CheckpointError, match="vivant convert"):
        vivant.load("liveportrait")


def test_an_installed_wheel_has_them_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib" / "site-packages" / "vivant"
    package.mkdir(parents=True)
    monkeypatch.setattr(store, "PACKAGE", package)
    assert PRESETS["liveportrait-mini"].folder == package / "weights" / "liveportrait-mini"
    with pytest.raises(CheckpointError, match="install vivant again"):
        vivant.load("liveportrait-mini")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="pickle"):
        vivant.load(tmp_path / "model.pth")


def test_a_family_that_is_not_known(folder: Path, tmp_path: Path) -> None:
    for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    text = (tmp_path / checkpoint.CONFIG).read_text().replace('"liveportrait"', '"deadportrait"')
    (tmp_path / checkpoint.CONFIG).write_text(text)
    with pytest.raises(InputError, match="no family 'deadportrait'"):
        vivant.load(tmp_path)


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("toaster", "auto", "not a device"),
        ("cpu", "float64", "not a precision"),
        ("cpu", "float16", "slower"),
    ],
)
def test_settings_that_cannot_be(folder: Path, device: str, dtype: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        vivant.load(folder, device=device, dtype=dtype)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_gpu_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match="sees no CUDA device"):
        vivant.load(folder, device="cuda:0")
