"""Weights for parity tests, made from key names alone, so that no checkpoint is needed.

Both sides of a comparison fill every tensor by the same rule; each value is a pure function of (key, shape, gain),
never of order, device, torch version or global randomness. Random numbers come from NumPy's frozen legacy stream
seeded with the CRC-32 of the key, so they are bit-identical everywhere. `noise` is uniform with mean 0, variance 1.

Rules, first match wins (`leaf` is the last part of the key):
    num_batches_tracked                              0
    integer dtype or leaf position_ids               0, 1, 2, ... along the last dimension
    bool dtype                                       True
    leaf running_mean                                0.1 noise
    leaf running_var                                 1 + 0.1 uniform
    X_u, X_v beside X_orig (spectral norm)           singular vectors of X_orig, 25 power iterations
    leaf bias, beta, b, shift or ..._bias            0.1 noise
    leaf gamma, g, alpha, ... or 1-D ...weight       1 + 0.1 noise
    other tensors of 2 dimensions or more            gain noise / sqrt(fan in)
    anything else                                    0.1 noise
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_BIASES = {"bias", "beta", "b", "shift"}
_GAINS = {"gamma", "g", "weight_g", "alpha", "scale", "original0", "layer_scale"}
_MATRICES = ("weight", "weight_orig", "weight_v", "original", "original1", "kernel")


def uniform(key: str, shape: Sequence[int]) -> np.ndarray:
    """float64, uniform on [0, 1)."""
    return np.random.RandomState(zlib.crc32(key.encode())).random_sample(tuple(shape))


def noise(key: str, shape: Sequence[int]) -> np.ndarray:
    """float64, mean 0, variance 1."""
    return (uniform(key, shape) * 2.0 - 1.0) * math.sqrt(3.0)


def seeded_input(name: str, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
    """A float32 input, uniform on [low, high)."""
    values = uniform("input:" + name, shape) * (high - low) + low
    return torch.from_numpy(values.astype(np.float32))


def seeded_tensor(
    key: str, shape: Sequence[int], dtype: torch.dtype = torch.float32, gain: float = 1.0
) -> Tensor:
    """The tensor of one key, spectral-norm vectors excepted."""
    shape = tuple(shape)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if leaf.endswith("position_ids") or dtype in (torch.int64, torch.int32, torch.uint8):
        return torch.arange(shape[-1] if shape else 1, dtype=dtype).expand(shape).clone()
    if dtype == torch.bool:
        return torch.ones(shape, dtype=torch.bool)
    if leaf == "running_mean":
        values = 0.1 * noise(key, shape)
    elif leaf == "running_var":
        values = 1.0 + 0.1 * uniform(key, shape)
    elif leaf in _BIASES or leaf.endswith("_bias"):
        values = 0.1 * noise(key, shape)
    elif leaf in _GAINS or (leaf.endswith("weight") and len(shape) <= 1):
        values = 1.0 + 0.1 * noise(key, shape)
    elif len(shape) >= 2 and (leaf.endswith(_MATRICES) or shape[0] > 1):
        values = gain * noise(key, shape) / math.sqrt(max(1, math.prod(shape[1:])))
    else:
        values = 0.1 * noise(key, shape)
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(shape)


def seeded_state_dict(keys: Mapping[str, Tensor], gain: float = 1.0) -> dict[str, Tensor]:
    """Values for every key of `keys` (name -> a tensor of that shape and dtype, on any device)."""
    out: dict[str, Tensor] = {}
    for key, like in keys.items():
        base = key[:-2] + "_orig"
        if key.endswith(("_u", "_v")) and base in keys:
            weight = seeded_tensor(base, keys[base].shape, gain=gain).numpy()
            u, v = _singular_vectors(base, weight)
            out[key] = torch.from_numpy((u if key.endswith("_u") else v).astype(np.float32)).reshape(
                like.shape
            )
        else:
            out[key] = seeded_tensor(key, like.shape, like.dtype, gain)
    return out


def _singular_vectors(base: str, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    v = noise(base + "#v", (matrix.shape[1],))
    for _ in range(25):
        u = matrix @ v
        u /= np.linalg.norm(u) + 1e-12
        v = matrix.T @ u
        v /= np.linalg.norm(v) + 1e-12
    return u, v


def digest(state: Mapping[str, Tensor]) -> str:
    """Fingerprint that does not depend on order (spectral vectors rounded to 1e-4)."""
    total = 0
    for key in sorted(state):
        values = state[key].detach().cpu().numpy()
        if key.endswith(("_u", "_v")):
            values = np.round(values.astype(np.float64) * 1e4).astype(np.int32)
        total = (total + zlib.crc32(values.tobytes(), zlib.crc32(key.encode()))) & 0xFFFFFFFF
    return f"{total:08x}"
