"""The folded networks: equal to the official code up to rounding in fp32, close to it in bfloat16, never silent."""

from __future__ import annotations

import copy

import pytest
import torch
from comparison import assert_close, relative_error, strided
from torch import Tensor

from vivant.engines.liveportrait.config import tiny, tiny_published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.runtime import precision

Golden = dict[str, Tensor]
CPU = torch.device("cpu")


def points(golden: Golden) -> tuple[Tensor, Tensor]:
    return golden["in.kp_source"][:1], golden["in.kp_driving"][:1]


@torch.inference_mode()
def test_float32(folded: PublishedNetworks, golden: Golden) -> None:
    appearance = folded.appearance(golden["in.image_128"])
    assert_close(strided(appearance[0], 8), golden["F.128.out"], 5e-4)
    assert_close(strided(appearance[1], 8), golden["W.128.compressed_feature"], 5e-4)
    motion = folded.warping.dense_motion_network(appearance[1], *points(golden))
    assert_close(motion.deformation, golden["W.128.deformation"], 1e-4)
    assert_close(motion.occlusion, golden["W.128.occlusion_map"], 1e-4)
    assert_close(folded.warping(appearance, *points(golden)), golden["W.128.out"], 1e-3)
    assert_close(folded.generator(golden["W.128.out"]), golden["G.128.out"], 1e-3)


@torch.inference_mode()
def test_float32_at_the_published_size(folded: PublishedNetworks, golden: Golden) -> None:
    appearance = folded.appearance(golden["in.image_256"])
    assert_close(strided(appearance[0]), golden["F.256.out.sample"], 5e-4)
    motion = folded.warping.dense_motion_network(appearance[1], *points(golden))
    assert_close(motion.deformation[:, ::5, ::4, ::4], golden["W.256.deformation.sample"], 1e-4)
    assert_close(motion.occlusion, golden["W.256.occlusion_map"], 1e-4)
    warped = folded.warping(appearance, *points(golden))
    assert_close(strided(warped), golden["W.256.out.sample"], 1e-3)
    picture = folded.generator(warped)
    assert_close(picture[:, :, ::8, ::8], golden["G.256.out.sample"], 1e-3)
    assert_close(picture[:, :, 224:288, 224:288], golden["G.256.out.crop"], 1e-3)


@pytest.mark.skipif(
    precision.choose_dtype("auto", CPU) != torch.bfloat16, reason="this CPU only emulates bfloat16: minutes"
)
def test_bfloat16(folded: PublishedNetworks, golden: Golden) -> None:
    check_half_precision(folded, golden, CPU, torch.bfloat16)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_gpu(folded: PublishedNetworks, golden: Golden, dtype: torch.dtype) -> None:
    check_half_precision(folded, golden, torch.device("cuda"), dtype)


@torch.inference_mode()
def check_half_precision(
    folded: PublishedNetworks, golden: Golden, device: torch.device, dtype: torch.dtype
) -> None:
    """Each network from the golden input of that network, so that an error shows where it is made."""
    networks = precision.place(copy.deepcopy(folded), device, dtype)
    assert isinstance(networks, PublishedNetworks)
    image, pair = golden["in.image_128"].to(device), tuple(part.to(device) for part in points(golden))
    appearance = networks.appearance(image)
    assert appearance[0].dtype == appearance[1].dtype == torch.float32
    assert relative_error(strided(appearance[0], 8).cpu(), golden["F.128.out"]) < 2e-2
    # Motion extraction stays float32; a GPU multiplies it in other orders.
    heads = networks.motion_extractor(image)
    assert_close(heads.pitch.cpu(), golden["M.128.pitch"][:1], 5e-5 if device == CPU else 5e-3)
    motion = networks.warping.dense_motion_network(appearance[1], *pair)
    assert motion.deformation.dtype == torch.float32
    assert_close(motion.deformation.cpu(), golden["W.128.deformation"], 1e-2)
    assert_close(motion.occlusion.cpu(), golden["W.128.occlusion_map"], 2e-2)
    assert relative_error(networks.warping(appearance, *pair).cpu(), golden["W.128.out"]) < 3e-2
    picture = networks.generator(golden["W.128.out"].to(device))
    assert picture.dtype == torch.float32
    assert (picture.cpu() - golden["G.128.out"]).abs().mean() < 1e-2


def tiny_networks() -> PublishedNetworks:
    torch.manual_seed(0)
    networks = PublishedNetworks(tiny_published()).eval().requires_grad_(False)
    for name, tensor in networks.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 1.5)
        elif "running_mean" in name or name.endswith("bias"):
            tensor.normal_(std=0.1)
    return networks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_folding_keeps_the_function(dtype: torch.dtype) -> None:
    """Tiny sizes and a batch of two, which the golden tensors do not have."""
    plain = tiny_networks()
    fast = copy.deepcopy(plain)
    fast.fold()
    precision.place(fast, CPU, dtype)
    image = torch.rand(1, 3, 128, 128)
    source, driving = torch.rand(1, 21, 3) * 1.6 - 0.8, torch.rand(2, 21, 3) * 1.6 - 0.8
    expected = plain.generate(plain.appearance(image), source, driving)
    ours = fast.generate(fast.appearance(image), source, driving)
    assert ours.shape == (2, 3, 256, 256)
    if dtype == torch.float32:
        assert_close(ours, expected, 2e-4)
    assert (ours - expected).abs().mean() < 1e-2
    one_by_one = [fast.generate(fast.appearance(image), source, each[None]) for each in driving]
    assert (torch.cat(one_by_one) - ours).abs().mean() < (1e-5 if dtype == torch.float32 else 1e-2)


@torch.inference_mode()
def test_autocast_changes_nothing_once_folded() -> None:
    networks = tiny_networks()
    networks.fold()
    image = torch.rand(1, 3, 128, 128)
    keypoints = networks.motion(image).canonical
    alone = networks.generate(networks.appearance(image), keypoints, keypoints)
    with precision.computing(CPU, torch.bfloat16):
        inside = networks.generate(networks.appearance(image), keypoints, keypoints)
        motion = networks.motion(image)
    torch.testing.assert_close(alone, inside, atol=0, rtol=0)
    torch.testing.assert_close(motion.canonical, keypoints, atol=0, rtol=0)


def test_folding_twice_is_a_bug() -> None:
    networks = tiny_networks()
    networks.fold()
    with pytest.raises(AssertionError, match="folded already"):
        networks.fold()


def test_compact_config_is_refused() -> None:
    with pytest.raises(ValueError, match="the config is for 'compact'"):
        PublishedNetworks(tiny())
