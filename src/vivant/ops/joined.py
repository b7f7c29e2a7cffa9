"""Several linear layers of one input as one product, so that the input is read once: on CUDA, at inference."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from vivant.ops.fused import usable

_joined: Any = WeakTensorKeyDictionary()


def together(x: Tensor, *layers: nn.Linear) -> list[Tensor]:
    """layer(x) of each, (..., I) -> (..., O) each; none has a bias. They may be slices of longer rows."""
    if not usable(x, *layers) or len({layer.weight.dtype for layer in layers}) > 1:
        return [layer(x) for layer in layers]
    assert all(layer.bias is None for layer in layers)
    whole = F.linear(x, _beneath_each_other([layer.weight for layer in layers]))
    return list(whole.split([layer.out_features for layer in layers], -1))


def _beneath_each_other(weights: list[Tensor]) -> Tensor:
    """(O, I) each -> (sum of O, I); kept as long as the weights are what they were."""
    now = [(weight._version, weight.data_ptr()) for weight in weights]
    before, kept = _joined.get(weights[0], (None, None))
    if kept is None or before != now:
        kept = torch.cat([weight.detach() for weight in weights])
        _joined[weights[0]] = (now, kept)
    return kept
