"""Who looks at what while a whole window is learned at once (teacher forcing; arXiv 2606.01620, Algorithm 1).

Legend: B batch, N tokens, C channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class TeacherForcing:
    """Attention over [references, context, noisy].

    References see references; context sees references and context up to its own block; noisy tokens see references,
    context before their block, and their own block. Block by block, so nothing that a mask would hide is computed: with
    four blocks a third of the products.
    """

    num_references: int
    """Tokens."""
    block: int
    """Tokens of a block."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, heads, N, C) each -> the same."""
        count = self.num_references + (query.shape[2] - self.num_references) // 2
        known = self.known(*(x[:, :, :count] for x in (query, key, value)))
        return torch.cat([known, self.noisy(query[:, :, count:], key, value)], 2)

    def known(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The same for references and context, which do not see what is noisy."""
        first = self.num_references
        seen = [_attention(*(x[:, :, :first] for x in (query, key, value)))]
        for start in range(first, query.shape[2], self.block):
            past = [x[:, :, : start + self.block] for x in (key, value)]
            seen.append(_attention(query[:, :, start : start + self.block], *past))
        return torch.cat(seen, 2)

    def noisy(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries of noisy tokens alone (B, heads, n, C), keys and values of all tokens."""
        count, seen = query.shape[2], []
        for start in range(0, count, self.block):
            own = slice(self.num_references + count + start, self.num_references + count + start + self.block)
            past = self.num_references + start
            parts = [torch.cat([x[:, :, :past], x[:, :, own]], 2) for x in (key, value)]
            seen.append(_attention(query[:, :, start : start + self.block], *parts))
        return torch.cat(seen, 2)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As F.scaled_dot_product_attention, whose gradients take a CPU 2.7 times as long in bfloat16."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    return torch.softmax(scores, -1) @ value
