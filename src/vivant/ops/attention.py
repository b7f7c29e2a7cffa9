"""Attention, the way that is fastest where it is computed.

Letters: N items, H heads, Q queries, L keys, P channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW_KEYS = 32
"""So few are compared faster by plain products: a CPU's kernel works through blocks of keys."""
FULL_HEAD = 16
"""Heads narrower than this are widened by zeros: the kernel computes with as many channels at a time."""


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As F.scaled_dot_product_attention, without a mask: (N, H, Q, P), (N, H, L, P) twice -> (N, H, Q, P).

    On a CPU, where nothing has a gradient or is exported, small ones take another way: 1.3 to 1.8 times as fast, the
    same but for rounding.
    """
    if queries.device.type != "cpu" or torch.is_grad_enabled() or torch._C._get_tracing_state() is not None:
        return F.scaled_dot_product_attention(queries, keys, values)
    channels = queries.shape[-1]
    if keys.shape[-2] <= FEW_KEYS:
        return ((queries * channels**-0.5) @ keys.transpose(-2, -1)).softmax(-1) @ values
    missing = FULL_HEAD - channels
    if missing <= 0:
        return F.scaled_dot_product_attention(queries, keys, values)
    queries, keys, values = (F.pad(x, (0, missing)) for x in (queries, keys, values))
    return F.scaled_dot_product_attention(queries, keys, values, scale=channels**-0.5)[..., :channels]
