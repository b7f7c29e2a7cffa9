"""Drawing one block of latents after another: guidance, keys and values, and the window that starts anew.

The state machine of Algorithm 2 (arXiv 2606.01620). Three branches are drawn as one batch: with everything, without
sound, without references. Context carries no sound, so the first two share their past; it is stored once per row all
the same, so that every step reads one tensor. What the noise does not change is computed once: per block of latents
the sound, per grid of times what these do to tokens (`Walk`). Legend: R rows (branches), S places in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step
from vivant.engines.refvae.generator import Generator, KeysValues, Modulation, Room, Segment
from vivant.engines.refvae.places import angles_of, places_of, reference_places
from vivant.ops.rotary import Turn, turn_of

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

    @property
    def weights(self) -> list[float]:
        """Of these branches' velocities in Eq. I: la + lr - 1, 1 - la, 1 - lr."""
        weights = [self.audio + self.references - 1, 1 - self.audio, 1 - self.references]
        return weights[self.rows]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The way from noise to a picture through a network: the same for every block of every stream, so made once."""

    network: Generator
    times: tuple[float, ...]
    """From 1 (noise) to 0."""
    modulations: tuple[Modulation, ...]
    """At each of the times, for all rows alike."""
    turn: Turn
    """Of all places of a window, in order."""

    def turn_at(self, first: int, stop: int) -> Turn:
        """Of some of the window's places."""
        cos, sin = self.turn
        return cos[first:stop], sin[first:stop]


def new_walk(network: Generator, times: Sequence[float], height: int, width: int) -> Walk:
    """Prepare to draw latents of h by w cells at `times`, from 1 to 0, in the precision of the context."""
    config, device = network.config, network.first_latent.device
    made = network.modulation(torch.tensor(times, dtype=torch.float64, device=device))
    modulations = tuple(
        Modulation([block[i : i + 1] for block in made.blocks], made.leave[i : i + 1])
        for i in range(len(times))
    )
    angles = angles_of(places_of(range(config.window_latents), height, width, device), config.head_channels)
    turn = turn_of(angles, made.leave.dtype)
    return Walk(network=network, times=tuple(times), modulations=modulations, turn=turn)


@dataclass(kw_only=True, eq=False)
class Memory:
    """Keys and values of one stream: references, then the blocks of the present window. Made once, filled in place."""

    keys: Tensor
    """(blocks of the network, R, heads, S, head channels)."""
    values: Tensor
    beside: Tensor
    """What references lay beside each token that is drawn, (R, 1, h or 1, w or 1, D)."""
    num_references: int
    """Places that references take."""
    num_blocks: int
    """Blocks of latents in the window."""
    num_drawn: int
    """Blocks drawn since the stream began."""


@dataclass(frozen=True)
class Identity:
    """What drawing looks at of the reference pictures, in two rows: real, null."""

    keys_values: KeysValues
    beside: Tensor
    """(2, 1, h or 1, w or 1, D); see `Generator.beside_references`."""


def remember_references(network: Generator, references: Tensor) -> Identity:
    """Standardised latents (1, M, Z, h, w) of the reference pictures, as drawing looks at them."""
    _, count, _, height, width = references.shape
    null = network.null_reference.to(references.dtype).view(1, 1, -1, 1, 1).expand_as(references)
    both = torch.cat([references, null])
    places = reference_places(count, height, width, references.device)
    made = network.run([Segment(network.embed(both), places, both.new_zeros(2))])[2]
    return Identity(made, network.beside_references(both))


def new_memory(network: Generator, references: Identity, cells: int) -> Memory:
    """An empty window behind the references; cells: h * w of a latent."""
    config = network.config
    key = references.keys_values[0][0]
    length = key.shape[2] + config.window_latents * cells
    shape = (config.num_blocks, NUM_ROWS, config.num_heads, length, config.head_channels)
    memory = Memory(
        keys=key.new_zeros(shape),
        values=key.new_zeros(shape),
        beside=references.beside[[0, 0, 1]],
        num_references=key.shape[2],
        num_blocks=0,
        num_drawn=0,
    )
    _write(memory, references.keys_values, 0)
    return memory


