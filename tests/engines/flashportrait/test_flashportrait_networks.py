"""Every published network against the official code (float32, weights made from key names)."""

from __future__ import annotations

import pytest
import torch
from flash_golden import assert_close, image_tokens, padded, seeded_file, transformer_names
from seeded_weights import digest, seeded_input
from torch import Tensor

from vivant.engines.flashportrait.caches import TinyVaeCache
from vivant.engines.flashportrait.config_networks import (
    published_face_features,
    wan_14b,
    wan_tiny_vae,
)
from vivant.engines.flashportrait.networks.face_features import FaceFeatures
from vivant.engines.flashportrait.networks.portrait_encoder import PortraitEncoder, group_by_latent
from vivant.engines.flashportrait.networks.tiny_vae import TinyVae
from vivant.engines.flashportrait.networks.transformer import (
    Conditions,
    ExpressionProcessor,
    PortraitTransformer,
    aligned,
    mean_and_std,
)
from vivant.engines.flashportrait.sampling import Guidance

Golden = dict[str, Tensor]
Manifest = dict[str, dict[str, list[int]]]


@pytest.fixture(scope="module")
def tokens(portrait_encoder: PortraitEncoder, golden: Golden) -> Tensor:
    return portrait_encoder(golden["pe.in.feat"][0])


@pytest.fixture(scope="module")
def parts(transformer: PortraitTransformer, golden: Golden, tokens: Tensor) -> Golden:
    """What every block and the first cross-attention gave in the run with everything."""
    seen: Golden = {}
    hooks = [
        block.register_forward_hook(
            lambda _m, _in, out, index=index: seen.__setitem__(f"block{index}", out[0])
        )
        for index, block in enumerate(transformer.blocks)
    ]

    def attention(_module, inputs, named, out) -> None:  # type: ignore[no-untyped-def]
        seen["x"], seen["out"] = inputs[0], out
        seen["text"], seen["image"] = named["context"].text, named["context"].image

    hooks.append(transformer.blocks[0].attn2.register_forward_hook(attention, with_kwargs=True))
    seen["velocity"] = velocity(transformer, golden, group_by_latent(tokens)[None])
    for hook in hooks:
        hook.remove()
    return seen


def velocity(
    transformer: PortraitTransformer, golden: Golden, expression: Tensor, scale: float = 1, text: str = "ctx"
) -> Tensor:
    conditions = Conditions(
        padded(golden[f"dit.in.{text}"]), image_tokens(), expression, torch.tensor([float(scale)])
    )
    latents = torch.cat([golden["dit.in.x"], golden["dit.in.y"]], 1)
    return transformer(latents, golden["dit.in.t"], conditions)


def test_weights_are_those_of_the_golden_run(
    transformer: PortraitTransformer, manifest: Manifest, metadata: dict[str, str]
) -> None:
    names, state = transformer_names(transformer), transformer.state_dict()
    assert (
        digest({names[ours]: value for ours, value in state.items()}) == metadata["digest_transformer_small"]
    )
    assert digest(seeded_file(manifest["pd_fpg.pth"])) == metadata["digest_pdfgc"]
    assert digest(seeded_file(manifest["fast_vae.pth"])) == metadata["digest_tiny_vae"]


def test_the_published_transformer_has_the_published_names(manifest: Manifest) -> None:
    with torch.device("meta"):
        network = PortraitTransformer(wan_14b())
    names = transformer_names(network)
    shapes = {names[ours]: list(value.shape) for ours, value in network.state_dict().items()}
    assert shapes == manifest["transformer.pt"]
    assert sum(p.numel() for p in network.parameters()) == 17_233_739_584


def test_portrait_encoder(tokens: Tensor, golden: Golden) -> None:
    assert_close(tokens.flatten(0, 1)[None, :, ::31], golden["pe.out.tokens"])
    split = group_by_latent(tokens)
    sums = torch.stack([split.sum(-1), split.abs().sum(-1)])
    torch.testing.assert_close(sums, golden["pe.out.split_checksum"], atol=5e-2, rtol=0)
    # The published ranges are inclusive, and the first latent's stretch before the beginning is left out.
    (_, end), *rest = golden["pe.out.ranges"].tolist()
    flat = tokens.flatten(0, 1)
    assert torch.equal(split[0, : end + 1], flat[: end + 1])
    assert not split[0, end + 1 :].any()
    for latent, (first, last) in zip(split[1:], rest, strict=True):
        assert torch.equal(latent, flat[first : last + 1])
    assert torch.equal(group_by_latent(tokens[:1])[0], split[0])


def test_face_features(manifest: Manifest, golden: Golden) -> None:
    with torch.device("meta"):
        network = FaceFeatures(published_face_features())
    network.load_state_dict(seeded_file(manifest["pd_fpg.pth"]), strict=True, assign=True)
    faces = seeded_input("flashportrait/pdfgc_in", (2, 3, 224, 224), -1, 1)
    with torch.inference_mode():
        features = network.eval()(faces)
        assert_close(network.model(faces), golden["pdfgc.backbone512"])
    for name, ours in zip(
        ("headpose", "eye", "emo", "mouth"), features.split([6, 6, 30, 512], -1), strict=True
    ):
        assert_close(ours, golden[f"pdfgc.out.{name}"])


