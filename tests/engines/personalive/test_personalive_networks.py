"""Every published network against the official code (fp32, weights from key names).

The UNets run at their first size only here; benchmarks/personalive_parity.py runs them whole (11 GB, minutes).
"""

from __future__ import annotations

import pytest
import torch
from golden_inputs import assert_close, fill, folded, given, official, outputs_of
from torch import Tensor, nn

from vivant.engines.personalive.config import published
from vivant.engines.personalive.convert import PREFIXES
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.motion_encoder import MotionEncoder, place_code, token_code
from vivant.engines.personalive.networks.pose_guider import PoseGuider
from vivant.engines.personalive.networks.unet import (
    Conditions,
    Denoiser,
    ReferenceUnet,
    _Inside,
    joined,
)
from vivant.face.motion_extractor import MotionExtractor
from vivant.ops.rotation import degrees_from_bins

Golden = dict[str, Tensor]


def test_keys_are_the_published_ones(manifest: dict[str, dict[str, list[int]]]) -> None:
    with torch.device("meta"):
        state = Networks(published()).state_dict()
    ours = {key: list(value.shape) for key, value in state.items()}
    theirs = {
        PREFIXES[file.removesuffix(".pth")] + key: shape
        for file, keys in manifest.items()
        for key, shape in keys.items()
        if key != "idx_tensor"  # 0, 1, 2, ...: not a weight
    }
    stock = {"vae.": 248, "image_encoder.": 392}
    # What the stock files call things; a library that renames them would make conversion refuse.
    for key in ("vae.decoder.mid_block.attentions.0.to_out.0.weight", "image_encoder.visual_projection.weight",
                "image_encoder.vision_model.pre_layrnorm.weight"):  # fmt: skip
        assert key in ours
    for prefix, count in stock.items():
        assert sum(key.startswith(prefix) for key in ours) == count
    assert {key: shape for key, shape in ours.items() if not key.startswith(tuple(stock))} == theirs


def test_parameter_counts() -> None:
    with torch.device("meta"):
        networks = Networks(published())
    counts = {
        name: round(sum(parameter.numel() for parameter in part.parameters()) / 1e6, 2)
        for name, part in networks.named_children()
    }
    assert counts == {
        "reference_unet": 859.51,
        "denoiser": 1684.82,  # and 1.2 M numbers of the temporal code
        "motion_encoder": 61.63,
        "pose_guider": 1.09,
        "motion_extractor": 28.12,
        "vae": 83.65,
        "image_encoder": 303.97,
    }


