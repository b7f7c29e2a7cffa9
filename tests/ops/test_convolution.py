"""The same as torch's, whatever way is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vivant.ops.convolution import conv3d


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (1, 3, 3), (1, 1, 1), (1, 2, 4)])
@pytest.mark.parametrize("shape", [(1, 4, 5, 10, 8), (1, 4, 5, 9, 8), (1, 4, 5, 11, 9), (2, 4, 5, 10, 8)])
def test_equals_torchs(shape: tuple[int, ...], kernel: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, requires_grad=True)
    weight = torch.randn((6, 4, *kernel), generator=generator)
    bias = torch.randn(6, generator=generator)
    ours, expected = conv3d(x, weight, bias), F.conv3d(x, weight, bias)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in (ours, expected)]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


def test_one_small_clip_goes_in_as_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else does: larger ones, several, other precisions."""
    seen: list[int] = []

    plain = torch.conv3d

    def counted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        seen.append(len(x))
        return plain(x, weight, bias)

    monkeypatch.setattr(F, "conv3d", counted)
    weight = torch.randn(4, 4, 3, 3, 3)
    small = torch.randn(1, 4, 3, 10, 10)
    conv3d(small, weight, None)
    conv3d(small.double(), weight.double(), None)
    conv3d(small.repeat(3, 1, 1, 1, 1), weight, None)
    conv3d(torch.randn(1, 64, 3, 130, 3), torch.randn(4, 64, 3, 3, 3), None)
    assert seen == [2, 1, 3, 1]
