"""Ways to draw the blocks of a refvae stream; for refvae_speed.py, which times and compares them.

plain       every step computes sound, positions and AdaLN anew and joins past and present keys and values
tables      what `vivant` does: computed once, keys and values written in place
graphs      all steps and the remembering of a block as one CUDA graph, as with `--runtime graphs`; decoding as another
flat        the same, convolutions over time as ones of pictures with as many times the channels
overlapped  as flat, block i being decoded on a second CUDA stream while block i + 1 is drawn
compiled    as flat, with a compiled decoder and compiled blocks: all before attention and all behind it; takes minutes
overlapped_compiled   likewise, overlapped
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as F
from refvae_parts import Stream, draw_plainly
from timing import Call, backend, tuned
from torch import Tensor, nn

from vivant.engines.refvae.drawing import conditions_of, remember_block, walk_down
from vivant.engines.refvae.layers import CausalConv3d
from vivant.engines.refvae.recordings import Recordings
from vivant.runtime.graphs import recorded


class Plain:
    """Draws and decodes blocks of a stream one after another."""

    overlaps = False
    """Whether `decode` returns before the current CUDA stream could read what it gives."""

    def __init__(self, stream: Stream):
        self.stream = stream

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
        """Networks, which all ways share, are as they were."""


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
        self.undoing = ExitStack()
        self.undoing.enter_context(tuned())
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

    def close(self) -> None:
        self.undoing.close()

    def _replace(self, module: nn.Module, name: str, new: Any) -> None:
        """Until the end of this way."""
        self.undoing.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, new)


class FlatConvolution(nn.Module):
    """A convolution over time as one of pictures: of each frame, beside it those before it as more channels."""

    def __init__(self, plain: nn.Conv3d):
        super().__init__()
        self.taps, self.padding = plain.kernel_size[0], plain.padding[1:]
        weight = plain.weight.movedim(2, 1).flatten(1, 2)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, taps - 1 + T, H, W) -> (B, C', T, H, W)."""
        count = x.shape[2] - self.taps + 1
        frames = x.movedim(2, 1)
        beside = torch.cat([frames[:, tap : tap + count] for tap in range(self.taps)], 2)
        y = F.conv2d(beside.flatten(0, 1), self.weight, self.bias, padding=self.padding)
        return y.unflatten(0, (-1, count)).movedim(1, 2)


class Flat(Graphs):
    """Graphs, of flat convolutions: kernels for pictures are better looked after than those for volumes."""

    def __init__(self, stream: Stream):
        super().__init__(stream)
        vae = stream.networks.vae
        for network in (vae.deep_decoder, vae.picture_decoder):
            for module in network.modules():
                if isinstance(module, CausalConv3d):
                    self._replace(module, "conv", FlatConvolution(module.conv))


class Compiled(Flat):
    """Graphs, of compiled parts and flat convolutions.

    Attention itself and the store are left out: their sizes change with the window.
    """

    def __init__(self, stream: Stream):
        super().__init__(stream)
        torch._dynamo.config.recompile_limit = 64
        for block in stream.networks.generator.blocks:
            for name in ("asked", "answered"):
                compiled = torch.compile(
                    getattr(block, name),
                    dynamic=False,
                    fullgraph=True,
                    backend=backend(stream.noise.device),
                )
                self._replace(block, name, compiled)
        stream.decode_network = torch.compile(
            stream.networks.decode, dynamic=False, backend=backend(stream.noise.device)
        )


class Beside(Graphs):
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


class Overlapped(Beside, Flat):
    """Flat convolutions."""


class OverlappedCompiled(Beside, Compiled):
    """Compiled parts."""


WAYS: dict[str, Any] = {
    "plain": Plain,
    "tables": Tables,
    "graphs": Graphs,
    "flat": Flat,
    "overlapped": Overlapped,
    "compiled": Compiled,
    "overlapped_compiled": OverlappedCompiled,
}
CPU_WAYS = ("plain", "tables")
