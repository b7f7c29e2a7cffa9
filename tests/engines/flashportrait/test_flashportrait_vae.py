"""The video VAE piece by piece is diffusers' VAE on the whole clip, in both directions."""

from __future__ import annotations

import pytest
import torch

from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import tiny
from vivant.engines.flashportrait.networks.vae import VideoVae


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
