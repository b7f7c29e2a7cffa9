"""Small attention on a CPU takes other ways to the same result."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vivant.ops.attention import attention


@pytest.mark.parametrize(
    "shape", [(3, 2, 40, 24, 14), (3, 2, 40, 80, 10), (2, 2, 9, 40, 40), (64, 2, 16, 16, 14)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_is_the_librarys(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    items, heads, num_queries, num_keys, channels = shape
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (
        torch.randn(items, count, heads, channels, generator=generator, dtype=dtype).transpose(1, 2)
        for count in (num_queries, num_keys, num_keys)
    )
    with torch.no_grad():
        got = attention(queries, keys, values)
    wanted = F.scaled_dot_product_attention(queries.float(), keys.float(), values.float())
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(got.float(), wanted, atol=tolerance, rtol=tolerance)
