"""The generator: sizes, what may look at what, and that block by block is the whole window at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vivant.diffusion.flow_match import noised, shifted_times
from vivant.engines.refvae import config_generator
from vivant.engines.refvae.drawing import (
    NUM_ROWS,
    Guidance,
    block_frames,
    draw_block,
    new_memory,
    remember_block,
    remember_references,
)
from vivant.engines.refvae.generator import (
    Generator,
    Segment,
    angles_of,
    places_of,
    reference_places,
    teacher_forcing_mask,
)

EXACT = 1e-12
SIDE = 2
PLAIN = Guidance(audio=1.0, references=1.0)


@pytest.fixture(scope="module")
def network() -> Generator:
    torch.manual_seed(0)
    made = Generator(config_generator.tiny()).double().eval().requires_grad_(False)
    for parameter in made.parameters():  # zero-initialised gates would make every test true
        torch.nn.init.normal_(parameter, std=0.08)
    return made


def latents(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, 64, SIDE, SIDE, dtype=torch.float64, generator=generator)


def sound(network: Generator, seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, network.config.audio_channels, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("name", "millions"), [("full", 1031.9), ("small", 59.4), ("tiny", 0.36)])
def test_parameter_counts_are_the_tables(name: str, millions: float) -> None:
    with torch.device("meta"):
        made = Generator(getattr(config_generator, name)())
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_mask_of_three_blocks() -> None:
    rows = teacher_forcing_mask(1, 1, 3, 1).int().tolist()
    assert rows == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0, 1, 0],
        [1, 1, 1, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("num_references", [1, 3])
def test_teacher_forcing_is_inference_with_memory(network: Generator, num_references: int) -> None:
    block, count = network.config.block_latents, network.config.window_latents
    references, clean, audio = latents(1, num_references), latents(2, count), sound(network, 3, count)
    time = torch.tensor([0.4], dtype=torch.float64)
    noisy = noised(clean, latents(4, count), time)
    whole = network(references, clean, noisy, audio, torch.zeros_like(time), time, starts=True)

    memory = new_memory(network, remember_references(network, references), SIDE * SIDE)
    for index in range(count // block):
        part = slice(index * block, (index + 1) * block)
        tokens = network.embed(noisy[:, part], audio[:, part], starts=index == 0)
        stop = memory.num_references + memory.num_blocks * block * SIDE * SIDE
        past = [(k[:1, :, :stop], v[:1, :, :stop]) for k, v in zip(memory.keys, memory.values, strict=True)]
        places = places_of(range(part.start, part.stop), SIDE, SIDE, torch.device("cpu"))
        drawn, at, _ = network.run([Segment(tokens, places, time)], past)
        got = network.velocity(drawn, at, SIDE, SIDE)
        assert (got - whole[:, part]).abs().max() < EXACT
        if index + 1 < network.config.window_blocks:
            remember_block(network, memory, clean[:, part])


def test_guidance_is_the_papers_equation() -> None:
    full, silent, unseen = (torch.randn(1, 5, dtype=torch.float64) for _ in range(3))
    both = Guidance(audio=3.0, references=2.0)
    got = both.combined(torch.cat([full, silent, unseen]))
    torch.testing.assert_close(got, full + 2.0 * (full - silent) + 1.0 * (full - unseen))
    torch.testing.assert_close(PLAIN.combined(full), full)
    torch.testing.assert_close(Guidance(audio=1.0).combined(torch.cat([full, unseen])), 2.0 * full - unseen)


def test_batched_branches_are_three_calls(network: Generator) -> None:
    """Each branch drawn alone, with its own inputs and its own memory, then mixed by Eq. I."""
    guidance, block = Guidance(audio=2.5, references=1.5), network.config.block_latents
    references, audio, noise = latents(1, 2), sound(network, 2, block), latents(3, block)
    times = shifted_times(1, 5.0)
    memory = new_memory(network, remember_references(network, references), SIDE * SIDE)
    got = draw_block(network, memory, noise, audio, guidance, times)

    def alone(pictures: Tensor, heard: Tensor) -> Tensor:
        own = new_memory(network, remember_references(network, pictures), SIDE * SIDE)
        return noise - draw_block(network, own, noise, heard, PLAIN, times)

    null = network.null_reference.view(1, 1, -1, 1, 1).expand_as(references)
    silence = network.null_audio.expand_as(audio)
    mixed = 3.0 * alone(references, audio) - 1.5 * alone(references, silence) - 0.5 * alone(null, audio)
    assert (noise - mixed - got).abs().max() < EXACT


def test_windows_begin_again_with_the_last_block(network: Generator) -> None:
    block, blocks = network.config.block_latents, network.config.window_blocks
    memory = new_memory(network, remember_references(network, latents(1, 1)), SIDE * SIDE)
    counts = []
    for index in range(2 * blocks):
        last = draw_block(network, memory, latents(10 + index, block), sound(network, index, block), PLAIN)
        counts.append(memory.num_blocks)
    # Of three blocks: 1, 2, then a new window with the third as its first block; two new blocks per later window.
    assert counts == [1, 2, 1, 2, 1, 2]
    fresh = new_memory(network, remember_references(network, latents(1, 1)), SIDE * SIDE)
    fresh.num_drawn = 1
    draws = memory.num_references + block * SIDE * SIDE
    remember_block(network, memory, last)
    remember_block(network, fresh, last)
    assert torch.equal(memory.keys[..., :draws, :], fresh.keys[..., :draws, :])


def test_what_is_drawn_later_cannot_change_what_was(network: Generator) -> None:
    block = network.config.block_latents

    def drawn(last_sound: int) -> list[Tensor]:
        memory = new_memory(network, remember_references(network, latents(1, 1)), SIDE * SIDE)
        seeds = (5, 6, last_sound)
        return [
            draw_block(network, memory, latents(20 + i, block), sound(network, seed, block), Guidance())
            for i, seed in enumerate(seeds)
        ]

    one, other = drawn(7), drawn(8)
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[2], other[2])


def test_rows_and_frames() -> None:
    kinds = [Guidance(), Guidance(audio=1.0), Guidance(references=1.0), PLAIN]
    assert [list(range(NUM_ROWS))[g.rows] for g in kinds] == [[0, 1, 2], [0, 2], [0, 1], [0]]
    assert [len(block_frames(i, 4)) for i in range(3)] == [13, 16, 16]
    assert [block_frames(i, 4)[0] for i in range(3)] == [0, 13, 29]


def test_references_stand_before_the_window() -> None:
    places = reference_places(2, 1, 2, torch.device("cpu"))
    assert places.tolist() == [[-1, 0, 0], [-1, 0, 1], [-2, 0, 0], [-2, 0, 1]]
    assert angles_of(places, 128).shape == (4, 64)
