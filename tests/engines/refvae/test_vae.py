"""The causal video VAE: sizes, resampling, and that a stream in pieces is the clip in one, to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.engines.refvae import config_vae
from vivant.engines.refvae.layers import Down, TemporalCache, Up, shuffle, unshuffle
from vivant.engines.refvae.vae import VideoVae

EXACT = 1e-12


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    torch.manual_seed(0)
    network = VideoVae(config_vae.tiny()).double().eval().requires_grad_(False)
    # The reference decoder starts silent; these tests are about what it says.
    torch.nn.init.normal_(network.reference_decoder.leave.weight, std=0.1)
    return network


@pytest.fixture
def video() -> Tensor:
    return (
        torch.rand(1, 3, 13, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )


def references_of(vae: VideoVae, count: int, seed: int = 2) -> Tensor:
    return torch.rand(1, count, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pieces(x: Tensor, lengths: tuple[int, ...]) -> Iterator[Tensor]:
    assert sum(lengths) == x.shape[2]
    yield from x.split(lengths, 2)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [("full", 496.31, 405.18), ("full_lite", 496.31, 402.97), ("small", 18.53, 14.54), ("tiny", 2.36, 1.43)],
)
def test_parameter_counts_are_the_tables(name: str, encoder: float, decoder: float) -> None:
    with torch.device("meta"):
        network = VideoVae(getattr(config_vae, name)())

    def millions(*parts: torch.nn.Module) -> float:
        return sum(p.numel() for part in parts for p in part.parameters()) / 1e6

    assert millions(network.feature_encoder, network.deep_encoder) == pytest.approx(encoder, rel=0.01)
    assert millions(
        network.deep_decoder, network.reference_decoder, network.picture_decoder
    ) == pytest.approx(decoder, rel=0.01)


def test_unshuffle_keeps_the_channel_outermost() -> None:
    x = torch.arange(2 * 3 * 4 * 4 * 6.0).reshape(2, 3, 4, 4, 6)
    assert torch.equal(shuffle(unshuffle(x, 2, 2), 2, 2), x)
    means = unshuffle(x, 2, 2).unflatten(1, (3, 8)).mean(2)
    torch.testing.assert_close(means, F.avg_pool3d(x, 2))


@pytest.mark.parametrize("time", [1, 2])
def test_shortcuts_are_pooling_and_repeating(time: int) -> None:
    x = torch.randn(1, 8, 5, 4, 4, dtype=torch.float64)
    down, up = (kind(8, 8, time, "replicate").double() for kind in (Down, Up))
    for parameter in (*down.parameters(), *up.parameters()):
        torch.nn.init.zeros_(parameter)
    small = F.avg_pool3d(x[:, :, 1:], (time, 2, 2))
    first = F.avg_pool3d(x[:, :, :1], (1, 2, 2))
    if time > 1:  # the first frame takes no part in pairing
        torch.testing.assert_close(down(x)[:, :, 1:], small)
    torch.testing.assert_close(down(x)[:, :, :1], first)
    wide = F.interpolate(x[:, :, :1], scale_factor=(1, 2, 2))
    # Of 8 channels to 8 * 4 by repetition: each channel becomes the four pixels of its cell.
    torch.testing.assert_close(up(x)[:, :, :1], wide)
    assert up(x).shape[2] == 1 + 4 * time


def test_shapes(vae: VideoVae, video: Tensor) -> None:
    mean, log_variance = vae.encode(video)
    assert mean.shape == log_variance.shape == (1, 64, 4, 1, 1)
    assert vae.decode(mean, None).shape == video.shape
    assert vae.encode(video[:, :, :1])[0].shape == (1, 64, 1, 1, 1)
    assert vae.decode(mean[:, :, :1], vae.encode_references(references_of(vae, 1))).shape[2] == 1


@pytest.mark.parametrize("lengths", [(13,), (5, 8), (1, 4, 4, 4), (9, 4)])
def test_encoding_in_pieces_is_encoding_whole(vae: VideoVae, video: Tensor, lengths: tuple[int, ...]) -> None:
    whole = vae.encode(video)[0]
    cache = TemporalCache()
    parts = torch.cat([vae.encode(piece, cache)[0] for piece in pieces(video, lengths)], 2)
    assert (parts - whole).abs().max() < EXACT


@pytest.mark.parametrize("lengths", [(4,), (1, 1, 1, 1), (2, 1, 1), (1, 3)])
@pytest.mark.parametrize("num_references", [0, 2])
def test_decoding_in_pieces_is_decoding_whole(
    vae: VideoVae, video: Tensor, lengths: tuple[int, ...], num_references: int
) -> None:
    latents = vae.encode(video)[0]
    references = vae.encode_references(references_of(vae, num_references))
    whole = vae.decode(latents, references)
    cache = TemporalCache()
    parts = torch.cat([vae.decode(piece, references, cache) for piece in pieces(latents, lengths)], 2)
    assert (parts - whole).abs().max() < EXACT


def test_the_ablations_layers_stream_too(video: Tensor) -> None:
    """Mini's layers, which see latents one by one in the deep, and the resampling that Table 2 compares with."""
    torch.manual_seed(0)
    config = replace(config_vae.mini(), resampling="interpolation")
    for network in (VideoVae(config_vae.mini()), VideoVae(config)):
        network.double().eval().requires_grad_(False)
        cache, decoder = TemporalCache(), TemporalCache()
        whole = network.encode(video)[0]
        parts = torch.cat([network.encode(piece, cache)[0] for piece in pieces(video, (5, 8))], 2)
        assert (parts - whole).abs().max() < EXACT
        references = network.encode_references(references_of(network, 1))
        drawn = [network.decode(piece, references, decoder) for piece in pieces(whole, (1, 3))]
        assert (torch.cat(drawn, 2) - network.decode(whole, references)).abs().max() < EXACT


def test_the_future_changes_nothing_before_it(vae: VideoVae, video: Tensor) -> None:
    changed = video.clone()
    changed[:, :, 9:] += 0.5
    before, after = vae.encode(video)[0], vae.encode(changed)[0]
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.equal(before[:, :, 3], after[:, :, 3])
    shown, other = vae.decode(before, None), vae.decode(after, None)
    assert torch.equal(shown[:, :, :9], other[:, :, :9])
    assert not torch.equal(shown[:, :, 9:], other[:, :, 9:])


def test_references_count_and_their_order_does_not(vae: VideoVae, video: Tensor) -> None:
    latents = vae.encode(video)[0]
    pictures = references_of(vae, 3)
    shown = [
        vae.decode(latents, vae.encode_references(pictures[:, order]))
        for order in ([0, 1, 2], [2, 0, 1], [0, 1])
    ]
    assert (shown[0] - shown[1]).abs().max() < EXACT
    assert (shown[0] - shown[2]).abs().max() > 1e-6
    assert (shown[0] - vae.decode(latents, None)).abs().max() > 1e-6


def test_clips_of_other_lengths_are_refused(vae: VideoVae, video: Tensor) -> None:
    with pytest.raises(ValueError, match=r"takes 1 \+ 4n frames .* got 12 of 64x64"):
        vae.encode(video[:, :, :12])
    cache = TemporalCache()
    vae.encode(video[:, :, :5], cache)
    with pytest.raises(ValueError, match="takes 4n frames"):
        vae.encode(video[:, :, :5], cache)
