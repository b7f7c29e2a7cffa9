"""Records: what goes in comes out, what does not fit raises and names the place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vivant import records


@dataclass(frozen=True)
class Inner:
    count: int
    share: float
    name: str = "x"


@dataclass
class Outer:
    flag: bool
    mode: Literal["a", "b"]
    sizes: tuple[int, ...]
    pair: tuple[int, float]
    inner: Inner
    maybe: Inner | None = None
    many: list[Inner] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)


@dataclass
class Live:
    position: Tensor
    history: tuple[Tensor, ...]
    generator: torch.Generator
    first: Tensor | None


inner = st.builds(Inner, st.integers(), st.floats(allow_nan=False), st.text())
outer = st.builds(
    Outer,
    st.booleans(),
    st.sampled_from(["a", "b"]),
    st.lists(st.integers()).map(tuple),
    st.tuples(st.integers(), st.floats(allow_nan=False)),
    inner,
    st.none() | inner,
    st.lists(inner),
    st.dictionaries(st.text(), st.floats(allow_nan=False)),
)


@given(outer)
def test_plain_records_survive_json(record: Outer) -> None:
    data = json.loads(json.dumps(records.to_data(record)))
    assert records.from_data(Outer, data) == record


def test_tensors_and_randomness_survive() -> None:
    generator = torch.Generator().manual_seed(5)
    torch.rand(7, generator=generator)
    live = Live(torch.rand(2, 3), (torch.arange(4), torch.zeros(0, 2)), generator, None)
    tensors: dict[str, Tensor] = {}
    data = json.loads(json.dumps(records.to_data(live, tensors, "live")))
    assert sorted(tensors) == ["live.generator", "live.history.0", "live.history.1", "live.position"]
    again = records.from_data(Live, data, tensors)
    assert torch.equal(again.position, live.position)
    assert torch.equal(again.history[0], live.history[0])
    assert again.first is None
    assert torch.equal(torch.rand(3, generator=again.generator), torch.rand(3, generator=generator))


def test_saved_tensors_are_copies() -> None:
    position = torch.zeros(2)
    tensors: dict[str, Tensor] = {}
    records.to_data(Live(position, (), torch.Generator(), position), tensors)
    position += 1
    assert tensors["position"].sum() == 0
    assert tensors["position"].data_ptr() != tensors["first"].data_ptr(), "safetensors refuses shared memory"


GOOD: dict[str, Any] = records.to_data(Outer(True, "a", (1, 2), (1, 2.0), Inner(1, 2.0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sauce": 1}, "unknown sauce"),
        ({"flag": 1}, "flag should be bool"),
        ({"flag": None}, "flag should be bool"),
        ({"mode": "c"}, "mode should be one of 'a', 'b'"),
        ({"sizes": [1, "2"]}, r"sizes\.1 should be int"),
        ({"sizes": 3}, "sizes should be a list"),
        ({"pair": [1]}, "pair should have 2 entries, got 1"),
        ({"inner": {"count": 1}}, "inner lacks name, share"),
        ({"inner": [1]}, "inner should be a table"),
        ({"inner": {"count": True, "share": 1.0, "name": "x"}}, r"inner\.count should be int"),
        ({"table": {"a": "b"}}, r"table\.a should be float"),
    ],
)
def test_what_does_not_fit_raises(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records.from_data(Outer, GOOD | change)


def test_a_missing_tensor_raises() -> None:
    tensors: dict[str, Tensor] = {}
    data = records.to_data(Live(torch.zeros(1), (), torch.Generator(), None), tensors)
    tensors.pop("position")
    with pytest.raises(ValueError, match="position should be a saved Tensor"):
        records.from_data(Live, data, tensors)


def test_what_cannot_be_saved_raises() -> None:
    with pytest.raises(ValueError, match="position holds a Tensor"):
        records.to_data(Live(torch.zeros(1), (), torch.Generator(), None))
    with pytest.raises(ValueError, match="cannot be saved"):
        records.to_data({"a": {1, 2}})
