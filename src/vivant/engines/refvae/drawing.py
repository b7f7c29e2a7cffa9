"""Drawing one block of latents after another: guidance, keys and values, and the window that starts anew.

The state machine of Algorithm 2 (arXiv 2606.01620). Three branches are drawn as one batch: with everything, without
sound, without references. Context carries no sound, so the first two share their past; it is stored once per row all
the same, so that every step reads one tensor. Legend: R rows (branches), S places in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step, shifted_times
from vivant.engines.refvae.generator import Generator, KeysValues, Segment, places_of, reference_places

FULL, WITHOUT_SOUND, WITHOUT_REFERENCES = range(3)
NUM_ROWS = 3


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly sound and references are followed; 1 is as trained, and saves the branch without."""

    audio: float = 2.0
    references: float = 2.0

    @property
    def rows(self) -> slice:
        """The branches that this guidance needs."""
        if self.audio != 1 and self.references != 1:
            return slice(0, 3)
        if self.references != 1:
            return slice(0, 3, 2)
        return slice(0, 2) if self.audio != 1 else slice(0, 1)

    def combined(self, velocities: Tensor) -> Tensor:
        """Eq. I: (la + lr - 1) v_full + (1 - la) v_without_sound + (1 - lr) v_without_references.

        velocities (R, ...) of `rows` -> (1, ...).
        """
        weights = [self.audio + self.references - 1, 1 - self.audio, 1 - self.references]
        weights = weights[self.rows]
        shape = (-1, *[1] * (velocities.dim() - 1))
        return (velocities * velocities.new_tensor(weights).view(shape)).sum(0, keepdim=True)


@dataclass(kw_only=True)
class Memory:
    """Keys and values of one stream: references, then the blocks of the present window. Made once, filled in place."""

    keys: Tensor
    """(blocks of the network, R, heads, S, head channels)."""
    values: Tensor
    num_references: int
    """Places that references take."""
    num_blocks: int
    """Blocks of latents in the window."""
    num_drawn: int
    """Blocks drawn since the stream began."""


def remember_references(network: Generator, references: Tensor) -> KeysValues:
    """Standardised latents (1, M, Z, h, w) of the reference pictures -> keys and values of two rows: real, null."""
    _, count, _, height, width = references.shape
    null = network.null_reference.to(references.dtype).view(1, 1, -1, 1, 1).expand_as(references)
    both = torch.cat([references, null])
    places = reference_places(count, height, width, references.device)
    return network.run([Segment(network.embed(both), places, both.new_zeros(2))])[2]


def new_memory(network: Generator, references: KeysValues, cells: int) -> Memory:
    """An empty window behind the references; cells: h * w of a latent."""
    config = network.config
    key = references[0][0]
    length = key.shape[2] + config.window_latents * cells
    shape = (config.num_blocks, NUM_ROWS, config.num_heads, length, config.head_channels)
    memory = Memory(
        keys=key.new_zeros(shape),
        values=key.new_zeros(shape),
        num_references=key.shape[2],
        num_blocks=0,
        num_drawn=0,
    )
    _write(memory, references, 0)
    return memory


def _write(memory: Memory, made: KeysValues, start: int) -> None:
    """Two rows (real, null references) into three."""
    for index, (key, value) in enumerate(made):
        stop = start + key.shape[2]
        for store, new in ((memory.keys, key), (memory.values, value)):
            store[index, FULL : WITHOUT_SOUND + 1, :, start:stop] = new[:1]
            store[index, WITHOUT_REFERENCES, :, start:stop] = new[1]


def _past(memory: Memory, rows: slice, num_blocks: int, block_places: int) -> KeysValues:
    stop = memory.num_references + num_blocks * block_places
    return [(k[rows, :, :stop], v[rows, :, :stop]) for k, v in zip(memory.keys, memory.values, strict=True)]


def draw_block(
    network: Generator,
    memory: Memory,
    noise: Tensor,
    audio: Tensor,
    guidance: Guidance,
    times: Tensor | None = None,
) -> Tensor:
    """The next block of latents (1, L, Z, h, w) from noise of that shape and its sound (1, L, A); remembers it.

    times: (steps + 1,) from 1 to 0; None: 12 steps, shift 5.
    """
    _, num_latents, _, height, width = noise.shape
    starts = memory.num_drawn == 0
    first = memory.num_blocks * num_latents
    places = places_of(range(first, first + num_latents), height, width, noise.device)
    rows = guidance.rows
    count = len(range(*rows.indices(NUM_ROWS)))
    past = _past(memory, rows, memory.num_blocks, num_latents * height * width)
    silence = network.null_audio.to(audio.dtype).expand_as(audio)
    sounds = torch.cat([audio, silence, audio])[rows]
    grid = (shifted_times(12, 5.0) if times is None else times).tolist()
    x = noise
    for time, next_time in pairwise(grid):
        tokens = network.embed(x.expand(count, -1, -1, -1, -1), sounds, starts=starts)
        drawn, at, _ = network.run([Segment(tokens, places, x.new_full((count,), time))], past)
        x = euler_step(x, guidance.combined(network.velocity(drawn, at, height, width)), time, next_time)
    remember_block(network, memory, x)
    return x


def remember_block(network: Generator, memory: Memory, latents: Tensor) -> None:
    """Write a finished block (1, L, Z, h, w) into the window, at diffusion time 0.

    The last block of a window becomes the first of the next: positions begin again, references stay.
    """
    _, num_latents, _, height, width = latents.shape
    block_places = num_latents * height * width
    starts = memory.num_drawn == 0
    memory.num_drawn += 1
    if memory.num_blocks + 1 == network.config.window_blocks:
        memory.num_blocks = 0
    first = memory.num_blocks * num_latents
    places = places_of(range(first, first + num_latents), height, width, latents.device)
    tokens = network.embed(latents.expand(2, -1, -1, -1, -1), starts=starts)
    past = _past(memory, slice(0, 3, 2), memory.num_blocks, block_places)
    made = network.run([Segment(tokens, places, latents.new_zeros(2))], past)[2]
    _write(memory, made, memory.num_references + memory.num_blocks * block_places)
    memory.num_blocks += 1


def block_frames(index: int, block_latents: int) -> range:
    """Video frames of block `index`: 13, then 16, 16, ... for blocks of 4 latents."""
    count = 4 * block_latents
    return range(max(0, count * index - 3), count * (index + 1) - 3)
