"""The block VAE: what its components say comes back, a stream is the clip, and solving finds the principal ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vivant import records
from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import Config, tiny, tiny_differences
from vivant.engines.flashportrait.config_networks import BlockVaeConfig, tiny_block_vae
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.networks.block_vae import BlockVae, Moments, solve


def clips(count: int, frames: int, side: int = 16) -> Tensor:
    """Noise that lives in few directions, and moves."""
    generator = torch.Generator().manual_seed(3)
    shapes = torch.randn(6, 3, 1, side, side, generator=generator)
    weights = torch.randn(count, 6, 1, frames, 1, 1, generator=generator) * torch.tensor(
        [8, 4, 2, 1, 0.5, 0.2]
    ).view(-1, 1, 1, 1, 1)
    return (weights * shapes).sum(1) / 20


def solved(config: BlockVaeConfig, frames: Tensor) -> BlockVae:
    vae = BlockVae(config).eval().requires_grad_(False)
    moments = Moments(vae)
    for clip in frames.split(1):
        moments.add(clip)
    solve(moments)
    return vae


def test_a_stream_is_the_clip() -> None:
    vae = solved(tiny_block_vae(), clips(4, 8))
    vae.mending.leave.weight.normal_(std=0.1)
    frames = clips(1, 13)
    cache = VaeCache()
    pieces = [vae.encode_piece(piece, cache) for piece in frames.split([1, 4, 8], 2)]
    latents = vae.encode_clips(frames)
    assert latents.shape == (1, 16, 4, 2, 2)
    # Products of other heights may be summed in another order.
    torch.testing.assert_close(torch.cat(pieces, 2), latents, atol=1e-5, rtol=1e-5)
    cache = VaeCache()
    decoded = torch.cat([vae.decode_piece(piece, cache) for piece in latents.split([1, 1, 2], 2)], 2)
    assert decoded.shape == frames.shape
    torch.testing.assert_close(decoded, vae.decode_clips(latents).clamp(-1, 1))


def test_all_components_are_all_of_the_picture() -> None:
    whole = BlockVaeConfig(still_channels=192, moving_channels=576, mending_width=4, num_mending_blocks=1)
    noise = torch.rand(120, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    vae = solved(whole, noise)
    torch.testing.assert_close(
        vae.decode_clips(vae.encode_clips(noise[:, :, :5])), noise[:, :, :5], atol=1e-3, rtol=0
    )
    few = solved(replace(whole, still_channels=24, moving_channels=8), noise)
    assert (few.decode_clips(few.encode_clips(noise[:, :, :5])) - noise[:, :, :5]).square().mean() > 0.01


def test_what_stands_still_has_the_latents_of_its_first_frame() -> None:
    vae = solved(tiny_block_vae(), clips(4, 8))
    still = clips(1, 1).expand(-1, -1, 9, -1, -1)
    latents = vae.encode_clips(still)
    torch.testing.assert_close(latents, latents[:, :, :1].expand_as(latents), atol=1e-5, rtol=1e-5)


def test_solving() -> None:
    frames = clips(32, 8)
    vae = solved(tiny_block_vae(), frames)
    for rows in (vae.still, vae.moving):
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-5, rtol=0)
    assert vae.moving.unflatten(1, (4, -1)).sum(1).abs().max() < 1e-5, "no mean over the frames"
    assert int(vae.solved) == 32 * 2 * 4
    latents = vae.components(frames).sub(vae.mean).div(vae.spread).movedim(-1, 1)
    differences = latents[:, :, 1] - latents[:, :, 0]
    moving = vae.config.still_channels
    of_still = differences[:, :moving].square().mean((0, 2, 3))
    own = torch.cat([of_still, latents[:, moving:].square().mean((0, 2, 3, 4))])
    assert float(own.mean()) == pytest.approx(1, abs=0.05)
    assert of_still[0] > 2 * of_still[5], "large differences stay larger"
    assert vae.told(latents)[:, 0].std() == pytest.approx(1, abs=0.1)


def test_a_config_says_which_vae() -> None:
    for config in (tiny(), tiny_differences()):
        data = records.to_data(config)
        assert records.from_data(Config, data) == config
    broken: Any = records.to_data(tiny_differences())
    broken["vae"]["mending"] = broken["vae"].pop("mending_width")
    with pytest.raises(ValueError, match="unknown mending"):
        records.from_data(Config, broken)
    with pytest.raises(ValueError, match="block VAE only"):
        replace(tiny(), drawing="differences", alignment="first")
    with pytest.raises(ValueError, match="alignment is first"):
        replace(tiny_differences(), alignment="each")


def test_nothing_drawn_is_the_reference() -> None:
    """A transformer that answers with its noise leaves no difference, so every frame is the reference."""
    torch.manual_seed(0)
    config = tiny_differences()
    networks: Any = FlashPortrait.build_networks(config).eval().requires_grad_(False)
    networks.vae.load_state_dict(solved(tiny_block_vae(), clips(8, 8, 32)).state_dict())
    engine = FlashPortrait(config, networks)
    picture = clips(1, 1, 32)[:, :, 0] / 2 + 0.5
    portrait = engine.encode_reference(picture)
    state = engine.start(portrait)

    transformer, channels = networks.transformer, config.vae.latent_channels
    transformer.enter = lambda latents, timestep, _: (
        latents[:, :channels] / (timestep.view(-1, 1, 1, 1, 1) / 1000)
    )
    transformer.run = lambda stream, kept: stream
    transformer.leave = lambda hidden, _: hidden
    motion = engine.encode_motion(state, torch.rand(9, 3, 32, 32))
    frames = torch.cat([engine.render(state, motion), engine.flush(state)])[:9]
    wanted = (
        networks.vae.decode_clips(networks.vae.encode_clips(picture[:, :, None] * 2 - 1))[0, :, 0] / 2 + 0.5
    )
    torch.testing.assert_close(frames, wanted.clamp(0, 1).expand_as(frames), atol=1e-3, rtol=0)
