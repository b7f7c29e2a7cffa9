"""Converting published weights: the whole tree end to end at a tiny size, and unions that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from seeded_weights import seeded_state_dict
from torch import Tensor

from vivant import checkpoint
from vivant.engines.personalive.config import Config, tiny
from vivant.engines.personalive.convert import PREFIXES, convert_published
from vivant.engines.personalive.networks import Networks
from vivant.errors import CheckpointError

# As the official program wants it laid out, with the suffixes that are published.
FILES = {
    "vae": "sd-vae-ft-mse/diffusion_pytorch_model.bin",
    "image_encoder": "sd-image-variations-diffusers/image_encoder/pytorch_model.bin",
    "taesd": "taesd/diffusion_pytorch_model.bin",
}


def state() -> dict[str, Tensor]:
    return seeded_state_dict(Networks(tiny()).state_dict())


def parts() -> dict[str, dict[str, Tensor]]:
    """What each published file holds, under its own names."""
    whole = state()
    found = {
        name: {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}
        for name, prefix in PREFIXES.items()
    }
    unet = found["denoising_unet"]
    found["temporal_module"] = {key: unet.pop(key) for key in list(unet) if ".temporal_modules." in key}
    found["motion_extractor"]["idx_tensor"] = torch.arange(66.0)
    found["taesd"] = {f"decoder.{key}": value for key, value in found["taesd"].items()}
    found["taesd"]["encoder.layers.0.weight"] = torch.zeros(3)
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for key in [key for key in found["vae"] if ".attentions." in key]:
        name = key
        for new_name, old_name in old.items():
            name = name.replace(new_name, old_name)
        found["vae"][name] = found["vae"].pop(key)
    return found


def write(folder: Path, files: dict[str, dict[str, Tensor]]) -> Path:
    for name, tensors in files.items():
        path = folder / FILES.get(name, f"personalive/{name}.pth")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, path)
    return folder


def test_end_to_end(tmp_path: Path) -> None:
    files = parts()
    convert_published([write(tmp_path / "in", files)], tmp_path / "out", config=tiny())
    config, networks = checkpoint.load(tmp_path / "out", Config, Networks)
    assert config == tiny()
    assert checkpoint.read_config(tmp_path / "out")["family"] == "personalive"
    expected = state()
    for key, value in networks.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=0, rtol=0)
    assert any(".query." in key for key in files["vae"]), "the old names were not tried"


def test_without_the_tiny_decoder(tmp_path: Path) -> None:
    files = parts()
    del files["taesd"]
    del files["motion_extractor"]["idx_tensor"]
    convert_published([write(tmp_path / "in", files)], tmp_path / "out", config=tiny(), dtype=torch.float16)
    config, _ = checkpoint.load(tmp_path / "out", Config, Networks)
    assert config.tiny_decoder is None


def test_the_union_must_be_whole(tmp_path: Path) -> None:
    """The official program loads both files of the UNet without looking; a layer left out would go unseen."""
    files = parts()
    key = next(key for key in files["temporal_module"] if key.endswith("proj_in.weight"))
    lost = files["temporal_module"].pop(key)
    with pytest.raises(CheckpointError, match=rf"temporal_module.pth is not .*lacks {key}"):
        convert_published([write(tmp_path / "in", files)], tmp_path / "out", config=tiny())
    files["denoising_unet"][key] = lost
    with pytest.raises(CheckpointError, match=r"denoising_unet.pth is not .*unknown"):
        convert_published([write(tmp_path / "in", files)], tmp_path / "out", config=tiny())
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files = parts()
    del files["vae"]
    with pytest.raises(CheckpointError, match=r"lacks sd-vae-ft-mse/diffusion_pytorch_model\.pth \(or \.bin"):
        convert_published([write(tmp_path / "in", files)], tmp_path / "out", config=tiny())
