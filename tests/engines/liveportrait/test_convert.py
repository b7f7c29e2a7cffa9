"""Converting published weights: both layouts end to end, and everything that people have in place of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from seeded_weights import seeded_state_dict
from torch import Tensor

from vivant import checkpoint
from vivant.engines.liveportrait.config import Config, tiny_published
from vivant.engines.liveportrait.convert import PREFIXES, STITCHING_PARTS, convert_published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.errors import CheckpointError

CONFIG = tiny_published()


def state() -> dict[str, Tensor]:
    return seeded_state_dict(PublishedNetworks(CONFIG).state_dict())


def parts() -> dict[str, dict[str, Tensor]]:
    whole = state()
    return {
        name: {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}
        for name, prefix in PREFIXES.items()
    }


def write_official(folder: Path) -> Path:
    """The tree of the official release."""
    for name, tensors in parts().items():
        stitching = name == "stitching_retargeting_module"
        path = folder / ("retargeting_models" if stitching else "base_models") / f"{name}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        data: dict[str, Any] = dict(tensors)
        if stitching:
            data = {
                part: {
                    "module." + key.removeprefix(f"{part}."): value
                    for key, value in tensors.items()
                    if key.startswith(part)
                }
                for part in STITCHING_PARTS
            }
            data["optimizer"] = {"step": 3, "state": torch.zeros(4)}
        torch.save(data, path)
    return folder


def write_community(folder: Path) -> Path:
    """One folder of safetensors; the small networks are flattened with an underscore."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in parts().items():
        if name == "stitching_retargeting_module":
            tensors = {key.replace(".mlp", "_module.mlp"): value for key, value in tensors.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("write", [write_official, write_community])
def test_end_to_end(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    convert_published([write(tmp_path / "in")], tmp_path / "out", config=CONFIG)
    config, networks = checkpoint.load(tmp_path / "out", Config, PublishedNetworks)
    assert config == CONFIG
    assert checkpoint.read_config(tmp_path / "out")["family"] == "liveportrait"
    expected = state()
    for key, value in networks.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=0, rtol=0)
    networks.fold()
    image = torch.rand(1, 3, 128, 128)
    motion = networks.motion(image)
    picture = networks.generate(networks.appearance(image), motion.canonical, motion.canonical)
    assert picture.shape == (1, 3, 256, 256)


def test_half_precision_on_disk(tmp_path: Path) -> None:
    convert_published(
        [write_community(tmp_path / "in")], tmp_path / "out", config=CONFIG, dtype=torch.float16
    )
    stored = load_file(tmp_path / "out" / checkpoint.WEIGHTS)
    assert {value.dtype for value in stored.values()} == {torch.float16, torch.int64}


def test_files_given_one_by_one(tmp_path: Path) -> None:
    """As for animals: their own networks, the stitching file of the human release."""
    human, animal = write_official(tmp_path / "human"), write_official(tmp_path / "animal")
    (animal / "retargeting_models" / "stitching_retargeting_module.pth").unlink()
    stitching = human / "retargeting_models" / "stitching_retargeting_module.pth"
    convert_published([animal, stitching], tmp_path / "out", config=CONFIG)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_motion_backbone_without_its_prefix(tmp_path: Path) -> None:
    folder = write_community(tmp_path / "in")
    tensors = {key.removeprefix("detector."): value for key, value in parts()["motion_extractor"].items()}
    save_file(tensors, folder / "motion_extractor.safetensors")
    convert_published([folder], tmp_path / "out", config=CONFIG)


class Hostile:
    """Pickles to a call of `print`, standing for worse."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must never appear",)


def refuse(folder: Path, message: str) -> None:
    out = folder.parent / "out"
    with pytest.raises(CheckpointError, match=message):
        convert_published([folder], out, config=CONFIG)
    assert not out.exists()


def test_hostile_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_official(tmp_path / "in")
    torch.save({"first.conv.weight": Hostile()}, folder / "base_models" / "warping_module.pth")
    refuse(folder, "warping_module.pth holds more than tensors, which could run code")
    assert capsys.readouterr().out == ""


def test_git_lfs_pointer(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "in")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (folder / "base_models" / "spade_generator.pth").write_text(pointer)
    refuse(folder, r"spade_generator\.pth is a Git LFS pointer")


def test_web_page(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "in")
    (folder / "base_models" / "spade_generator.pth").write_text("<!DOCTYPE html><html>")
    refuse(folder, r"spade_generator\.pth is a web page")


def test_truncated_pickle(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "in")
    path = folder / "base_models" / "spade_generator.pth"
    path.write_bytes(path.read_bytes()[:2000])
    refuse(folder, r"spade_generator\.pth is truncated or damaged")


def test_truncated_safetensors(tmp_path: Path) -> None:
    folder = write_community(tmp_path / "in")
    path = folder / "spade_generator.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    refuse(folder, r"spade_generator\.safetensors is truncated")


def test_not_a_table(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "in")
    torch.save([torch.zeros(2)], folder / "base_models" / "spade_generator.pth")
    refuse(folder, r"spade_generator\.pth holds a list, not a table")


def test_not_only_tensors(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "in")
    torch.save({**parts()["spade_generator"], "epoch": 3}, folder / "base_models" / "spade_generator.pth")
    refuse(folder, "should hold tensors only; these are not: epoch")


def test_missing_files(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "in")
    (folder / "base_models" / "warping_module.pth").unlink()
    refuse(folder, r"lacks warping_module\.pth")
    refuse(tmp_path / "nowhere", "there is no .*nowhere")


def test_ambiguous_files(tmp_path: Path) -> None:
    write_official(tmp_path / "in" / "human")
    write_official(tmp_path / "in" / "animal")
    refuse(tmp_path / "in", "more than one appearance_feature_extractor")


def test_other_architecture(tmp_path: Path) -> None:
    folder = write_community(tmp_path / "in")
    tensors = parts()["spade_generator"]
    tensors["fc.bias"] = torch.zeros(7)
    tensors["extra.weight"] = tensors.pop("up_1.conv_s.weight_orig")
    save_file(tensors, folder / "spade_generator.safetensors")
    refuse(
        folder,
        r"not the published spade_generator: it lacks up_1\.conv_s\.weight_orig; it has unknown extra\.weight; "
        r"it has the wrong shape for fc\.bias \(7,\) instead of \(8,\)",
    )