def _write(memory: Memory, made: KeysValues, start: int) -> None:
    """Two rows (real, null references) into three."""
    for index, (key, value) in enumerate(made):
        stop = start + key.shape[2]
        for store, new in ((memory.keys, key), (memory.values, value)):
            store[index, FULL : WITHOUT_SOUND + 1, :, start:stop] = new[:1]
            store[index, WITHOUT_REFERENCES, :, start:stop] = new[1]


class Conditions(NamedTuple):
    """What a block of latents is drawn from, beside noise and memory; the same in every step."""

    rows: slice
    weights: Tensor  # of the rows, (R, 1, 1, 1, 1)
    beside: Tensor  # what their tokens have in them whatever the latents are, (R, L, h or 1, w or 1, D)


def draw_block(walk: Walk, memory: Memory, noise: Tensor, audio: Tensor, guidance: Guidance) -> Tensor:
    """The next block of latents (1, L, Z, h, w) from noise of that shape and its sound (1, L, A); remembers it."""
    latents = walk_down(walk, memory, noise, conditions_of(walk, memory, audio, guidance))
    remember_block(walk, memory, latents)
    return latents


def conditions_of(walk: Walk, memory: Memory, audio: Tensor, guidance: Guidance) -> Conditions:
    """For the block after those in memory and its sound (1, L, A)."""
    silence = walk.network.null_audio.to(audio.dtype).expand_as(audio)
    sounds = torch.cat([audio, silence, audio])[guidance.rows]
    weights = audio.new_tensor(guidance.weights).view(-1, 1, 1, 1, 1)
    beside = walk.network.beside(sounds, starts=memory.num_drawn == 0) + memory.beside[guidance.rows]
    return Conditions(guidance.rows, weights, beside)


def walk_down(walk: Walk, memory: Memory, noise: Tensor, conditions: Conditions) -> Tensor:
    """From noise (1, L, Z, h, w) to a block of latents.

    What the memory holds is only read; its free places behind that are written over.
    """
    network, (_, num_latents, _, height, width) = walk.network, noise.shape
    turn, rooms = _present(walk, memory, conditions.rows, num_latents * height * width)
    x = noise
    for (time, next_time), modulation in zip(pairwise(walk.times), walk.modulations[:-1], strict=True):
        tokens = network.embed_beside(x, conditions.beside)
        drawn, _ = network.pass_blocks(tokens, modulation.blocks, turn, rooms)
        velocities = network.velocity_at(drawn, modulation.leave, height, width)
        x = euler_step(x, (velocities * conditions.weights).sum(0, keepdim=True), time, next_time)
    return x


def remember_block(walk: Walk, memory: Memory, latents: Tensor) -> None:
    """Write a finished block (1, L, Z, h, w) into the window, at diffusion time 0.

    The last block of a window becomes the first of the next: positions begin again, references stay.
    """
    network, (_, num_latents, _, height, width) = walk.network, latents.shape
    starts = memory.num_drawn == 0
    memory.num_drawn += 1
    if memory.num_blocks + 1 == network.config.window_blocks:
        memory.num_blocks = 0
    num_places = num_latents * height * width
    with_and_without = slice(FULL, NUM_ROWS, WITHOUT_REFERENCES)
    turn, rooms = _present(walk, memory, with_and_without, num_places)
    tokens = network.embed(latents, starts=starts).expand(2, -1, -1)
    network.pass_blocks(tokens, walk.modulations[-1].blocks, turn, rooms)
    stop = rooms[0].keys.shape[2]
    for store in (memory.keys, memory.values):
        own = store[:, :, :, stop - num_places : stop]
        own[:, WITHOUT_SOUND] = own[:, FULL]
    memory.num_blocks += 1


def _present(walk: Walk, memory: Memory, rows: slice, num_places: int) -> tuple[Turn, list[Room]]:
    """How the block after those in the window turns, and per block of the network its rows' past with room for it."""
    first = memory.num_blocks * num_places
    stop = memory.num_references + first + num_places
    rooms = [
        Room(keys[rows, :, :stop], values[rows, :, :stop])
        for keys, values in zip(memory.keys, memory.values, strict=True)
    ]
    return walk.turn_at(first, first + num_places), rooms


def block_frames(index: int, block_latents: int) -> range:
    """Video frames of block `index`: 13, then 16, 16, ... for blocks of 4 latents."""
    count = 4 * block_latents
    return range(max(0, count * index - 3), count * (index + 1) - 3)
