"""The speed benchmark of refvae, as far as a CPU can run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

HOST = frozenset(
    (torch.tensor, torch.as_tensor, Tensor.new_tensor, Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.nonzero)
)
"""What makes a device wait for the host or the host for a device, which a CUDA graph cannot."""
CLOSE = 1e-5
"""float32, relative to the largest value."""


def test_a_cpu_draws_in_two_ways_and_they_agree(tmp_path: Path) -> None:
    import refvae_speed

    target = tmp_path / "speed.json"
    line = ["--size", "tiny", "--device", "cpu", "--cycles", "1", "--references", "2", "--json", str(target)]
    refvae_speed.main(line)
    report = json.loads(target.read_text())
    assert [row["way"] for row in report["rows"]] == ["engine", "plain", "tables"]
    for row in report["rows"][1:]:
        assert row["frames_per_s"] == pytest.approx(16_000 / row["block_ms"])
        assert row["latents_differ_by"] < CLOSE
        assert row["pictures_differ_by"] < CLOSE
    assert report["rows"][1]["latents_differ_by"] == 0


@pytest.mark.parametrize("line", [[], ["--device", "cpu", "--ways", "graphs"], ["--cycles", "0"]])
def test_what_cannot_be_run_is_said(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import refvae_speed

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        refvae_speed.main(line)
    assert end.value.code == 2


def test_graphs_are_replayed_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for capture: replaying does the device's work and none of Python's. Kernels need a GPU."""
    import refvae_speed
    import refvae_ways

    from vivant.engines.refvae import recordings
    from vivant.engines.refvae.config import tiny
    from vivant.engines.refvae.networks import Networks

    captured: list[Any] = []

    def recorded(call: Callable[[], None], undo: Callable[[], None], pool: Any = None) -> Callable[[], None]:
        for _ in range(4):  # three to warm up, one to capture
            call()
            undo()
        captured.append(pool)

        def replay() -> None:
            memory = stream.memory
            counters = memory.num_blocks, memory.num_drawn
            call()
            memory.num_blocks, memory.num_drawn = counters

        return replay

    monkeypatch.setattr(refvae_ways, "recorded", recorded)
    monkeypatch.setattr(recordings, "recorded", recorded)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    torch.manual_seed(0)
    networks = Networks(tiny()).eval().requires_grad_(False)
    for parameter in networks.generator.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    bench = refvae_speed.Bench(tiny(), networks, torch.device("cpu"), 1, 1)
    with torch.no_grad():
        wanted = refvae_speed.drawn(bench, refvae_ways.Tables(bench.stream()))
        stream = bench.stream()
        got = refvae_speed.drawn(bench, refvae_ways.Graphs(stream))
    for made, plain in zip(got, wanted, strict=True):
        assert refvae_speed.difference(made, plain) < CLOSE
    # Of three blocks a window holds, drawn behind none, one and two others; then one for decoding.
    assert sorted(captured, key=str) == [None, "pool", "pool", "pool"]


class _Asked(TorchFunctionMode):
    """Which of them were called."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: set[Any] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in HOST:
            self.functions.add(func)
        return func(*args, **(kwargs or {}))


def test_what_is_captured_leaves_the_host_alone() -> None:
    from refvae_parts import new_stream

    from vivant.engines.refvae.config import tiny
    from vivant.engines.refvae.drawing import conditions_of, remember_block, walk_down
    from vivant.engines.refvae.networks import Networks

    with torch.device("meta"):
        networks = Networks(tiny()).eval().requires_grad_(False)
    with torch.no_grad():
        stream = new_stream(networks, tiny(), 1, (1.0, 0.0))
        stream.decode(stream.noise)
        with _Asked() as asked:
            conditions = conditions_of(stream.walk, stream.memory, stream.sound, stream.guidance)
        assert asked.functions == {Tensor.new_tensor}, "weights come from the host, before the graph"
        with _Asked() as asked:
            for _ in range(tiny().generator.window_blocks):
                latents = walk_down(stream.walk, stream.memory, stream.noise, conditions)
                remember_block(stream.walk, stream.memory, latents)
                stream.decode(latents)
        assert not asked.functions


def test_a_decoder_compiles_whole_with_its_past() -> None:
    """As one graph that writes what each convolution saw last, without kernels: those need a compiler, or a GPU."""
    from refvae_parts import new_stream

    from vivant.engines.refvae.config import tiny
    from vivant.engines.refvae.networks import Networks

    torch.manual_seed(0)
    networks = Networks(tiny()).eval().requires_grad_(False)
    latents = torch.randn(3, 1, 4, 64, 1, 1)
    videos = []
    for is_compiled in (False, True):
        torch.manual_seed(1)
        stream = new_stream(networks, tiny(), 1, (1.0, 0.0))
        stream.decode(latents[0])
        if is_compiled:
            stream.decode_network = torch.compile(
                networks.decode, dynamic=False, fullgraph=True, backend="aot_eager"
            )
        with torch.no_grad():
            videos.append([stream.decode(block).clone() for block in latents])
    for plain, compiled in zip(*videos, strict=True):
        assert (plain - compiled).abs().max() < CLOSE
