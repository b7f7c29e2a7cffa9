"""Places, in float32 whatever their caller computes in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Compute = TypeVar("Compute", bound=Callable[..., Any])
_HALVES = (torch.bfloat16, torch.float16)


def exactly(compute: Compute) -> Compute:
    """A function that autocast does not reach, and whose tensors of 16 bits are widened.

    For points, angles and grids: a coordinate near 1 moves by a pixel of 512 in bfloat16, and autocast multiplies in it
    without a word, also where everything that is given is float32.
    """

    @wraps(compute)
    def call(*given: Any, **named: Any) -> Any:
        kind = "cuda" if torch.is_autocast_enabled("cuda") else "cpu"
        if not torch.is_autocast_enabled(kind):
            return compute(*given, **named)
        with torch.autocast(kind, enabled=False):
            wide = [one.float() if isinstance(one, Tensor) and one.dtype in _HALVES else one for one in given]
            return compute(*wide, **named)

    return cast("Compute", call)
