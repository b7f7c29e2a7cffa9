"""Blocks with CUDA graphs: all steps of drawing one and remembering it are one recording, decoding it is another.

The store of keys and values stays where it is and is read up to where it is filled, so each number of blocks in the
window has a recording of its own: 1 to 7 over and over at full size, and an eighth for the first block of a stream.
The first time round a window is four times slower than drawing plainly, from then on drawing takes a third (H200).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vivant.engines.refvae.drawing import (
    Conditions,
    Guidance,
    Memory,
    Walk,
    conditions_of,
    remember_block,
    walk_down,
)
from vivant.engines.refvae.layers import TemporalCache
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.vae import References
from vivant.runtime.graphs import Work, recorded


class Recordings:
    """Of one stream, for one walk and one choice of branches."""

    def __init__(self, walk: Walk, memory: Memory, guidance: Guidance, noise: Tensor):
        """noise: of the shape that all blocks have."""
        self.walk, self.rows, self.keys = walk, guidance.rows, memory.keys
        self.noise, self.latents = torch.empty_like(noise), torch.empty_like(noise)
        self.conditions: Conditions | None = None
        self.played: dict[int, Work] = {}
        self.pool: Any = torch.cuda.graph_pool_handle()

    def fit(self, walk: Walk, memory: Memory, guidance: Guidance) -> bool:
        """Whether they are of this."""
        return self.walk is walk and self.keys is memory.keys and self.rows == guidance.rows

    def draw_block(self, memory: Memory, noise: Tensor, audio: Tensor, guidance: Guidance) -> Tensor:
        """As `drawing.draw_block`; the latents are written over by the next call."""
        now = conditions_of(self.walk, memory, audio, guidance)
        # Recordings read these, wherever they were made.
        held = self.conditions = self.conditions or now
        held.beside.copy_(now.beside)
        held.weights.copy_(now.weights)
        self.noise.copy_(noise)
        num_blocks, num_drawn = memory.num_blocks, memory.num_drawn
        if num_blocks not in self.played:
            self.played[num_blocks] = self._record(memory, held)
        self.played[num_blocks]()
        # What `remember_block` counts; playing does not run it.
        window = self.walk.network.config.window_blocks
        memory.num_blocks = 1 if num_blocks + 1 == window else num_blocks + 1
        memory.num_drawn = num_drawn + 1
        return self.latents

    def _record(self, memory: Memory, held: Conditions) -> Work:
        def work() -> None:
            latents = walk_down(self.walk, memory, self.noise, held)
            remember_block(self.walk, memory, latents)
            self.latents.copy_(latents)

        num_blocks, num_drawn = memory.num_blocks, memory.num_drawn
        # At the end of a window trying it out writes where the present one is still looked at.
        keys, values = memory.keys.clone(), memory.values.clone()

        def undo() -> None:
            memory.num_blocks, memory.num_drawn = num_blocks, num_drawn
            memory.keys.copy_(keys)
            memory.values.copy_(values)

        return recorded(work, undo, self.pool)


class Decoding:
    """Of one stream, from its second block on: the first has fewer frames, and is decoded once."""

    def __init__(
        self, networks: Networks, references: References | None, cache: TemporalCache, latents: Tensor
    ):
        """latents: of the shape that all blocks have; cache: of a decoder that has begun."""
        self.references, self.tails = references, cache.tails
        self.latents, self.video = latents.clone(), latents
        before = [tail.clone() for tail in cache.tails]

        def work() -> None:
            self.video = networks.decode(self.latents, references, cache)

        def undo() -> None:
            for tail, own in zip(cache.tails, before, strict=True):
                tail.copy_(own)

        self.play: Work = recorded(work, undo, None)

    def fit(self, references: References | None, cache: TemporalCache) -> bool:
        """Whether it is of this."""
        return self.references is references and self.tails is cache.tails

    def decode(self, latents: Tensor) -> Tensor:
        """As `Networks.decode`; the video is written over by the next call."""
        self.latents.copy_(latents)
        self.play()
        return self.video
