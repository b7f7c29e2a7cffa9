"""Every published network against the official code (fp32, weights from key names): plain form, layer by layer."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from comparison import assert_close, strided
from seeded_weights import digest
from torch import Tensor, nn

from vivant.engines.liveportrait.convert import PREFIXES
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.networks.generator import NORM_EPS
from vivant.engines.liveportrait.networks.warping import deform, heatmaps, sparse_motions

Golden = dict[str, Tensor]


@pytest.fixture(scope="module")
def volume(plain: PublishedNetworks, golden: Golden) -> Tensor:
    with torch.inference_mode():
        return plain.appearance_extractor(golden["in.image_128"])


def outputs_of(module: nn.Module, names: list[str], *inputs: Any) -> dict[str, Tensor]:
    """Run a network and return what its submodules gave, by name; "" is the network itself."""
    seen: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _module, _inputs, output, name=name: seen.__setitem__(name, output))
        for name, part in module.named_modules()
        if name in names
    ]
    with torch.inference_mode():
        seen[""] = module(*inputs)
    for hook in hooks:
        hook.remove()
    return seen


def test_keys_are_the_published_ones(
    plain: PublishedNetworks, manifest: dict[str, dict[str, list[int]]]
) -> None:
    published = {
        PREFIXES[file.removesuffix(".pth")] + key: shape
        for file, keys in manifest.items()
        for key, shape in keys.items()
    }
    assert {key: list(value.shape) for key, value in plain.state_dict().items()} == published


def test_weights_are_those_of_the_golden_run(
    published_state: dict[str, Golden], metadata: dict[str, str]
) -> None:
    state = dict(published_state)
    small = state.pop("stitching_retargeting_module")
    digests = {f"{name}.pth": digest(tensors) for name, tensors in state.items()}
    for part in ("retarget_shoulder", "retarget_mouth", "retarget_eye"):
        digests[part] = digest({key: value for key, value in small.items() if key.startswith(part)})
    assert digests == json.loads(metadata["seeded_digests"])


def test_parameter_counts(plain: PublishedNetworks) -> None:
    def millions(module: nn.Module) -> float:
        return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 3)

    assert millions(plain.appearance_extractor) == 0.836
    assert millions(plain.motion_extractor) == 28.119
    assert millions(plain.warping) == 45.530
    # Spectral-norm vectors are buffers, as in the official module.
    assert millions(plain.generator) == 55.365
    assert millions(plain.stitching) == 0.227


def test_appearance(plain: PublishedNetworks, golden: Golden) -> None:
    parts = ["first", "down_blocks.0", "down_blocks.1", "second", "resblocks_3d.3dr0", "resblocks_3d.3dr5"]
    seen = outputs_of(plain.appearance_extractor, parts, golden["in.image_128"])
    for part in parts:
        assert_close(strided(seen[part]), golden[f"F.128.{part}.sample"], 1e-4)
    assert_close(strided(seen[""], 8), golden["F.128.out"], 1e-4)


def test_motion_heads(plain: PublishedNetworks, golden: Golden) -> None:
    parts = [f"detector.downsample_layers.{i}" for i in range(4)] + [f"detector.stages.{i}" for i in range(4)]
    parts.append("detector.norm")
    seen = outputs_of(plain.motion_extractor, parts, golden["in.image_256"])
    for part in parts:
        assert_close(strided(seen[part]), golden[f"M.256.{part}.sample"], 2e-4)
    for size in (128, 256):
        heads = seen[""] if size == 256 else plain.motion_extractor(golden["in.image_128"])
        assert_close(heads.pitch, golden[f"M.{size}.pitch"][:1], 5e-5)
        assert_close(heads.yaw, golden[f"M.{size}.yaw"][:1], 5e-5)
        assert_close(heads.roll, golden[f"M.{size}.roll"][:1], 5e-5)
        assert_close(heads.translation, golden[f"M.{size}.t"][:1], 5e-5)
        assert_close(heads.scale, golden[f"M.{size}.scale"][:1], 5e-5)
        assert_close(heads.expression.flatten(1), golden[f"M.{size}.exp"][:1], 5e-5)
        assert_close(heads.canonical.flatten(1), golden[f"M.{size}.kp"][:1], 5e-5)


def test_norm_epsilons(plain: PublishedNetworks) -> None:
    """Too small to show in the outputs, so checked as numbers."""
    for module in plain.motion_extractor.modules():
        assert getattr(module, "eps", 1e-6) == 1e-6
    for module in plain.warping.modules():
        assert getattr(module, "eps", 1e-5) == 1e-5
    assert NORM_EPS == 1e-5


def test_warping(plain: PublishedNetworks, golden: Golden, volume: Tensor) -> None:
    source, driving = golden["in.kp_source"][:1], golden["in.kp_driving"][:1]
    network = plain.warping
    with torch.inference_mode():
        _, compressed = prepared = network.prepare(volume)
        motions = sparse_motions(compressed.shape[2:], source, driving)
        deformed = deform(compressed, motions)
        heat = heatmaps(compressed.shape[2:], source, driving)
    assert_close(strided(compressed, 8), golden["W.128.compressed_feature"], 1e-4)
    assert_close(motions[:, :, ::5, ::8, ::8], golden["W.128.sparse_motion.sample"], 1e-6)
    assert_close(deformed[:, :, :, ::5, ::8, ::8], golden["W.128.deformed_feature.sample"], 1e-4)
    assert_close(heat[:, :, :, ::3, ::4, ::4], golden["W.128.heatmap.sample"], 1e-5)

    dense = "dense_motion_network"
    parts = [
        dense,
        f"{dense}.hourglass",
        f"{dense}.mask",
        f"{dense}.hourglass.encoder.down_blocks.4",
        "third",
    ]
    seen = outputs_of(network, parts, prepared, source, driving)
    bottom = seen[f"{dense}.hourglass.encoder.down_blocks.4"]
    assert_close(bottom[:, ::16, ::5], golden["W.128.hourglass_bottom.sample"], 1e-4)
    hourglass = strided(seen[f"{dense}.hourglass"])[..., ::2, ::2]
    assert_close(hourglass, golden["W.128.hourglass.sample"], 1e-4)
    mask = seen[f"{dense}.mask"].softmax(1)
    assert_close(mask[:, :, ::5, ::4, ::4], golden["W.128.mask.sample"], 1e-5)
    motion: Any = seen[dense]
    assert_close(motion.deformation, golden["W.128.deformation"], 2e-5)
    assert_close(motion.occlusion, golden["W.128.occlusion_map"], 2e-5)
    assert_close(strided(seen["third"]), golden["W.128.third.sample"], 2e-4)
    assert_close(seen[""], golden["W.128.out"], 2e-4)


def test_generator(plain: PublishedNetworks, golden: Golden) -> None:
    parts = ["fc", "G_middle_0.norm_0", "G_middle_0", "G_middle_5", "up_0", "up_1", "conv_img"]
    seen = outputs_of(plain.generator, parts, golden["W.128.out"])
    for part in parts:
        assert_close(strided(seen[part]), golden[f"G.128.{part}.sample"], 5e-4)
    assert_close(seen[""], golden["G.128.out"], 1e-4)


def test_spectral_norms_use_the_stored_vectors(
    plain: PublishedNetworks, golden: Golden, metadata: dict[str, str]
) -> None:
    order = json.loads(metadata["spectral_sigma_order"])
    for name, sigma in zip(order, golden["G.spectral_sigma"], strict=True):
        conv: Any = plain.generator.get_submodule(name)
        ours = (conv.weight_orig / conv.weight()).flatten()[0]
        torch.testing.assert_close(ours, sigma, atol=0, rtol=1e-5)


@pytest.mark.parametrize("part", ["retarget_shoulder", "retarget_mouth", "retarget_eye"])
def test_stitching_and_retargeting(plain: PublishedNetworks, golden: Golden, part: str) -> None:
    ours = plain.stitching.get_submodule(part)(golden[f"S.{part}.in"])
    assert_close(ours, golden[f"S.{part}.out"], 1e-5)
