"""Drawing with recordings: the engine's bookkeeping, with a stand-in for CUDA's part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vivant
from vivant import checkpoint
from vivant.engines.refvae import recordings
from vivant.engines.refvae.config import Options, tiny
from vivant.engines.refvae.drawing import Memory
from vivant.engines.refvae.engine import RefVae
from vivant.errors import InputError
from vivant.runtime import graphs

Work = Callable[[], object]


def engine() -> RefVae:
    torch.manual_seed(0)
    networks = RefVae.build_networks(tiny())
    for parameter in networks.generator.parameters():  # type: ignore[union-attr, operator]
        torch.nn.init.normal_(parameter, std=0.05)
    return RefVae(tiny(), networks)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """What was recorded; playing it leaves Python's counters alone, as a graph does."""
    made: list[Work] = []

    def stand_in(work: Work, undo: Work, pool: Any) -> Work:
        for _ in range(1 + graphs.WARM_UPS):
            work()
            undo()
        made.append(work)
        held = [cell.cell_contents for cell in work.__closure__ or ()]  # type: ignore[attr-defined]

        def play() -> None:
            memories = [value for value in held if isinstance(value, Memory)]
            before = [(memory.num_blocks, memory.num_drawn) for memory in memories]
            work()
            for memory, (num_blocks, num_drawn) in zip(memories, before, strict=True):
                memory.num_blocks, memory.num_drawn = num_blocks, num_drawn

        return play

    monkeypatch.setattr(recordings, "recorded", stand_in)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return made


def spoken(engine: RefVae, changes: dict[int, Options]) -> torch.Tensor:
    """Seven blocks of one stream, whose options change before some of them."""
    generator = torch.Generator().manual_seed(1)
    portrait = engine.prepare(torch.rand(3, 64, 64, generator=generator), face=None)
    state, frames = engine.start(portrait, Options(num_steps=2)), []
    for block in range(7):
        state.options = changes.get(block, state.options)
        sound = torch.rand(16 * engine.stream.samples_per_frame, generator=generator) - 0.5
        frames.append(engine.step(state, sound))
    return torch.cat(frames)


def test_a_recorded_stream_is_the_same(recorded: list[Work]) -> None:
    """With options that change what is played: weights only, then branches, then steps."""
    first = Options(num_steps=2)
    louder = replace(first, audio_guidance=3.0)
    changes = {
        3: louder,
        4: replace(louder, reference_guidance=1.0),
        6: replace(first, num_steps=3),
    }
    drawn = engine()
    plain = spoken(drawn, changes)
    assert not recorded
    drawn.record()
    torch.testing.assert_close(spoken(drawn, changes), plain, atol=1e-5, rtol=0)
    # A window holds three blocks: drawn behind none, one, two, then behind one and two over and over.
    # All blocks but the first are decoded by one.
    assert len(recorded) == 3 + 2 + 1 + 1


def test_graphs_need_a_gpu_and_the_family_that_has_them(tmp_path: Path) -> None:
    made = engine()
    checkpoint.save(tmp_path, "refvae", made.config, made.networks)
    with pytest.raises(
        InputError,
        match="is for liveportrait, personalive and refvae on a CUDA device that holds all, not for refvae on cpu",
    ):
        vivant.load(tmp_path, device="cpu", runtime="graphs")
