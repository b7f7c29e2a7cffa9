"""Numbers that are always the same, kept on the device that needs them.

`torch.tensor(..., device="cuda")` waits until the device has done all that it was given before; once is enough.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nested tuples as a tensor that is made once. Never write to it."""
    # Fake tensors, with which memory and work are counted, and real ones must not meet.
    if is_in_torch_dispatch_mode():
        return torch.tensor(values, device=device, dtype=dtype)
    return _kept(values, device, dtype)


@lru_cache(256)
def _kept(values: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # else it could never be learned with
        return torch.tensor(values, device=device, dtype=dtype)
