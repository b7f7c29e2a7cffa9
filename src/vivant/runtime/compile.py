"""torch.compile from outside. Networks do not know about it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def compile_methods(networks: nn.Module, names: Iterable[str]) -> None:
    """Replace methods by compiled ones with the same signature, before an engine takes the networks.

    Compiling happens on the first call and for fixed shapes; a failure to compile raises.
    """
    for name in names:
        setattr(networks, name, torch.compile(getattr(networks, name), dynamic=False))
