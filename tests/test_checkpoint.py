"""Checkpoints: exact round trips, and a clear refusal for everything that people have in place of one."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vivant import checkpoint
from vivant.errors import CheckpointError, InputError


@dataclass(frozen=True)
class Config:
    width: int


class Networks(nn.Module):
    table: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, config.width, 3)
        self.norm = nn.BatchNorm2d(config.width)
        self.last = nn.Linear(config.width, 2)
        self.register_buffer("table", torch.arange(4.0), persistent=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "made" / "here", "toy", Config(4), Networks(Config(4)))
    return tmp_path / "made" / "here"


def load(folder: Path, sha256: str | None = None) -> tuple[Config, nn.Module]:
    return checkpoint.load(folder, Config, Networks, sha256=sha256)


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Replace the weights and declare their hash, as a well-meaning tool would."""
    save_file(tensors, folder / checkpoint.WEIGHTS)
    header = json.loads((folder / checkpoint.CONFIG).read_text())
    header["weights_sha256"] = checkpoint.sha256_of(folder / checkpoint.WEIGHTS)
    (folder / checkpoint.CONFIG).write_text(json.dumps(header))


def test_round_trip(folder: Path) -> None:
    torch.manual_seed(0)
    original = Networks(Config(4))
    config, networks = load(folder)
    assert config == Config(4)
    assert not networks.training
    for name, tensor in original.state_dict().items():
        loaded = networks.state_dict()[name]
        assert torch.equal(loaded, tensor)
        assert loaded.dtype == tensor.dtype
    assert torch.equal(networks.get_buffer("table"), torch.arange(4.0))
    assert sorted(path.name for path in folder.iterdir()) == [checkpoint.CONFIG, checkpoint.WEIGHTS]


def test_stored_in_half_precision(folder: Path) -> None:
    checkpoint.save(folder, "toy", Config(4), Networks(Config(4)), dtype=torch.float16)
    stored = load_file(folder / checkpoint.WEIGHTS)
    assert stored["first.weight"].dtype == torch.float16
    assert stored["norm.num_batches_tracked"].dtype == torch.int64
    _, networks = load(folder)
    assert {p.dtype for p in networks.parameters()} == {torch.float32}


def test_loading_leaves_the_global_generator_alone(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load(folder)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": 1}), "is a pickle"),
        (b"PK\x03\x04" + bytes(60), "is a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b'{"error": "not found"}', "web page or text"),
        (b"", "is empty"),
        (b"\x00" * 100, "is not a safetensors file"),
        ((2**20).to_bytes(8, "little") + b'{"a": ', "is truncated"),
        ((2**50).to_bytes(8, "little") + b'{"a": ', "is not a safetensors file"),
        ((8).to_bytes(8, "little") + b'{"a": 1}' + bytes(8), "truncated or damaged"),
    ],
    ids=["pickle", "zip", "lfs", "html", "json", "empty", "zeros", "header cut", "huge header", "nonsense"],
)
def test_hostile_weights(folder: Path, content: bytes, message: str) -> None:
    (folder / checkpoint.WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_cut_short(folder: Path) -> None:
    weights = folder / checkpoint.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load(folder)


def test_one_flipped_bit(folder: Path) -> None:
    weights = folder / checkpoint.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="has hash"):
        load(folder)


def test_not_the_file_that_was_meant(folder: Path) -> None:
    load(folder, checkpoint.sha256_of(folder / checkpoint.WEIGHTS))
    with pytest.raises(CheckpointError, match="not the file meant"):
        load(folder, "0" * 64)


def test_missing_unknown_and_misshapen_tensors(folder: Path) -> None:
    tensors = load_file(folder / checkpoint.WEIGHTS)
    tensors["guest"] = tensors.pop("last.bias")
    tensors["first.weight"] = torch.zeros(4, 3, 5, 5)
    rewrite(folder, tensors)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = str(caught.value)
    assert "lacks last.bias" in message
    assert "unknown guest" in message
    assert "first.weight (4, 3, 5, 5) instead of (4, 3, 3, 3)" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"width": 4, "depth": 1}}, "unknown depth"),
        ({"config": {}}, "lacks width"),
        ({"config": {"width": "4"}}, "width should be int"),
        ({"config": {"width": 5}}, "wrong shape"),
        ({"format": 2}, "format 2"),
        ({"extra": 1}, "it holds"),
    ],
)
def test_hostile_config(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / checkpoint.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"null"])
def test_config_that_is_none(folder: Path, content: bytes) -> None:
    (folder / checkpoint.CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


def test_missing_files(folder: Path) -> None:
    (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="no weights file"):
        load(folder)
    (folder / checkpoint.CONFIG).unlink()
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load(folder)


def test_a_failed_save_keeps_the_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / checkpoint.WEIGHTS).read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match="no space"):
        checkpoint.save(folder, "toy", Config(4), Networks(Config(4)))
    assert (folder / checkpoint.WEIGHTS).read_bytes() == before
    load(folder)
