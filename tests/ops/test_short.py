"""When products are shorter, and that it ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from vivant.ops.short import short_products


def test_only_where_16_bits_are_asked_for_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("cpu", "cuda"):
        with short_products(torch.device(device)):
            assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)

    def failing() -> None:
        with short_products(torch.device("cuda")):
            assert torch.get_float32_matmul_precision() == "high"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert torch.get_float32_matmul_precision() == "highest"


def test_threads_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)
    inside, one_left = Barrier(2, timeout=20), Barrier(2, timeout=20)

    def compute(number: int) -> str:
        with short_products(torch.device("cuda")):
            inside.wait()
            if number:
                one_left.wait()
            seen = torch.get_float32_matmul_precision()
        if not number:
            one_left.wait()
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(compute, range(2))) == ["high", "high"]
    assert torch.get_float32_matmul_precision() == "highest"
