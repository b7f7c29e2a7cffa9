"""The video VAE piece by piece is diffusers' VAE on the whole clip, in both directions."""

from __future__ import annotations

import copy

import pytest
import torch

from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import tiny
from vivant.engines.flashportrait.networks.vae import VideoVae
from vivant.engines.flashportrait.tiles import Tiling, in_tiles


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    torch.manual_seed(0)
    network = VideoVae(tiny().vae).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def test_encoding(vae: VideoVae) -> None:
    frames = torch.rand(2, 3, 13, 16, 24) * 2 - 1
    cache = VaeCache()
    pieces = [vae.encode_piece(piece, cache) for piece in frames.split([1, 4, 8], 2)]
    ours = torch.cat(pieces, 2)
    theirs = vae.encode(frames).latent_dist.mode()
    assert ours.shape == (2, 4, 4, 2, 3)
    torch.testing.assert_close(ours * vae.latent_std + vae.latent_mean, theirs, atol=1e-5, rtol=1e-5)
    assert torch.equal(vae.encode_piece(frames, VaeCache()), ours)


def test_decoding(vae: VideoVae) -> None:
    latents = torch.randn(1, 4, 5, 2, 3)
    cache = VaeCache()
    pieces = [vae.decode_piece(piece, cache) for piece in latents.split([1, 1, 3], 2)]
    assert [piece.shape[2] for piece in pieces] == [1, 4, 12]
    theirs = vae.decode(latents * vae.latent_std + vae.latent_mean).sample
    torch.testing.assert_close(torch.cat(pieces, 2), theirs, atol=2e-4, rtol=0)
    assert theirs.std() > 0.05


@pytest.fixture(scope="module")
def local(vae: VideoVae) -> VideoVae:
    """Without what the attention adds, so that far pixels cannot matter."""
    network = copy.deepcopy(vae)
    for half in (network.encoder, network.decoder):
        torch.nn.init.zeros_(half.mid_block.attentions[0].proj.weight)
        torch.nn.init.zeros_(half.mid_block.attentions[0].proj.bias)
    return network


def caches(tiling: Tiling, height: int, width: int) -> list[VaeCache]:
    return [VaeCache() for _ in range(tiling.count(height, width))]


def test_tiles_cover_what_they_should() -> None:
    tiling = Tiling(size=32)
    assert tiling.spans(20) == [range(20)]
    assert tiling.spans(136 // 2) == [range(32), range(24, 56), range(36, 68)]
    assert Tiling(size=None).count(500, 900) == 1
    assert tiling.count(136, 240) == 6 * 10, "full HD"


def test_decoding_in_tiles(local: VideoVae) -> None:
    """Where a tile's borders are out of reach, as in the whole picture; between tiles, from one to the other."""
    latents, tiling = torch.randn(1, 4, 3, 4, 56, generator=torch.Generator().manual_seed(0)), Tiling(size=32)
    whole = local.decode_piece(latents, VaeCache())
    own = caches(tiling, 4, 56)
    assert len(own) == 2
    ours = torch.cat(
        [in_tiles(local.decode_piece, piece, own, tiling) for piece in latents.split([1, 2], 2)], 2
    )
    assert ours.shape == whole.shape == (1, 3, 9, 32, 448)
    reach = 14 * 8  # cells that convolutions see, in pixels
    begin, end = 24 * 8, 32 * 8  # of what both tiles show
    for place in (slice(0, end - reach), slice(begin + reach, None)):
        torch.testing.assert_close(ours[..., place], whole[..., place], atol=1e-4, rtol=0)
    first, second = (local.decode_piece(latents[..., span], VaeCache()) for span in tiling.spans(56))
    share = (torch.arange(64) + 0.5) / 64
    blend = first[..., begin:] * (1 - share) + second[..., : end - begin] * share
    torch.testing.assert_close(ours[..., begin:end], blend, atol=1e-4, rtol=0)
    assert (blend - whole[..., begin:end]).abs().max() > 1e-3, "borders are seen here"


def test_encoding_in_tiles(local: VideoVae) -> None:
    frames, tiling = torch.rand(1, 3, 5, 32, 448) * 2 - 1, Tiling(size=32)
    whole = local.encode_piece(frames, VaeCache())
    own = caches(tiling, 4, 56)
    ours = [in_tiles(local.encode_piece, piece, own, tiling, 8) for piece in frames.split([1, 4], 2)]
    assert len(own) == 2
    both = torch.cat(ours, 2)
    torch.testing.assert_close(both[..., :17], whole[..., :17], atol=1e-4, rtol=0)
    torch.testing.assert_close(both[..., 39:], whole[..., 39:], atol=1e-4, rtol=0)