def test_motion_encoder(golden: Golden) -> None:
    with torch.device("meta"):
        network = MotionEncoder(published().motion_encoder).eval()
    network.pe = token_code(32, 16)
    torch.testing.assert_close(network.pe, golden["motion_encoder.pe"], atol=1e-6, rtol=0)
    for name, side in (("112_p4", 28), ("56_p2", 28)):
        code = place_code(side, side, 1024)[None, ::97, ::31]
        torch.testing.assert_close(code, golden[f"motion_encoder.pos_embed_{name}.slice"], atol=1e-6, rtol=0)
    fill(network)
    parts = ["model.att_1", "model.att_2", "model.m0", "model.fc"]
    seen = outputs_of(network, parts, folded(given("motion_encoder.in"))[:1])
    for part, name in zip(parts, ("att_1", "att_2", "hourglass"), strict=False):
        golden_slice = golden[f"motion_encoder.{name}.slice"][:1]
        torch.testing.assert_close(seen[part][:, ::16, ::8, ::8], golden_slice, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(seen["model.fc"], golden["motion_encoder.fc"][:1], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(seen[""], golden["motion_encoder.out"][0, :1], atol=2e-4, rtol=1e-4)


def test_pose_guider(golden: Golden) -> None:
    network = PoseGuider(published().pose_channels, 320).eval()
    fill(network)
    with torch.inference_mode():
        features = network(folded(given("pose_guider.in")))
    assert_close("pose_guider.out", official(features, 3), golden, 2e-6)


def test_motion_extractor(golden: Golden) -> None:
    config = published().motion_extractor
    assert config is not None
    with torch.device("meta"):
        network = MotionExtractor(config.channels, 21, 66).eval()
    fill(network)
    with torch.inference_mode():
        heads = network(given("motion_extractor.in"))
    for name in ("pitch", "yaw", "roll"):
        logits = getattr(heads, name)
        assert_close(f"motion_extractor.detector.{name}", logits, golden, 1e-4)
        assert_close(f"motion_extractor.degree.{name}", degrees_from_bins(logits), golden, 1e-3)
    assert_close("motion_extractor.detector.t", heads.translation, golden, 1e-4)
    assert_close("motion_extractor.detector.scale", heads.scale, golden, 1e-4)
    assert_close("motion_extractor.detector.kp", heads.canonical.flatten(1), golden, 1e-4)


@pytest.fixture(scope="module")
def looked_at(reference_unet: ReferenceUnet, golden: Golden) -> list[Tensor]:
    """R's tokens at the first size, from its beginning."""
    for part in ("conv_in", "time_embedding", "down_blocks.0"):
        fill(reference_unet.get_submodule(part), f"{part}.")
    tokens: list[Tensor] = []
    clip = golden["reference_unet.clip"]
    with torch.inference_mode():
        stage = reference_unet.down_blocks[0]
        identity = [layer.block.attn2.constant(clip) for layer in stage.attentions]
        time = nn.functional.silu(reference_unet.time_embedding(torch.zeros(1)))
        conditions = Conditions(identity=identity, references=None, motion=None, pose=None)
        x = reference_unet.conv_in(golden["reference_unet.latent"])
        for index in range(2):
            x = stage.layer(index, x, _Inside(time, conditions, None, 1, tokens))
    return tokens


def test_reference_unet(looked_at: list[Tensor], golden: Golden) -> None:
    for name, tokens in zip(("d00", "d01"), looked_at, strict=True):
        assert_close(f"reference_unet.bank.{name}", tokens, golden, 1e-4)


def test_denoiser(denoiser: Denoiser, looked_at: list[Tensor], golden: Golden) -> None:
    for part in ("conv_in", "time_embedding", "down_blocks.0"):
        fill(denoiser.get_submodule(part), f"{part}.")
    stage = denoiser.down_blocks[0]
    with torch.inference_mode():
        time = denoiser.time_embedding(golden["denoise.timesteps"])
        assert_close("denoise.mid.time_emb", time, golden, 2e-3)
        conditions = Conditions(
            identity=[stage.attentions[0].block.attn2.constant(golden["reference_unet.clip"])],
            references=[stage.attentions[0].block.attn1.keys_values(looked_at[0])],
            motion=None,
            pose=None,
        )
        x = denoiser.conv_in(folded(given("denoise.sample"))) + folded(given("denoise.pose_fea"))
        motion = given("denoise.motion").flatten(0, 1)
        inside = _Inside(nn.functional.silu(time), conditions, motion, 16, None)
        seen: dict[str, Tensor] = {}
        for name in ("resnets", "motion_modules", "temporal_modules"):
            stage.get_submodule(f"{name}.0").register_forward_hook(
                lambda _module, _inputs, output, name=name: seen.__setitem__(name, output)
            )
        stage.layer(0, x, inside)
    for name, part in (
        ("resnet0", "resnets"),
        ("motion0", "motion_modules"),
        ("temporal0", "temporal_modules"),
    ):
        ours = official(seen[part], 16)[:, ::8]
        assert_close(f"denoise.mid.down0.{name}", ours, golden, 2e-3)


def test_single_modules(denoiser: Denoiser, golden: Golden) -> None:
    """On a grid that is not square, and on two windows of another length."""
    stage = denoiser.down_blocks[0]
    fill(stage, "down_blocks.0.")
    motion = given("denoise.motion").flatten(0, 1)
    cases = (
        ("module.motion.down0_0", stage.motion_modules[0], given("module.in"), motion, 16),
        ("module.temporal.down0_0", stage.temporal_modules[0], given("module.in"), 16, 16),
        ("module.temporal.down0_0_4f", stage.temporal_modules[0], golden["module.in_4f"], 4, 4),
    )
    for name, module, x, what, frames in cases:
        with torch.inference_mode():
            ours = module(folded(x), what)
        assert_close(name, official(ours, frames), golden, 1e-5)


def test_several_references_are_beside_each_other() -> None:
    one, two = ([(torch.rand(1, 2, n, 3), torch.rand(1, 2, n, 3))] for n in (4, 5))
    ((keys, values),) = joined([one, two])
    assert keys.shape == values.shape == (1, 2, 9, 3)
    assert torch.equal(keys[:, :, 4:], two[0][0])
    assert torch.equal(values[:, :, :4], one[0][1])
