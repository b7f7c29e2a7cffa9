"""Several processes, one run: start-up by torchrun's environment, averaged gradients or FSDP2.

Replication is plain: every process computes its own micro-batch and gradients are averaged before the step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vivant.runtime.parallel import meet_before_leaving


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """Join the group that torchrun describes; yields (rank, world_size), (0, 1) without torchrun."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield 0, 1
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield dist.get_rank(), world_size
        meet_before_leaving()
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: Sequence[nn.Parameter], world_size: int) -> None:
    """Mean of the gradients over all processes, in one flat message.

    A process whose batch did not use a parameter counts with zeros; where no process used it, it has no gradient.
    """
    if world_size == 1:
        return
    used = torch.tensor(
        [p.grad is not None for p in parameters], dtype=torch.int32, device=parameters[0].device
    )
    dist.all_reduce(used, dist.ReduceOp.MAX)
    chosen = [p for p, anywhere in zip(parameters, used.tolist(), strict=True) if anywhere]
    for parameter in chosen:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    grads = [p.grad for p in chosen if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= world_size
    offset = 0
    for grad in grads:
        grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
        offset += grad.numel()


def broadcast_parameters(network: nn.Module, world_size: int) -> None:
    """Give every process the weights and buffers of rank 0."""
    if world_size == 1:
        return
    for tensor in network.state_dict().values():
        dist.broadcast(tensor, 0)


def shard(network: nn.Module) -> None:
    """FSDP2 in place: each direct child that trains is a unit, with units of its own where it has `shard_blocks`.

    A network whose `shard_whole` is true is one unit: right where its parts are used in other ways than by `forward`.
    In others, children that do not train are left whole, because nobody calls the network itself, which would gather
    them.
    """
    from torch.distributed.fsdp import fully_shard

    if getattr(network, "shard_whole", False):
        fully_shard(network)
        return
    if any(p.requires_grad for p in network.parameters(recurse=False)):
        raise ValueError("parameters outside of all children would train apart on every process")
    for child in network.children():
        if not any(p.requires_grad for p in child.parameters()):
            continue
        for block in getattr(child, getattr(child, "shard_blocks", ""), ()):
            fully_shard(block)
        fully_shard(child)


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole tensor, gathered when FSDP2 holds only a piece of it here."""
    gather = getattr(tensor, "full_tensor", None)
    return gather() if gather is not None else tensor


def laid_out_as(parameter: Tensor, whole: Tensor) -> Tensor:
    """A copy of `whole` on the parameter's device, in its memory layout, and of it only the piece that is held here.

    Every process has read the same whole tensor, so nothing is sent.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(parameter, DTensor):
        mine = whole.to(parameter.device, copy=True)
        return distribute_tensor(mine, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return torch.empty_like(parameter, dtype=whole.dtype, requires_grad=False).copy_(whole)


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of all processes' tensors; itself where there is one process. All of them have to call it."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def barrier(world_size: int) -> None:
    if world_size > 1:
        dist.barrier()


def gather_bytes(state: Tensor, device: torch.device, world_size: int) -> list[Tensor]:
    """A uint8 tensor of every rank, on the CPU. It travels on `device`, since nccl carries nothing else."""
    mine = state.to(device)
    everyone = [torch.empty_like(mine) for _ in range(world_size)]
    dist.all_gather(everyone, mine)
    return [tensor.cpu() for tensor in everyone]


def any_rank(flags: tuple[bool, ...], device: torch.device, world_size: int) -> tuple[bool, ...]:
    """Each flag, true on all ranks as soon as it is true on one."""
    if world_size == 1:
        return flags
    everyone = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(everyone, dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in everyone.tolist())
