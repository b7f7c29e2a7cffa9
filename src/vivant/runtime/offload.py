"""Weights at rest elsewhere, or narrower, than they work: models larger than a GPU's memory.

    full        everything lies on the device
    fp8         matrices rest there as 8-bit floats and are widened layer by layer, just before they are used
    model       one network lies on the device at a time, the others in main memory
    sequential  one layer at a time; slowest, and next to nothing lies on the device

Hooks on layers do it, so networks do not know and any of their methods may be called. Knows no family.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vivant.errors import InputError

Memory = Literal["full", "fp8", "model", "sequential"]

SMALLEST_BYTES = 1 << 20
"""Layers below this stay on the device: moving them would cost more than it saves."""
WORK_DEVICE = "work_device"
"""Attribute of networks whose weights rest elsewhere than where they work."""
FP8 = torch.float8_e4m3fn


def choose_memory(name: str) -> Memory:
    """One of the names above. Raises InputError."""
    for known in get_args(Memory):
        if name == known:
            return known
    raise InputError(f"{name!r} is no way to keep weights; there are {', '.join(get_args(Memory))}")


def rest(
    networks: nn.Module, memory: Memory, device: torch.device, smallest_bytes: int = SMALLEST_BYTES
) -> nn.Module:
    """Let networks that `precision.place` left in main memory rest as `memory` says, ready to work on `device`.

    Changes them in place; `networks.work_device` says where inputs belong.
    """
    if memory == "full":
        return networks.to(device)
    setattr(networks, WORK_DEVICE, device)
    resident = _Resident()
    for network in networks.children():
        for layer in network.modules():
            size = sum(x.numel() * x.element_size() for x in _own(layer).values())
            if memory == "fp8" or size < smallest_bytes:
                _put(layer, {name: x.to(device) for name, x in _own(layer).items()})
            if size < smallest_bytes:
                continue
            if memory == "fp8":
                if is_narrowed(networks, network, layer):
                    _narrow(layer)
            elif memory == "sequential":
                _hook(layer, partial(_fetch, device=device), _return)
            else:
                layer.register_forward_pre_hook(partial(_enter, resident, network, device), prepend=True)
    for name, buffer in networks.named_buffers(recurse=False):
        networks._buffers[name] = buffer.to(device)
    return networks


def is_narrowed(networks: nn.Module, network: nn.Module, layer: nn.Module) -> bool:
    """Whether fp8 narrows a layer of a network: a matrix, where `narrow_linear` is and no `keep_float32`."""
    if not isinstance(layer, nn.Linear):
        return False
    if not any(getattr(module, "narrow_linear", False) for module in (networks, network)):
        return False
    return not any(
        getattr(module, "keep_float32", False) and any(part is layer for part in module.modules())
        for module in network.modules()
    )


def _own(layer: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the layer itself, not of those below it."""
    return dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))


def _put(layer: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name in layer._parameters:
            layer._parameters[name] = nn.Parameter(tensor, requires_grad=False)
        else:
            layer._buffers[name] = tensor


def _hook(layer: nn.Module, before: Any, after: Any) -> None:
    layer.register_forward_pre_hook(before, prepend=True)
    layer.register_forward_hook(after, always_call=True)


# What rests is kept beside the layer's own tensors, on the layer, so that copies of networks have their own.


def _fetch(layer: Any, _inputs: Any, *, device: torch.device) -> None:
    layer.at_rest = _own(layer)
    _put(layer, {name: x.to(device) for name, x in layer.at_rest.items()})


def _return(layer: Any, _inputs: Any, _outputs: Any) -> None:
    _put(layer, layer.at_rest)
    del layer.at_rest


def _narrow(layer: Any) -> None:
    weight = layer.weight.data
    dtype = weight.dtype
    layer._parameters["weight"] = nn.Parameter(weight.to(FP8), requires_grad=False)

    def widen(layer: Any, _inputs: Any) -> None:
        layer.at_rest = {"weight": layer.weight.data}
        _put(layer, {"weight": layer.weight.data.to(dtype)})

    _hook(layer, widen, _return)


class _Resident:
    """Which network lies on the device."""

    def __init__(self) -> None:
        self.network: nn.Module | None = None
        self.at_rest: list[tuple[nn.Module, dict[str, Tensor]]] = []


def _enter(resident: _Resident, network: nn.Module, device: torch.device, *_: Any) -> None:
    """Make a network the one on the device; the one before goes back."""
    if resident.network is network:
        return
    for layer, tensors in resident.at_rest:
        _put(layer, tensors)
    resident.at_rest = [(layer, _own(layer)) for layer in network.modules()]
    for layer, tensors in resident.at_rest:
        _put(layer, {name: x.to(device) for name, x in tensors.items()})
    resident.network = network
