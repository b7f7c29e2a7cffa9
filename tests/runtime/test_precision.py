"""Choosing devices and precisions, placing networks, and never changing precision in silence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vivant.errors import InputError
from vivant.runtime import precision

CPU = torch.device("cpu")


class KeptWide(nn.Module):
    keep_float32 = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3))


def test_place_narrows_convolutions_only() -> None:
    networks = nn.ModuleDict(
        {
            "flat": nn.Conv2d(3, 4, 3),
            "volume": nn.Conv3d(3, 4, 3),
            "up": nn.ConvTranspose3d(3, 4, 3),
            "line": nn.Conv1d(3, 4, 1),
            "linear": nn.Linear(3, 4),
            "norm": nn.BatchNorm2d(4),
            "kept": KeptWide(),
        }
    )
    precision.place(networks, CPU, torch.bfloat16)
    narrow = {name for name, parameter in networks.named_parameters() if parameter.dtype == torch.bfloat16}
    assert narrow == {
        f"{name}.{kind}" for name in ("flat", "volume", "up", "line") for kind in ("weight", "bias")
    }
    flat, volume = networks["flat"], networks["volume"]
    assert isinstance(flat, nn.Conv2d)
    assert isinstance(volume, nn.Conv3d)
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert volume.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_choices() -> None:
    assert precision.choose_device("cpu") == CPU
    assert precision.choose_dtype("float32", CPU) == torch.float32
    assert precision.choose_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(InputError, match="not a device"):
        precision.choose_device("toaster")
    for absent in ("meta", "mps" if not torch.backends.mps.is_available() else "cuda:99"):
        with pytest.raises(InputError, match="on this machine"):
            precision.choose_device(absent)
    with pytest.raises(InputError, match="not a precision"):
        precision.choose_dtype("int3", CPU)
    with pytest.raises(InputError, match="slower than float32"):
        precision.choose_dtype("float16", CPU)
