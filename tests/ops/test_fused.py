"""Kernels of our own equal the plain way. They run on a GPU, or interpreted:

pip install --no-deps --target FOLDER triton
PYTHONPATH=FOLDER TRITON_INTERPRET=1 pytest tests/ops/test_fused.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.personalive.config import tiny as tiny_personalive
from vivant.engines.personalive.config_networks import TinyDecoderConfig
from vivant.engines.personalive.networks import Networks as PersonaLiveNetworks
from vivant.engines.personalive.networks import stock
from vivant.engines.personalive.networks.unet import Conditions
from vivant.engines.refvae.config import tiny as tiny_refvae
from vivant.engines.refvae.drawing import Guidance, draw_block, new_memory, new_walk, remember_references
from vivant.engines.refvae.layers import TemporalCache, shuffle
from vivant.engines.refvae.networks import Networks as RefVaeNetworks
from vivant.ops import fused, measured
from vivant.ops.joined import together
from vivant.runtime import precision

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CAN_RUN = find_spec("triton") is not None and (
    torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
)
needs_kernels = pytest.mark.skipif(not CAN_RUN, reason="needs a GPU, or Triton and TRITON_INTERPRET=1")
DTYPE = (
    torch.bfloat16 if torch.cuda.is_available() else torch.float16
)  # of which the interpreter cannot the former
CLOSE = 1e-6
HALF = 0.03
"""16 bits: relative error of what a whole network gives, whose order of rounding differs."""


def far(got: Tensor, wanted: Tensor) -> float:
    """Relative; written so that NaN is far."""
    distance = float((got.double() - wanted.double()).norm() / wanted.double().norm())
    return distance if distance == distance else 1e9


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


@pytest.fixture(autouse=True)
def no_gradients() -> object:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_without_a_gpu_all_is_plain() -> None:
    if not CAN_RUN:
        assert not fused.usable(torch.zeros(1))


@needs_kernels
def test_only_where_it_can_be_used() -> None:
    layer = nn.LayerNorm(8, device=DEVICE)
    assert fused.usable(numbers(2, 8), layer)
    assert not fused.usable(numbers(2, 8).double(), layer)
    with fused.plainly():
        assert not fused.usable(numbers(2, 8), layer)
    with torch.enable_grad():
        assert not fused.usable(numbers(2, 8), layer)
    layer.register_forward_pre_hook(lambda *_: None)
    assert not fused.usable(numbers(2, 8), layer), "its weights may rest elsewhere until it is called"


@needs_kernels
def test_norms_of_rows() -> None:
    layer = nn.LayerNorm(24, device=DEVICE)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    rows, other, code = numbers(6, 7, 24) + 3, numbers(6, 7, 24), numbers(3, 24)
    total, normed = fused.added_norm(rows, other, layer, code, 7)
    assert far(total, rows + other) < CLOSE
    wanted = layer(rows + other) + code.repeat(2, 1)[:, None]
    assert far(normed, wanted) < CLOSE
    later = numbers(24)
    total, again = fused.added_norm(rows, other, layer, code, 7, later=later)
    assert far(total, rows + other + later) < CLOSE
    assert torch.equal(again, normed), "what is added later is not normed"
    assert far(fused.layer_norm(rows, layer), layer(rows)) < CLOSE
    scale, shift, gate = numbers(24), numbers(24), numbers(24)
    total, normed = fused.modulated(rows, scale, shift, 1e-6, added=other, gate=gate)
    assert far(total, rows + gate * other) < CLOSE
    assert far(normed, F.layer_norm(total, (24,), eps=1e-6) * (1 + scale) + shift) < CLOSE
    assert far(
        fused.length_norm(rows, gate, 1e-12, silu=True), F.silu(F.normalize(rows, dim=-1) * 24**0.5 * gate)
    ) < CLOSE  # fmt: skip
    wide = numbers(5, 7, 42)
    with fused.plainly():
        wanted = fused.gated_gelu(wide)
    assert far(fused.gated_gelu(wide), wanted) < CLOSE


@needs_kernels
@pytest.mark.parametrize("rows", [(5, 7), (70, 73)])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("has_more", [False, True])
def test_group_norm(rows: tuple[int, int], silu: bool, has_more: bool) -> None:
    layer = nn.GroupNorm(8, 24, device=DEVICE)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x, more = numbers(2, 24, *rows) + 30, numbers(2, 24) if has_more else None
    got = fused.group_norm(x, layer, silu=silu, added=more)
    layer.double()
    with fused.plainly():
        wanted = fused.group_norm(x.double(), layer, silu=silu, added=None if more is None else more.double())
    assert far(got, wanted) < 10 * CLOSE, "far from zero, so digits are lost in x already"


@needs_kernels
@pytest.mark.parametrize(("few", "channels"), [(12, 12), (24, 12), (12, 6)])
def test_growing(few: int, channels: int) -> None:
    x, y = numbers(2, 3, 5, few), numbers(2, 3, 5, 4 * channels)

    def clip(rows: Tensor) -> Tensor:
        return fused.pictures_of(rows[None])

    short = shuffle(clip(x).repeat_interleave(4 * channels // few, 1), 1, 2)
    assert torch.equal(clip(fused.grown_in_space(y, x)), shuffle(clip(y), 1, 2) + short)
    assert torch.equal(clip(fused.grown_in_space(y, None)), shuffle(clip(y), 1, 2))
    later = numbers(2, 6, 10, 2 * channels)
    wanted = shuffle(clip(later), 2, 1) + short.repeat_interleave(2, 2)
    assert torch.equal(clip(fused.grown_in_time(later, x)), wanted)


@needs_kernels
def test_doubling() -> None:
    x = numbers(2, 20, 3, 7)
    assert torch.equal(fused.doubled(x), F.interpolate(x, scale_factor=2.0, mode="nearest"))


@needs_kernels
@pytest.mark.parametrize("lies", ["tokens first", "heads first", "in longer rows"])
def test_keys_beside_others(lies: str) -> None:
    own, theirs = numbers(6, 7, 3, 10).transpose(1, 2), numbers(2, 5, 3, 10).transpose(1, 2)
    if lies == "heads first":
        theirs = theirs.contiguous()
    if lies == "in longer rows":
        own, theirs = (
            numbers(count, length, 90)[..., 30:60].unflatten(2, (3, 10)).transpose(1, 2)
            for count, length in ((6, 7), (2, 5))
        )
    got = fused.beside(own, theirs)
    assert torch.equal(got, torch.cat([own, theirs.repeat_interleave(3, 0)], 2))


@needs_kernels
def test_layers_together() -> None:
    """Also after a layer has learned, and after it has moved."""
    x, layers = numbers(2, 5, 24), [nn.Linear(24, out, bias=False, device=DEVICE) for out in (24, 16, 8)]
    changes: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: layers[2].weight.mul_(2),
        lambda: setattr(layers[1].weight, "data", numbers(16, 24)),
    )
    for change in changes:
        change()
        for got, layer in zip(together(x, *layers), layers, strict=True):
            assert far(got, layer(x)) < CLOSE


@needs_kernels
@pytest.mark.parametrize(("rows", "channels", "half"), [(130, 72, 136), (300, 320, 40)])
def test_gated_products(rows: int, channels: int, half: int) -> None:
    x, layer = numbers(1, rows, channels).to(DTYPE), nn.Linear(channels, 2 * half, device=DEVICE, dtype=DTYPE)
    with fused.plainly():
        wanted = fused.gated_gelu(F.linear(x.double(), layer.weight.double(), layer.bias.double()))
    ways = measured.product_ways(x[0], True)
    assert len(ways) > 1
    for name, way in ways.items():
        assert far(way(x[0], layer.weight, layer.bias, None), wanted[0]) < 0.01, name
    assert far(measured.gated(x, layer), wanted) < 0.01


@needs_kernels
@pytest.mark.parametrize(("rows", "channels", "many"), [(130, 72, 136), (300, 320, 40)])
def test_products_and_sums(rows: int, channels: int, many: int) -> None:
    x, layer = numbers(1, rows, channels).to(DTYPE), nn.Linear(channels, many, device=DEVICE, dtype=DTYPE)
    added = numbers(1, rows, many).to(DTYPE)
    wanted = F.linear(x.double(), layer.weight.double(), layer.bias.double()) + added
    for name, way in measured.product_ways(x[0], False).items():
        assert far(way(x[0], layer.weight, layer.bias, added[0]), wanted[0]) < 0.01, name
    assert far(measured.linear(x, layer, added), wanted) < 0.01


@needs_kernels
def test_sums_in_place() -> None:
    layer, x, added = (
        nn.Linear(16, 24, device=DEVICE).to(DTYPE),
        numbers(2, 5, 16).to(DTYPE),
        numbers(2, 5, 24).to(DTYPE),
    )
    wanted = x.double() @ layer.weight.double().T + added.double()
    assert measured.multiplies(x, layer)
    assert far(measured.summed(x, layer, added.clone()), wanted) < 0.01


@needs_kernels
@pytest.mark.parametrize("num_frames", [3, 16])
def test_temporal_attention(num_frames: int) -> None:
    query, key, value = (numbers(2 * num_frames, 6, 40) for _ in range(3))

    def heads(x: Tensor) -> Tensor:
        return x.view(2, num_frames, 6, 4, 10).permute(0, 2, 3, 1, 4)

    seen = F.scaled_dot_product_attention(heads(query), heads(key), heads(value))
    wanted = seen.permute(0, 3, 1, 2, 4).reshape(query.shape)
    assert far(fused.temporal_attention((query, key, value), 4, num_frames), wanted) < CLOSE


@needs_kernels
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(("width", "few", "many"), [(70, 24, 20), (130, 72, 136), (256, 64, 3)])
def test_convolutions(times: int, width: int, few: int, many: int) -> None:
    dtype = DTYPE
    x, weight = numbers(1 + times, 2, width, few).to(dtype), (0.1 * numbers(many, few, times, 3, 3)).to(dtype)
    bias, added = numbers(many).to(dtype), numbers(2, 2, width, many).to(dtype)
    wanted = F.conv3d(x.permute(3, 0, 1, 2)[None].double(), weight.double(), bias.double(), padding=(0, 1, 1))
    wanted = wanted[0].permute(1, 2, 3, 0) + added
    ways = measured.ways_for(x, weight)
    assert len(ways) > 1
    for name, way in ways.items():
        assert far(way(x, weight, bias, added), wanted) < 0.01, name


def compare(work: Callable[[], Tensor], dtype: torch.dtype) -> float:
    with precision.computing(DEVICE, dtype):
        got = work()
        with fused.plainly():
            return far(got, work())


def placed(networks: nn.Module) -> nn.Module:
    networks.eval().requires_grad_(False)
    for parameter in networks.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.6 * parameter[0].numel() ** -0.5)
    return precision.place(networks, DEVICE, DTYPE)


@needs_kernels
def test_refvae_is_the_same() -> None:
    config = tiny_refvae()
    networks = RefVaeNetworks(config)
    placed(networks)
    cells, channels = config.cells, config.vae.latent_channels
    latents = torch.randn(3, 1, 4, channels, cells, cells, device=DEVICE)
    pictures = 2 * torch.rand(1, 1, 3, config.image_size, config.image_size, device=DEVICE) - 1

    def decode() -> Tensor:
        cache, references = TemporalCache(), networks.vae.encode_references(pictures)
        return torch.cat([networks.decode(block, references, cache) for block in latents], 2)

    def draw() -> Tensor:
        generator = networks.generator
        identity = remember_references(generator, latents[0, :, :1])
        memory = new_memory(generator, identity, cells**2)
        walk = new_walk(generator, (1.0, 0.6, 0.0), cells, cells)
        sound = latents.new_ones(1, 4, config.generator.audio_channels)
        drawn = [draw_block(walk, memory, block, sound, Guidance()) for block in latents]
        return torch.cat(drawn, 1)

    assert compare(decode, DTYPE) < HALF
    assert compare(draw, DTYPE) < HALF


@needs_kernels
def test_personalive_is_the_same() -> None:
    config = tiny_personalive()
    networks = PersonaLiveNetworks(config)
    placed(networks)
    cells, frames, unet = config.image_size // 8, config.window_frames, config.unet
    token = numbers(1, 1, unet.identity_channels)
    window, steps = numbers(1, frames, 4, cells, cells), numbers(1, frames).abs() * 500
    given = Conditions(
        identity=networks.denoiser.embed_identity(token.to(DTYPE)),
        references=None,
        motion=numbers(1, frames, config.motion_encoder.num_tokens, unet.motion_channels),
        pose=numbers(1, frames, unet.channels[0], cells, cells),
    )
    assert compare(lambda: networks.denoise(window, steps, given), DTYPE) < HALF
    assert compare(lambda: networks.decode(window[0, :2]), DTYPE) < HALF


@needs_kernels
def test_the_tiny_decoder_is_the_same() -> None:
    decoder = placed(stock.build_tiny_decoder(TinyDecoderConfig(channels=8, num_blocks=(1, 1, 1, 1))))
    latents = numbers(2, 4, 3, 5)
    with precision.computing(DEVICE, DTYPE):
        assert far(stock.decode_tiny(decoder, latents), decoder(latents)) < HALF


def test_the_vae_decodes_as_its_library_does() -> None:
    config = tiny_personalive()
    vae = stock.build_vae(config.vae).eval()
    latents = torch.randn(2, 4, 8, 8)
    assert far(stock.decode(vae, latents), vae.decode(latents).sample) < 10 * CLOSE
