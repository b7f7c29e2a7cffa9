"""The scale of refvae's latents, where several processes learn the VAE together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from vivant.engines.refvae.config import tiny
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.stages import follow_scale

STEPS = 5


def latents(rank: int, step: int) -> Tensor:
    """(B, Z, L, h, w); each process sees others."""
    generator = torch.Generator().manual_seed(10 * rank + step)
    return 3 * rank + (1 + rank) * torch.randn(4, 64, 2, 4, 4, generator=generator)


def follow(rank: int, folder: Path) -> None:
    """One of two processes."""
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    networks = Networks(tiny())
    for step in range(STEPS):
        follow_scale(networks, latents(rank, step))
    scale = {"mean": networks.latent_mean, "std": networks.latent_std}
    save_file(scale, folder / f"{rank}.safetensors")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_processes_follow_the_scale_of_all_latents(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(follow, (tmp_path,), nprocs=2)
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    networks = Networks(tiny())
    for step in range(STEPS):
        follow_scale(networks, torch.cat([latents(rank, step) for rank in range(2)]))
    for name, alone in (("mean", networks.latent_mean), ("std", networks.latent_std)):
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], alone)
