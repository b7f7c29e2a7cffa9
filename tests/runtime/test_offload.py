"""Ways to keep weights: what is computed stays the same, what lies on the device is what was promised.

There is no second device here, so "on the device" is a copy: `.to` is watched instead.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vivant.engines.personalive.config import tiny as tiny_personalive
from vivant.engines.personalive.engine import PersonaLive
from vivant.errors import InputError
from vivant.runtime.offload import FP8, Memory, choose_memory, rest

CPU = torch.device("cpu")


class Part(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width))
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def work(self, x: Tensor) -> Tensor:
        """Not `forward`: hooks on the network itself would not see it."""
        return self.second(torch.tanh(self.first(x))) * self.scale


class Large(Part):
    narrow_linear = True


class Networks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = Part(16), Large(16)
        self.large.second.keep_float32 = True
        self.register_buffer("words", torch.rand(16))

    def work(self, x: Tensor) -> Tensor:
        return self.large.work(self.small.work(x)) + self.small.work(x) + self.words


@pytest.fixture
def networks() -> Networks:
    torch.manual_seed(0)
    return Networks().requires_grad_(False)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of tensors as they go to the device, in order."""
    calls: list[str] = []
    plain = Tensor.to

    def to(self: Tensor, *arguments, **named):  # type: ignore[no-untyped-def]
        out = plain(self, *arguments, **named)
        if arguments == (CPU,):
            calls.append("x".join(map(str, self.shape)))
            out = out.clone()
        return out

    monkeypatch.setattr(Tensor, "to", to)
    return calls


@pytest.mark.parametrize("memory", ["full", "model", "sequential"])
def test_what_is_computed_stays_the_same(networks: Networks, memory: Memory) -> None:
    x = torch.rand(3, 16)
    expected = networks.work(x)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    rest(networks, memory, CPU, smallest_bytes=256)
    for _ in range(2):
        assert torch.equal(networks.work(x), expected)
    after = networks.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_sequential_holds_one_layer(networks: Networks, fetched: list[str]) -> None:
    rest(networks, "sequential", CPU, smallest_bytes=256)
    home = [
        layer.weight.data_ptr()
        for part in (networks.small, networks.large)
        for layer in (part.first, part.second)
    ]
    del fetched[:]
    networks.work(torch.rand(1, 16))
    assert fetched.count("16x16") == 6, "each layer is fetched each time it is used"
    assert home == [
        layer.weight.data_ptr()
        for part in (networks.small, networks.large)
        for layer in (part.first, part.second)
    ], "and is back at rest afterwards"


def test_sequential_goes_back_after_an_error(networks: Networks) -> None:
    rest(networks, "sequential", CPU, smallest_bytes=256)
    with pytest.raises(RuntimeError):
        networks.work(torch.rand(1, 7))
    assert not hasattr(networks.small.first, "at_rest")


def test_model_holds_one_network(networks: Networks, fetched: list[str]) -> None:
    rest(networks, "model", CPU, smallest_bytes=256)
    del fetched[:]
    networks.small.work(torch.rand(1, 16))
    networks.small.work(torch.rand(1, 16))
    assert fetched.count("16x16") == 2, "a network that is there is not fetched again"
    networks.work(torch.rand(1, 16))
    assert fetched.count("16x16") == 2 + 2 + 2, "the other one, and the first once more"


def test_fp8_rests_narrow_and_works_wide(networks: Networks) -> None:
    x = torch.rand(3, 16)
    expected = networks.work(x)
    rest(networks, "fp8", CPU, smallest_bytes=256)
    kinds = {
        name: value.dtype for name, value in networks.state_dict().items() if value.dtype != torch.float32
    }
    assert kinds == {"large.first.weight": FP8}, (
        "only matrices of the large network, and none that is kept precise"
    )
    ours = networks.work(x)
    assert ours.dtype == torch.float32
    assert 0 < float((ours - expected).abs().max()) < 0.1
    assert torch.equal(networks.work(x), ours)


def test_a_personalive_that_rests_in_8_bits_draws_on_a_cpu() -> None:
    torch.manual_seed(0)
    engine = PersonaLive(tiny_personalive(), PersonaLive.build_networks(tiny_personalive()))
    rest(engine.networks, "fp8", CPU, smallest_bytes=256)
    assert any(value.dtype == FP8 for value in engine.networks.state_dict().values())
    state = engine.start(engine.prepare(torch.rand(3, 64, 64), face=None))
    frames = engine.step(state, torch.rand(engine.config.chunk_frames, 3, 64, 64))
    assert torch.isfinite(torch.cat([frames, engine.flush(state)])).all()


def test_names() -> None:
    assert choose_memory("model") == "model"
    with pytest.raises(InputError, match="there are full, fp8, model, sequential"):
        choose_memory("all")
