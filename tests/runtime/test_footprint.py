"""Memory that is counted beforehand is memory that is allocated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vivant import checkpoint, plan
from vivant.engines.flashportrait.config import Config, Options, small, tiny
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.rehearsal import rehearse
from vivant.engines.personalive.config import Options as LiveOptions
from vivant.engines.personalive.config import tiny as tiny_live
from vivant.engines.personalive.engine import PersonaLive
from vivant.engines.personalive.rehearsal import rehearse as rehearse_live
from vivant.errors import InputError
from vivant.runtime import footprint
from vivant.runtime.footprint import count_modes, peak_bytes

MB = 1_000_000


def allocated_bytes(work: Callable[[], Any]) -> int:
    """The real peak, by what torch's allocator says to its profiler."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as prof:
        kept = work()
    del kept
    assert prof.profiler is not None
    assert prof.profiler.kineto_results is not None
    events = [event for event in prof.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_what_lives_at_the_same_time_is_counted_once() -> None:
    weight = torch.ones(1000, 1000)

    def work() -> torch.Tensor:
        first = weight.T[:500] * 2  # 2 MB; a view of the weight is nothing new
        second = first.reshape(-1).view(1000, 500) + 1  # 2 MB
        del first
        third = second.T  # nothing
        return torch.cat([third, third])  # 4 MB

    assert peak_bytes(work) == 6 * MB
    assert abs(allocated_bytes(work) - 6 * MB) < 0.1 * MB
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert peak_bytes(work) == 6 * MB


def larger() -> Config:
    """Pictures of 64 px and one block more than is rehearsed."""
    return replace(small(), image_size=64, transformer=replace(small().transformer, num_layers=3))


def test_counted_as_allocated() -> None:
    """A denoising step. Decoding is a lower bound: on a CPU, 3-D convolutions allocate what nobody sees."""
    networks = FlashPortrait.build_networks(larger()).eval().requires_grad_(False)
    with torch.no_grad():
        real = {part.name: part.work for part in rehearse(networks, larger(), Options()).parts}
        with FakeTensorMode(allow_non_fake_inputs=True):
            rehearsed = rehearse(networks, larger(), Options()).parts
            counted = {part.name: peak_bytes(part.work) for part in rehearsed}
        truth = {name: allocated_bytes(real[name]) for name in ("denoising", "decoding")}
    assert truth["denoising"] > 3 * MB
    assert counted["denoising"] == pytest.approx(truth["denoising"], rel=0.1)
    assert 3 * MB < counted["decoding"] < truth["decoding"]


def test_tiles_need_less() -> None:
    config = larger()
    networks = FlashPortrait.build_networks(config).requires_grad_(False)
    peaks = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        for options in (Options(), Options(tile_px=32)):
            rehearsal = rehearse(networks, config, options)
            peaks.append(rehearsal.standing_bytes + peak_bytes(rehearsal.parts[-1].work))
    assert peaks[1] < 0.5 * peaks[0]


def modes(config: Config, options: Options) -> dict[str, int]:
    counted = count_modes(
        lambda: FlashPortrait.build_networks(config),
        lambda networks: rehearse(networks, config, options),
        torch.bfloat16,
    )
    return {name: found.device_bytes for name, found in counted.items()}


def test_smaller_ways_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "SMALLEST_BYTES", 1 << 14)
    whole = modes(larger(), Options())
    assert whole["full"] > whole["fp8"] > whole["sequential"]
    assert whole["full"] > whole["model"] > whole["sequential"]
    predicted = modes(larger(), Options(prediction="taylor", prediction_order=1))
    hidden = 2 * 9 * 4 * 4 * 192 * 2
    assert predicted["full"] - whole["full"] >= 2 * hidden, "the features of two steps stay"


def test_weights_of_every_network_are_counted() -> None:
    config = tiny_live()
    counted = count_modes(
        lambda: PersonaLive.build_networks(config),
        lambda networks: rehearse_live(networks, config, LiveOptions()),
        torch.float32,
    )
    networks: nn.Module = PersonaLive.build_networks(config)
    weights = sum(x.nbytes for x in networks.state_dict().values())
    assert counted["model"].main_bytes >= weights
    assert counted["full"].device_bytes > weights


@pytest.mark.slow
def test_the_published_size() -> None:
    """17.2 G parameters in bfloat16 and one step of 81 frames at 512 px."""
    counted = plan.count_memory("flashportrait", lambda kind: kind())
    full, sequential = counted["full"], counted["sequential"]
    assert 34.5e9 < full.device_bytes - 8e9 < 45e9
    assert full.device_bytes - counted["fp8"].device_bytes == pytest.approx(17e9, rel=0.05)
    assert sequential.device_bytes < 12e9
    assert full.part == "denoising"
    assert counted["model"].main_bytes == pytest.approx(38.3e9, rel=0.01)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vivant.cli import main

    checkpoint.save(tmp_path, "flashportrait", tiny(), FlashPortrait.build_networks(tiny()))
    line = ["plan", "-s", "a.png", "-d", "b.mp4", "--preset", str(tmp_path), "--count-memory"]
    assert main([*line, "--json", "--dtype", "float32"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["full", "fp8", "model", "sequential"]
    assert said["full"]["device_bytes"] > said["full"]["main_bytes"] == 0
    assert main([*line, "--tile-px", "16"]) == 0
    assert "--memory sequential" in capsys.readouterr().out
    with pytest.raises(InputError, match="liveportrait is not counted"):
        plan.count_memory("liveportrait-mini", lambda kind: kind())
