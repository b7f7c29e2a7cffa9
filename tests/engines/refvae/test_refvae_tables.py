"""What an engine computes once for all streams: how times change tokens."""

from __future__ import annotations

from dataclasses import replace

import torch

from vivant.engines.refvae.config import CHUNK_FRAMES, Options, tiny
from vivant.engines.refvae.engine import WALKS_KEPT, RefVae
from vivant.engines.refvae.networks import Networks
from vivant.runtime import precision


def made_engine(dtype: torch.dtype, *, narrow: bool = True) -> RefVae:
    torch.manual_seed(0)
    networks = Networks(tiny()).eval()
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    networks.narrow_linear = narrow
    return RefVae(tiny(), precision.place(networks, torch.device("cpu"), dtype), dtype)


def spoken(engine: RefVae, num_blocks: int) -> torch.Tensor:
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    state = engine.start(engine.prepare(picture, face=None), Options(num_steps=2))
    sound = torch.rand(num_blocks, CHUNK_FRAMES * 640, generator=torch.Generator().manual_seed(2)) - 0.5
    return torch.cat([engine.step(state, block) for block in sound])


def test_tables_are_made_once_for_all_streams_and_few_are_kept() -> None:
    engine = made_engine(torch.float32)
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)  # references have a time, too
    first, second = (engine.start(portrait, Options(num_steps=2)) for _ in range(2))
    made: list[int] = []
    watched = engine.networks.get_submodule("generator.blocks.0.modulation")
    watched.register_forward_hook(lambda _module, inputs, _out: made.append(len(inputs[0])))
    silence = torch.zeros(CHUNK_FRAMES * engine.stream.samples_per_frame)
    for state in (first, first, second):
        engine.step(state, silence)
    assert made == [3]  # two steps and what is remembered, at once
    first.options = replace(first.options, num_steps=3)
    for state in (first, second, first):
        engine.step(state, silence)
    assert made == [3, 4]
    for shift in range(WALKS_KEPT):
        first.options = replace(first.options, num_steps=1, step_shift=2.0 + shift)
        engine.step(first, silence)
    engine.step(second, silence)
    assert made == [3, 4, *[2] * WALKS_KEPT, 3], "a grid beyond those that are kept is made again"


def test_weights_stored_in_half_precision_draw_the_same_bits() -> None:
    """Autocast rounds them to it in any case; stored so, they are rounded once and not in each step."""
    half = torch.bfloat16
    assert torch.equal(spoken(made_engine(half), 2), spoken(made_engine(half, narrow=False), 2))
