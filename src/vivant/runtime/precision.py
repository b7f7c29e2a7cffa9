"""Device and precision: choosing them, placing networks, and the context that networks are called in.

Half precision means: convolution weights are stored in it, and everything else runs under autocast. Whatever
decides where to sample (keypoints, grids, flows) stays in float32 inside the networks, because a coordinate
near 1 moves by a whole pixel in bfloat16.
"""

from __future__ import annotations

import torch
from torch import nn

from vivant.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_LAYOUTS = {3: torch.contiguous_format, 4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory layout of convolution weights by their number of dimensions."""


def choose_device(name: str = "auto") -> torch.device:
    """A torch device by name; "auto" is CUDA where there is one, else the CPU.

    Raises InputError for a device that is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name!r} is not a device; try auto, cpu or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"{name} was asked for, but torch {torch.__version__} sees no CUDA device; try cpu")
    try:
        torch.empty(0, device=device)
        is_here = device.type != "meta"
    except (RuntimeError, AssertionError, ImportError):
        is_here = False
    if not is_here:
        raise InputError(
            f"{name} is not on this machine, or torch {torch.__version__} cannot use it; try auto or cpu"
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """A torch dtype by name; "auto" is bfloat16 where the device multiplies in it, else float32.

    Never float16 unasked: it overflows to black pictures on some cards.
    """
    if name == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise InputError(f"{name!r} is not a precision; there are auto, {', '.join(DTYPES)}")
    if name == "float16" and device.type == "cpu":
        raise InputError("float16 is slower than float32 on a CPU; take bfloat16 or float32")
    return DTYPES[name]


def place(networks: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move networks to the device, channels last, convolution weights in `dtype`. Changes them in place.

    A module whose `keep_float32` is true stays float32, with everything below it. Below one whose `narrow_linear` is
    true, linear layers are stored in `dtype` too: right where they hold gigabytes.
    """
    networks.to(device=device)
    _narrow(networks, dtype, linear=False)
    return networks


def _narrow(module: nn.Module, dtype: torch.dtype, *, linear: bool) -> None:
    if getattr(module, "keep_float32", False):
        dtype = torch.float32
    linear = linear or getattr(module, "narrow_linear", False)
    if linear and isinstance(module, nn.Linear):
        module.to(dtype=dtype)
    if isinstance(module, nn.modules.conv._ConvNd):
        module.to(dtype=dtype)
        weight = module.weight.data
        module.weight.data = weight.contiguous(memory_format=_LAYOUTS[weight.dim()])
    for child in module.children():
        _narrow(child, dtype, linear=linear)


def computing(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context that placed networks are called in; does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        asked = getattr(torch.cpu, "get_capabilities", None)  # not in every torch that we accept
        capabilities = asked() if asked is not None else {}
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False
