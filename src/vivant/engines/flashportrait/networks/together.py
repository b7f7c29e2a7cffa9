"""One forward pass on several processes: context parallelism.

Every process has its share of the tokens of every latent, so that a latent's tokens meet its own expression tokens
without moving. Two things need the others: self-attention, which trades tokens for heads and back (Ulysses, arXiv
2309.14509, as diffusers does it), and the mean and spread of the expression block. Letters as in transformer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias, cast

import torch
from diffusers import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from vivant.engines.flashportrait.networks.stream import Context, Outputs, Stream
from vivant.runtime.parallel import Team

Run: TypeAlias = Callable[[Stream, Tensor, slice, list[Outputs] | None], Tensor]
"""Blocks one after another, on this process's tokens."""


@dataclass(frozen=True)
class Work:
    """What is to be computed, whole."""

    stream: Stream
    hidden: Tensor
    """(B, L, D): what the first of the blocks reads."""
    blocks: slice
    kept: list[Outputs] | None


def ulysses(team: Team) -> ParallelConfig:
    """What diffusers' self-attention needs to trade tokens for heads among the team."""
    degrees = ContextParallelConfig(ulysses_degree=team.size)
    mesh = init_device_mesh(team.device.type, degrees.mesh_shape, mesh_dim_names=degrees.mesh_dim_names)
    degrees.setup(team.rank, team.size, team.device, mesh)
    return ParallelConfig(context_parallel_config=degrees)


def lead(team: Team, work: Work, run: Run) -> Tensor:
    """Process 0: the output (B, L, D) of the blocks, computed together with those that `follow`."""
    stream = work.stream
    numbers = {
        "grid": stream.grid,
        "blocks": (work.blocks.start, work.blocks.stop),
        "keep": work.kept is not None,
    }
    tensors = {field.name: getattr(stream.context, field.name) for field in fields(Context)}
    tensors |= {"hidden": work.hidden, "time": stream.time, "modulation": stream.modulation}
    tensors |= {"cos": stream.rotary[0], "sin": stream.rotary[1]}
    team.tell(numbers, tensors)
    return _computed(team, work, run)


def follow(team: Team, run: Run) -> None:
    """The others: compute along until process 0 ends it."""
    while True:
        numbers, tensors = team.hear()
        if "end" in numbers:
            return
        stream = Stream(
            hidden=tensors["hidden"],
            time=tensors["time"],
            modulation=tensors["modulation"],
            rotary=(tensors["cos"], tensors["sin"]),
            context=Context(**{field.name: tensors[field.name] for field in fields(Context)}),
            grid=cast("tuple[int, int, int]", tuple(numbers["grid"])),
        )
        work = Work(stream, stream.hidden, slice(*numbers["blocks"]), [] if numbers["keep"] else None)
        _computed(team, work, run)


def _computed(team: Team, work: Work, run: Run) -> Tensor:
    latents = work.stream.grid[0]
    cos, sin = (share(team, x, latents) for x in work.stream.rotary)
    hidden = share(team, work.hidden, latents)
    kept: list[Outputs] | None = None if work.kept is None else []
    out = run(replace(work.stream, hidden=hidden, rotary=(cos, sin)), hidden, work.blocks, kept)
    if work.kept is not None and kept is not None:
        for parts in kept:
            work.kept.append(cast("Outputs", tuple(whole(team, part, latents) for part in parts)))
    return whole(team, out, latents)


def share(team: Team, tokens: Tensor, num_latents: int) -> Tensor:
    """This process's tokens of every latent: (B, L, ...) -> (B, L / size, ...)."""
    return tokens.unflatten(1, (num_latents, -1)).chunk(team.size, 2)[team.rank].flatten(1, 2)


def whole(team: Team, own: Tensor, num_latents: int) -> Tensor:
    """The inverse of `share`, on every process."""
    parts = team.gathered(own).unflatten(2, (num_latents, -1))
    return torch.cat(list(parts), 2).flatten(1, 2)


def pooled_mean_and_std(own: Tensor, team: Team) -> tuple[Tensor, Tensor]:
    """Mean and unbiased spread (B, 1, 1) over all tokens and channels of all shares, from those of each share."""
    count = own.shape[1] * own.shape[2]
    deviations, means = team.gathered(torch.stack(torch.std_mean(own.float(), (1, 2), keepdim=True))).unbind(
        1
    )
    mean = means.mean(0)
    squares = (count - 1) * deviations.square().sum(0) + count * (means - mean).square().sum(0)
    return mean, (squares / (team.size * count - 1)).sqrt()
