"""The generator: sizes, what may look at what, and that block by block is the whole window at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step, noised, shifted_times
from vivant.engines.refvae import config_generator
from vivant.engines.refvae.drawing import (
    NUM_ROWS,
    Guidance,
    Memory,
    block_frames,
    draw_block,
    new_memory,
    new_walk,
    remember_block,
    remember_references,
)
from vivant.engines.refvae.forcing import TeacherForcing
from vivant.engines.refvae.generator import Generator, KeysValues, Segment
from vivant.engines.refvae.places import angles_of, places_of, reference_places

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


@pytest.mark.parametrize(("name", "millions"), [("full", 1031.9), ("small", 59.4), ("tiny", 0.363)])
def test_parameter_counts_are_the_tables(name: str, millions: float) -> None:
    with torch.device("meta"):
        made = Generator(getattr(config_generator, name)())
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_who_looks_at_what_in_three_blocks() -> None:
    scores = torch.zeros(1, 1, 7, 1)
    seen = TeacherForcing(1, 1)(scores, scores, torch.eye(7)[None, None])
    assert (seen[0, 0] > 0).int().tolist() == [
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
    walk = new_walk(network, shifted_times(1, 5.0).tolist(), SIDE, SIDE)
    for index in range(count // block):
        part = slice(index * block, (index + 1) * block)
        tokens = network.embed_noisy(noisy[:, part], audio[:, part], references, starts=index == 0)
        past = past_of(memory, slice(0, 1), block * SIDE * SIDE)
        places = places_of(range(part.start, part.stop), SIDE, SIDE, torch.device("cpu"))
        drawn, at, _ = network.run([Segment(tokens, places, time)], past)
        got = network.velocity(drawn, at, SIDE, SIDE)
        assert (got - whole[:, part]).abs().max() < EXACT
        if index + 1 < network.config.window_blocks:
            remember_block(walk, memory, clean[:, part])


def test_guidance_is_the_papers_equation() -> None:
    full, silent, unseen = (torch.randn(1, 5, dtype=torch.float64) for _ in range(3))

    def combined(guidance: Guidance, *branches: Tensor) -> Tensor:
        return (torch.cat(branches) * full.new_tensor(guidance.weights)[:, None]).sum(0, keepdim=True)

    got = combined(Guidance(audio=3.0, references=2.0), full, silent, unseen)
    torch.testing.assert_close(got, full + 2.0 * (full - silent) + 1.0 * (full - unseen))
    torch.testing.assert_close(combined(PLAIN, full), full)
    torch.testing.assert_close(combined(Guidance(audio=1.0), full, unseen), 2.0 * full - unseen)


def test_batched_branches_are_three_calls(network: Generator) -> None:
    """Each branch drawn alone, with its own inputs and its own memory, then mixed by Eq. I."""
    guidance, block = Guidance(audio=2.5, references=1.5), network.config.block_latents
    references, audio, noise = latents(1, 2), sound(network, 2, block), latents(3, block)
    walk = new_walk(network, shifted_times(1, 5.0).tolist(), SIDE, SIDE)
    memory = new_memory(network, remember_references(network, references), SIDE * SIDE)
    got = draw_block(walk, memory, noise, audio, guidance)

    def alone(pictures: Tensor, heard: Tensor) -> Tensor:
        own = new_memory(network, remember_references(network, pictures), SIDE * SIDE)
        return noise - draw_block(walk, own, noise, heard, PLAIN)

    null = network.null_reference.view(1, 1, -1, 1, 1).expand_as(references)
    silence = network.null_audio.expand_as(audio)
    mixed = 3.0 * alone(references, audio) - 1.5 * alone(references, silence) - 0.5 * alone(null, audio)
    assert (noise - mixed - got).abs().max() < EXACT


def past_of(memory: Memory, rows: slice, num_places: int) -> KeysValues:
    stop = memory.num_references + memory.num_blocks * num_places
    return [(k[rows, :, :stop], v[rows, :, :stop]) for k, v in zip(memory.keys, memory.values, strict=True)]


def drawn_plainly(
    network: Generator, memory: Memory, noise: Tensor, audio: Tensor, guidance: Guidance, times: Tensor
) -> Tensor:
    """Algorithm 2 with everything computed anew in every step, and nothing written anywhere."""
    _, count, _, height, width = noise.shape
    first, rows = memory.num_blocks * count, guidance.rows
    places = places_of(range(first, first + count), height, width, noise.device)
    sounds = torch.cat([audio, network.null_audio.expand_as(audio), audio])[rows]
    past, x = past_of(memory, rows, count * height * width), noise
    for time, next_time in pairwise(times.tolist()):
        beside = network.beside(sounds, starts=memory.num_drawn == 0) + memory.beside[rows]
        tokens = network.embed_beside(x, beside)
        at = x.new_full((len(sounds),), time)
        drawn, embedded, _ = network.run([Segment(tokens, places, at)], past)
        branches = network.velocity(drawn, embedded, height, width)
        parts = zip(guidance.weights, branches, strict=True)
        velocity = torch.stack([weight * branch for weight, branch in parts]).sum(0, keepdim=True)
        x = euler_step(x, velocity, time, next_time)
    return x


@pytest.mark.parametrize("guidance", [Guidance(audio=2.5, references=1.5), Guidance(audio=1.0)])
def test_tables_and_rooms_are_the_plain_loop(network: Generator, guidance: Guidance) -> None:
    """From the first block of a stream to beyond its window, and what is remembered of each."""
    block, times, sides = network.config.block_latents, shifted_times(3, 5.0), (2, 1)
    walk = new_walk(network, times.tolist(), *sides)
    references = torch.randn(1, 2, 64, *sides, dtype=torch.float64)
    memory = new_memory(network, remember_references(network, references), 2)
    for index in range(network.config.window_blocks + 1):
        noise = torch.randn(1, block, 64, *sides, dtype=torch.float64)
        audio = sound(network, index, block)
        wanted = drawn_plainly(network, memory, noise, audio, guidance, times)
        starts = memory.num_drawn == 0
        drawn = draw_block(walk, memory, noise, audio, guidance)
        assert (drawn - wanted).abs().max() < EXACT
        memory.num_blocks -= 1  # what it was, or the beginning of a new window
        first, branches = memory.num_blocks * block, slice(0, 3, 2)
        places = places_of(range(first, first + block), *sides, noise.device)
        tokens = network.embed(wanted.expand(2, -1, -1, -1, -1), starts=starts)
        segment = Segment(tokens, places, torch.zeros(2, dtype=torch.float64))
        clean = network.run([segment], past_of(memory, branches, block * 2))[2]
        memory.num_blocks += 1
        kept = past_of(memory, slice(0, 3), block * 2)
        for (keys, values), (key, value) in zip(kept, clean, strict=True):
            for store, new in ((keys, key), (values, value)):
                assert (store[:, :, -block * 2 :] - new[[0, 0, 1]]).abs().max() < EXACT


def test_windows_begin_again_with_the_last_block(network: Generator) -> None:
    block, blocks = network.config.block_latents, network.config.window_blocks
    walk = new_walk(network, shifted_times(2, 5.0).tolist(), SIDE, SIDE)
    memory = new_memory(network, remember_references(network, latents(1, 1)), SIDE * SIDE)
    counts = []
    for index in range(2 * blocks):
        heard = sound(network, index, block)
        last = draw_block(walk, memory, latents(10 + index, block), heard, PLAIN)
        counts.append(memory.num_blocks)
    # Of three blocks: 1, 2, then a new window with the third as its first block; two new blocks per later window.
    assert counts == [1, 2, 1, 2, 1, 2]
    fresh = new_memory(network, remember_references(network, latents(1, 1)), SIDE * SIDE)
    fresh.num_drawn = 1
    draws = memory.num_references + block * SIDE * SIDE
    remember_block(walk, memory, last)
    remember_block(walk, fresh, last)
    assert torch.equal(memory.keys[..., :draws, :], fresh.keys[..., :draws, :])


def test_what_is_drawn_later_cannot_change_what_was(network: Generator) -> None:
    block, walk = network.config.block_latents, new_walk(network, shifted_times(2, 5.0).tolist(), SIDE, SIDE)

    def drawn(last_sound: int) -> list[Tensor]:
        memory = new_memory(network, remember_references(network, latents(1, 1)), SIDE * SIDE)
        seeds = (5, 6, last_sound)
        return [
            draw_block(walk, memory, latents(20 + i, block), sound(network, seed, block), Guidance())
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


def test_what_is_drawn_is_a_difference_to_the_references(network: Generator) -> None:
    references, truth = latents(1, 3), latents(2, 8)
    drawn = network.relative(truth, references)
    spread = network.config.difference_spread
    assert spread is not None
    assert ((truth - references.mean(1, keepdim=True)) / spread - drawn).abs().max() < EXACT
    assert (network.absolute(drawn, references) - truth).abs().max() < EXACT
    with torch.device("meta"):
        plain = Generator(config_generator.small())
    assert plain.relative(truth, references) is truth
    assert plain.absolute(truth, references) is truth
