"""Ways to draw the blocks of a refvae stream; for refvae_speed.py, which times and compares them.

plain           no kernels of our own; every step computes sound, positions and AdaLN anew and joins past and present
tables          computed once, keys and values written in place; no kernels of our own
graphs          all steps and the remembering of a block as one CUDA graph; decoding as another
kernels         the same with kernels of our own: what `vivant` does with `--runtime graphs`, but for decoding's graph
library         as kernels, but all convolutions by cuDNN, as pictures: what there is if tiles fail
cudnn_attention as kernels, attention by cuDNN first
eager           kernels without graphs
overlapped      as kernels, block i being decoded on a second CUDA stream while block i + 1 is drawn
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from refvae_parts import Stream, draw_plainly
from timing import CUDNN_FIRST, Call
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from vivant.engines.refvae.drawing import conditions_of, remember_block, walk_down
from vivant.engines.refvae.recordings import Recordings
from vivant.ops import fused, measured
from vivant.runtime.graphs import recorded


class Plain:
    """Draws and decodes blocks of a stream one after another."""

    overlaps = False
    """Whether `decode` returns before the current CUDA stream could read what it gives."""
    has_kernels = False
    """Of our own."""

    def __init__(self, stream: Stream):
        self.stream = stream
        self.undoing = ExitStack()
        if not self.has_kernels:
            self.undoing.enter_context(fused.plainly())

    def draw(self, noise: Tensor, mel: Tensor) -> Tensor:
        """Noise (1, L, Z, h, w) and the mel windows of each frame -> latents (1, L, Z, h, w), which are remembered."""
        latents = draw_plainly(self.stream, noise, self.heard(mel))
        remember_block(self.stream.walk, self.stream.memory, latents)
        return latents

    def heard(self, mel: Tensor) -> Tensor:
        """(F, 1, bands, columns) -> the sound of each latent, (1, L, A)."""
        networks, starts = self.stream.networks, self.stream.memory.num_drawn == 0
        features = networks.audio(mel).flatten(1).float()
        return networks.generator.embed_audio(features[None], starts=starts).float()

    def decode(self, latents: Tensor) -> Tensor:
        """-> video (1, 3, T, H, W)."""
        return self.stream.decode(latents)

    def kept(self, video: Tensor) -> Tensor:
        """A copy, before the next block is written over it."""
        return video.clone()

    def finish(self) -> None:
        """The current CUDA stream waits for all that was begun."""

    def close(self) -> None:
        """Everything, which all ways share, is as it was."""
        self.undoing.close()


class Tables(Plain):
    """As the engine."""

    def draw(self, noise: Tensor, mel: Tensor) -> Tensor:
        stream = self.stream
        conditions = conditions_of(stream.walk, stream.memory, self.heard(mel), stream.guidance)
        latents = walk_down(stream.walk, stream.memory, noise, conditions)
        remember_block(stream.walk, stream.memory, latents)
        return latents


class Graphs(Plain):
    """Each graph is captured when it is first needed."""

    def __init__(self, stream: Stream):
        super().__init__(stream)
        self.recordings = Recordings(stream.walk, stream.memory, stream.guidance, stream.noise)
        self.decoding: Call | None = None
        self.video: Tensor | None = None

    def draw(self, noise: Tensor, mel: Tensor) -> Tensor:
        stream = self.stream
        return self.recordings.draw_block(stream.memory, noise, self.heard(mel), stream.guidance)

    def decode(self, latents: Tensor) -> Tensor:
        cache = self.stream.decoder
        if not cache.started:  # of 13 frames, once
            return self.stream.networks.decode(latents, self.stream.references, cache)
        if self.decoding is None:
            tails = [tail.clone() for tail in cache.tails]

            def work() -> None:
                self.video = self.stream.decode(latents)

            def undo() -> None:
                for tail, before in zip(cache.tails, tails, strict=True):
                    tail.copy_(before)

            self.decoding = recorded(work, undo)
        self.decoding()
        assert self.video is not None
        return self.video


class Kernels(Graphs):
    """With what makes the package fast."""

    has_kernels = True


class Library(Kernels):
    """Convolutions without kernels of our own."""

    def __init__(self, stream: Stream):
        super().__init__(stream)
        self.undoing.enter_context(measured.limited_to("pictures"))


class CudnnAttention(Kernels):
    """Attention by other kernels, where there are some."""

    def __init__(self, stream: Stream):
        super().__init__(stream)
        self.undoing.enter_context(sdpa_kernel(CUDNN_FIRST, set_priority=True))


class Eager(Tables):
    """Python asks for every kernel."""

    has_kernels = True


class Overlapped(Kernels):
    """Decoding is begun, not awaited."""

    overlaps = True

    def __init__(self, stream: Stream):
        super().__init__(stream)
        self.side = torch.cuda.Stream()
        self.taken = torch.empty_like(stream.noise)

    def decode(self, latents: Tensor) -> Tensor:
        """Video that may be read on `side`, or after `finish`."""
        main = torch.cuda.current_stream()
        self.side.wait_stream(main)
        with torch.cuda.stream(self.side):
            # The next block is drawn into the same latents, but only once these are taken.
            self.taken.copy_(latents)
            main.wait_event(self.side.record_event())
            return super().decode(self.taken)

    def kept(self, video: Tensor) -> Tensor:
        with torch.cuda.stream(self.side):
            return video.clone()

    def finish(self) -> None:
        torch.cuda.current_stream().wait_stream(self.side)


WAYS: dict[str, Any] = {
    "plain": Plain,
    "tables": Tables,
    "graphs": Graphs,
    "kernels": Kernels,
    "library": Library,
    "cudnn_attention": CudnnAttention,
    "eager": Eager,
    "overlapped": Overlapped,
}
CPU_WAYS = ("plain", "tables")
