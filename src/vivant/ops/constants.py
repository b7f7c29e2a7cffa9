"""Numbers that are always the same, kept on the device that needs them.

`torch.tensor(..., device="cuda")` waits until the device has done all that it was given before; once is enough.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(256)
def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nested tuples as a tensor that is made once. Never write to it."""
    return torch.tensor(values, device=device, dtype=dtype)