def test_tiny_vae_whole_and_latent_by_latent(manifest: Manifest, golden: Golden) -> None:
    with torch.device("meta"):
        network = TinyVae(wan_tiny_vae())
    state = seeded_file(manifest["fast_vae.pth"])
    decoder = {key: value for key, value in state.items() if key.startswith("decoder.")}
    network.load_state_dict(decoder, strict=True, assign=True)
    latents = seeded_input("flashportrait/tiny_z", (1, 3, 16, 8, 8), -2, 2).transpose(1, 2)
    with torch.inference_mode():
        whole = network.decode_piece(latents, TinyVaeCache())
        cache = TinyVaeCache()
        pieces = [network.decode_piece(latent, cache) for latent in latents.split(1, 2)]
    torch.testing.assert_close(torch.cat(pieces, 2), whole, atol=1e-5, rtol=0)
    frames = whole.transpose(1, 2)[..., ::2, ::2] / 2 + 0.5
    torch.testing.assert_close(frames, golden["tae.out"].float(), atol=2e-3, rtol=0)


def test_transformer_block_by_block(parts: Golden, golden: Golden) -> None:
    for index in range(3):
        assert_close(parts[f"block{index}"], golden[f"dit.out.block{index}"])
    assert_close(parts["velocity"], golden["dit.out.ip1"])


def test_time_and_place(transformer: PortraitTransformer, golden: Golden) -> None:
    embedder = transformer.condition_embedder
    wave = embedder.timesteps_proj(golden["dit.in.t"])
    assert_close(wave, golden["dit.time.sin"])
    time = embedder.time_embedder(wave)
    assert_close(time, golden["dit.time.e"])
    assert_close(embedder.time_proj(torch.nn.functional.silu(time)).view(1, 6, -1), golden["dit.time.e0"])
    # Place is a matter of angles: neighbouring channels turn by them.
    x = seeded_input("flashportrait/rope_q", (1, 48, 2, 128), -1, 1)
    cos, sin = transformer.rope(torch.zeros(1, 36, 3, 8, 8))
    even, odd = x[..., ::2], x[..., 1::2]
    turned = torch.stack(
        [even * cos[..., ::2] - odd * sin[..., 1::2], even * sin[..., 1::2] + odd * cos[..., ::2]], -1
    )
    assert_close(turned.flatten(-2), golden["dit.rope.out"])


def test_normalized_facial_expression_block(
    transformer: PortraitTransformer, parts: Golden, golden: Golden, tokens: Tensor
) -> None:
    context = torch.cat([parts["image"], parts["text"]], 1)
    assert_close(context[:, ::7, ::5], golden["nfeb.in.context"])
    assert_close(parts["x"], golden["nfeb.in.x"])
    assert_close(parts["out"], golden["nfeb.out"])
    attn, processor = transformer.blocks[0].attn2, ExpressionProcessor()
    query = attn.norm_q(attn.to_q(parts["x"])).unflatten(2, (attn.heads, -1))
    text = processor._attend(query, attn.norm_k(attn.to_k(parts["text"])), attn.to_v(parts["text"]))
    keys = attn.norm_added_k(attn.add_k_proj(parts["image"]))
    image = processor._attend(query, keys, attn.add_v_proj(parts["image"]))
    expression = processor._attend_per_latent(attn, query, group_by_latent(tokens)[None])
    assert_close(text, golden["nfeb.text_attn"])
    assert_close(image, golden["nfeb.img_attn"])
    assert_close(expression, golden["nfeb.emo_attn_raw"])
    statistics = [*mean_and_std(text + image), *mean_and_std(expression)]
    assert_close(torch.cat(statistics).flatten(), golden["nfeb.stats"])
    assert_close(aligned(expression, text + image), golden["nfeb.emo_aligned"])


def test_guidance(transformer: PortraitTransformer, golden: Golden, tokens: Tensor) -> None:
    expression = group_by_latent(tokens)[None]
    found = {
        "ip05": velocity(transformer, golden, expression, 0.5),
        "ip0": velocity(transformer, golden, expression, 0),
        "neg_ip0": velocity(transformer, golden, expression, 0, "nctx"),
        "neg_ip1": velocity(transformer, golden, expression, 1, "nctx"),
        "emo_zero": velocity(transformer, golden, torch.zeros_like(expression)),
        "emo3d": velocity(transformer, golden, tokens.flatten(0, 1)[None]),
    }
    for name, ours in found.items():
        assert_close(ours, golden[f"dit.out.{name}"])
    assert not torch.allclose(found["emo_zero"], found["ip0"], atol=1e-2), (
        "no expression is not a null expression"
    )
    driven = golden["dit.out.ip1"]
    rows = {
        (4, 1): [driven, found["ip0"]],
        (4, 3): [driven, found["ip0"], found["neg_ip0"]],
        (1, 3): [driven, found["neg_ip1"]],
    }
    for (strength, text), velocities in rows.items():
        guidance = Guidance(expression=strength, text=text)
        assert len(guidance.branches) == len(velocities)
        assert_close(guidance.combined(torch.cat(velocities)), golden[f"cfg.emo{strength}_text{text}"], 3e-4)


def test_branches_in_one_batch_are_branches_alone(
    transformer: PortraitTransformer, golden: Golden, tokens: Tensor
) -> None:
    expression = group_by_latent(tokens)[None].expand(2, -1, -1, -1)
    text = torch.cat([padded(golden["dit.in.ctx"])] * 2)
    conditions = Conditions(text, image_tokens().expand(2, -1, -1), expression, torch.tensor([1.0, 0.0]))
    latents = torch.cat([golden["dit.in.x"], golden["dit.in.y"]], 1).expand(2, -1, -1, -1, -1)
    both = transformer(latents, golden["dit.in.t"].expand(2), conditions)
    assert_close(both, torch.cat([golden["dit.out.ip1"], golden["dit.out.ip0"]]))
