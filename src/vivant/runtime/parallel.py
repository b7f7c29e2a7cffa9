"""Several processes, one device each, that compute one network together (started by torchrun).

Process 0 does everything that a single process would, and nobody else reads or writes files. Where its network is
computed together, it tells the others what to compute; they wait for that and for nothing else. So streams, saved
states and programs do not know how many processes there are. Networks say how: `work_together(team)` and `follow()`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vivant.errors import InputError
from vivant.runtime import precision

RELEASED_WITHIN_SECONDS = 0.5


@dataclass(frozen=True)
class Team:
    """The processes that compute together."""

    rank: int
    """Of this process; 0 leads."""
    size: int
    device: torch.device

    def tell(self, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Process 0: give the others what they wait for in `hear`. Numbers are what JSON can say."""
        shapes = {name: (list(x.shape), str(x.dtype).removeprefix("torch.")) for name, x in tensors.items()}
        text = json.dumps({"numbers": dict(numbers), "tensors": shapes}).encode()
        dist.broadcast(torch.tensor(len(text), device=self.device), 0)
        dist.broadcast(torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.device), 0)
        for tensor in tensors.values():
            dist.broadcast(tensor.to(self.device).contiguous(), 0)

    def hear(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The others: numbers and tensors of the next `tell`."""
        length = torch.zeros((), dtype=torch.int64, device=self.device)
        dist.broadcast(length, 0)
        text = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        dist.broadcast(text, 0)
        said = json.loads(bytes(text.tolist()))
        tensors = {}
        for name, (shape, dtype) in said["tensors"].items():
            tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            dist.broadcast(tensors[name], 0)
        return said["numbers"], tensors

    def gathered(self, own: Tensor) -> Tensor:
        """Every process's tensor of one shape, stacked in front: (size, ...), the same everywhere."""
        everyone = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(everyone, own.contiguous())
        return torch.stack(everyone)


class Engine(Protocol):
    """What is needed of an engine here."""

    family: Any
    networks: nn.Module
    dtype: torch.dtype

    @property
    def device(self) -> torch.device: ...


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_device(name: str) -> str:
    """A device's name, where "auto" and "cuda" among several processes mean a GPU for each."""
    if world_size() > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


def meet_before_leaving() -> None:
    """Wait for all processes, and until gloo's threads hold no tensor that Python has let go.

    Releasing one takes the interpreter's lock, and a thread that asks for that while the interpreter ends aborts the
    process. A barrier does not wait for the thread that ran the collective before it: it needs lock and processor.
    """
    dist.barrier()
    time.sleep(RELEASED_WITHIN_SECONDS)


def joined(engine: Engine) -> Team:
    """The team of all processes, with this one's engine in it.

    Raises InputError where the family computes in one process only, or cannot be divided by that many.
    """
    rank, size = int(os.environ["RANK"]), world_size()
    work_together = getattr(engine.networks, "work_together", None)
    if work_together is None:
        raise InputError(f"{engine.family} computes in one process; start it without torchrun.")
    if engine.device.type == "cuda":
        torch.cuda.set_device(engine.device)
    dist.init_process_group("nccl" if engine.device.type == "cuda" else "gloo")
    team = Team(rank, size, engine.device)
    work_together(team)
    return team


@contextmanager
def leading(load: Callable[[], Engine]) -> Iterator[Callable[[], Any] | None]:
    """For programs: process 0 gets what to load its engine with and goes on as if it were alone.

    The others get None, after they have worked for it until it was done. Without torchrun, process 0 is alone.
    """
    if world_size() == 1:
        yield load
        return
    teams: list[Team] = []

    def loaded() -> Engine:
        engine = load()
        teams.append(joined(engine))
        return engine

    if int(os.environ["RANK"]) == 0:
        yield loaded
        # Not after an error: the others may be in the middle of something, and torchrun ends them.
        for team in teams:
            team.tell({"end": True}, {})
    else:
        engine = loaded()
        with torch.no_grad(), precision.computing(engine.device, engine.dtype):
            engine.networks.follow()  # type: ignore[operator]
        yield None
    if dist.is_initialized():
        meet_before_leaving()
        dist.destroy_process_group()
