"""The start that is solved: a VAE that was never trained redraws pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vivant.engines.refvae import config_vae
from vivant.engines.refvae.layers import CausalConv3d
from vivant.engines.refvae.stages_start import fold_time, solve_start
from vivant.engines.refvae.vae import VideoVae


def pictures(count: int, seed: int) -> Tensor:
    """(N, 3, 64, 64): two discs each, anywhere, of any colours."""
    random = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))
    shown = torch.rand(count, 3, 1, 1, generator=random).expand(-1, -1, 64, 64) * 2 - 1
    for _ in range(2):
        middle, colour = (torch.rand(count, n, 1, 1, generator=random) for n in (2, 3))
        distance = (grid - 64 * middle).square().sum(1, keepdim=True).sqrt()
        shown = torch.lerp(shown, colour * 2 - 1, torch.sigmoid((14 - distance) / 2))
    return shown


MIRRORED = replace(
    config_vae.tiny(), decoder_channels=(64, 32, 16, 8), decoder_deep_channels=config_vae.tiny().deep_channels
)


def error(vae: VideoVae, shown: Tensor, references: Tensor) -> float:
    with torch.no_grad():
        latents, _ = vae.encode(shown[:, :, None])
        drawn = vae.decode(latents, vae.encode_references(references[:, None]))[:, :, 0]
    return float((drawn - shown).square().mean() / shown.var())


def test_pictures_come_back_before_the_first_step() -> None:
    torch.manual_seed(0)
    vae = VideoVae(MIRRORED).eval()
    shown, others = pictures(8, 2), pictures(8, 4)
    assert error(vae, shown, others) > 0.5
    solve_start(vae, pictures(96, 1), pictures(96, 3))
    assert error(vae, shown, others) < 0.1  # latents alone can say it, for the reference shows something else
    assert all(bool(torch.isfinite(parameter).all()) for parameter in vae.parameters())


def test_what_a_reference_shows_better_than_latents_is_taken_from_it() -> None:
    torch.manual_seed(0)
    vae = VideoVae(replace(MIRRORED, latent_channels=8)).eval()
    solve_start(vae, pictures(96, 1), pictures(96, 1))
    shown = pictures(8, 2)
    assert error(vae, shown, shown) < 0.7 * error(vae, shown, pictures(8, 4))


@torch.no_grad()
def test_what_pictures_taught_holds_in_clips() -> None:
    """Discs that pass by: late frames of a clip are drawn as well as the first, which is a picture."""
    torch.manual_seed(0)
    vae = VideoVae(MIRRORED).eval()
    solve_start(vae, pictures(96, 1), pictures(96, 3))
    for module in vae.modules():
        if isinstance(module, CausalConv3d):
            # As training on pictures leaves it: all frames of a kernel alike.
            module.conv.weight.copy_(module.conv.weight.sum(2, keepdim=True) / module.conv.kernel_size[0])
    shown = pictures(8, 2)
    before, still = error(vae, shown, shown), vae.encode(shown[:, :, None])[0]
    shift = torch.arange(17)
    clips = torch.stack([torch.stack([x.roll(int(t), -1) for t in shift], 1) for x in shown])
    references = vae.encode_references(shown[:, None])

    def late(vae: VideoVae) -> float:
        drawn = vae.decode(vae.encode(clips)[0], references)
        return float((drawn - clips)[:, :, -4:].square().mean() / clips.var())

    mixed = late(vae)
    fold_time(vae)
    torch.testing.assert_close(vae.encode(shown[:, :, None])[0], still, atol=1e-4, rtol=1e-4)
    assert error(vae, shown, shown) == pytest.approx(before, rel=1e-3)
    assert late(vae) < 2 * before < mixed


def test_other_layers_are_refused() -> None:
    for config in (config_vae.tiny(), replace(MIRRORED, resampling="interpolation")):
        with pytest.raises(ValueError, match="needs residual resampling"):
            solve_start(VideoVae(config), pictures(4, 1), pictures(4, 3))
