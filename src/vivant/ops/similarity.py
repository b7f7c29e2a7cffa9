"""Similarities of the plane as matrices (..., 2, 3), for many at once: scale, turn and shift.

Letters: N of them, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vivant.ops.exact import exactly


@exactly
def similarities(points: Tensor, targets: Tensor) -> Tensor:
    """Points (N, P, 2) to targets (N or 1, P, 2) as near as can be: (N, 2, 3).

    As complex numbers least squares is a division: vivant.face.align.similarity for many at once.
    """
    middle, aim = points.mean(-2, keepdim=True), targets.mean(-2, keepdim=True)
    centred, aimed = points - middle, targets - aim
    spread = centred.square().sum((-2, -1))
    real = (centred * aimed).sum((-2, -1)) / spread
    imaginary = (centred[..., 0] * aimed[..., 1] - centred[..., 1] * aimed[..., 0]).sum(-1) / spread
    turned = torch.stack([real, -imaginary, imaginary, real], -1).unflatten(-1, (2, 2))
    shift = aim - middle @ turned.mT
    return torch.cat([turned, shift.mT], -1)


@exactly
def through(matrices: Tensor, points: Tensor) -> Tensor:
    """Points (..., P, 2) through matrices (..., 2, 3)."""
    return points @ matrices[..., :2].transpose(-1, -2) + matrices[..., 2].unsqueeze(-2)


@exactly
def inverse(matrices: Tensor) -> Tensor:
    """What undoes them."""
    turned = matrices[..., :2].mT / size(matrices).square()[..., None, None]
    return torch.cat([turned, -turned @ matrices[..., 2:]], -1)


def size(matrices: Tensor) -> Tensor:
    """By what they scale, (...)."""
    return matrices[..., 0, :2].norm(dim=-1)


@exactly
def after(second: Tensor, first: Tensor) -> Tensor:
    """The first, then the second."""
    turned = second[..., :2] @ first[..., :2]
    return torch.cat([turned, second[..., :2] @ first[..., 2:] + second[..., 2:]], -1)
