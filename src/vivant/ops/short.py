"""Products of float32 that are computed with fewer digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_lock = Lock()
_inside, _before = 0, "highest"


@contextmanager
def short_products(device: torch.device) -> Iterator[None]:
    """Where someone computes in 16 bits on CUDA, what stays float32 is multiplied in TF32 in this context.

    torch's convolutions of float32 are so already, its products are not, and do without tensor cores then. The setting
    is the process's: the last thread to leave puts it back.
    """
    global _inside, _before
    if device.type != "cuda" or not torch.is_autocast_enabled(device.type):
        yield
        return
    with _lock:
        if _inside == 0:
            _before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.set_float32_matmul_precision(_before)
