"""One call of refvae, a block of 16 frames, in parts on fixed inputs: what is counted and what is timed is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from counting import Cost, counted
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vivant.diffusion.flow_match import euler_step
from vivant.engines.refvae.config import BLOCK_LATENTS, CHUNK_FRAMES, Config, Options
from vivant.engines.refvae.drawing import (
    Guidance,
    Memory,
    Walk,
    conditions_of,
    new_memory,
    new_walk,
    remember_block,
    remember_references,
    walk_down,
)
from vivant.engines.refvae.generator import Segment
from vivant.engines.refvae.layers import TemporalCache
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.places import places_of
from vivant.engines.refvae.vae import References

MEL_BANDS, MEL_COLUMNS = 80, 16


@dataclass(kw_only=True)
class Stream:
    """A stream in its steady state, with random or fake contents."""

    networks: Networks
    walk: Walk
    memory: Memory
    references: References | None
    decoder: TemporalCache
    noise: Tensor
    """(1, L, Z, h, w)."""
    sound: Tensor
    """(1, L, A)."""
    guidance: Guidance
    decode_network: Callable[..., Tensor]

    def draw(self) -> Tensor:
        """All steps of the walk, from noise to latents."""
        conditions = conditions_of(self.walk, self.memory, self.sound, self.guidance)
        return walk_down(self.walk, self.memory, self.noise, conditions)

    def remember(self, latents: Tensor) -> None:
        """A block of latents, at the end of the window or as the first of the next."""
        remember_block(self.walk, self.memory, latents)

    def decode(self, latents: Tensor) -> Tensor:
        """(1, L, Z, h, w) -> (1, 3, T, H, W)."""
        return self.decode_network(latents, self.references, self.decoder)

    def stand_at(self, num_blocks: int) -> None:
        """Let the window hold that many blocks: whatever lies there."""
        self.memory.num_blocks, self.memory.num_drawn = num_blocks, max(1, self.memory.num_drawn)


def new_stream(networks: Networks, config: Config, num_references: int, times: Sequence[float]) -> Stream:
    """At the start; on the device and in the precision of the context."""
    generator, device = networks.generator, networks.latent_mean.device
    cells, side, options = config.cells, config.image_size, Options()
    pictures = torch.rand(1, num_references, 3, side, side, device=device) * 2 - 1
    channels = config.vae.latent_channels
    latents = torch.randn(1, num_references, channels, cells, cells, device=device)
    return Stream(
        networks=networks,
        walk=new_walk(generator, times, cells, cells),
        memory=new_memory(generator, remember_references(generator, latents), cells**2),
        references=networks.vae.encode_references(pictures),
        decoder=TemporalCache(),
        noise=torch.randn(1, BLOCK_LATENTS, channels, cells, cells, device=device),
        sound=torch.randn(1, BLOCK_LATENTS, config.generator.audio_channels, device=device),
        guidance=Guidance(audio=options.audio_guidance, references=options.reference_guidance),
        decode_network=networks.decode,
    )


def draw_plainly(stream: Stream, noise: Tensor, sound: Tensor) -> Tensor:
    """As the engine would draw if it computed everything anew in every step: the baseline of speed."""
    network, memory, rows = stream.networks.generator, stream.memory, stream.guidance.rows
    _, count, _, height, width = noise.shape
    first, starts = memory.num_blocks * count, memory.num_drawn == 0
    places = places_of(range(first, first + count), height, width, noise.device)
    stop = memory.num_references + first * height * width
    past = [(k[rows, :, :stop], v[rows, :, :stop]) for k, v in zip(memory.keys, memory.values, strict=True)]
    sounds = torch.cat([sound, network.null_audio.expand_as(sound), sound])[rows]
    weights = sound.new_tensor(stream.guidance.weights).view(-1, 1, 1, 1, 1)
    x = noise
    for time, next_time in pairwise(stream.walk.times):
        beside = network.beside(sounds, starts=starts) + memory.beside[rows]
        tokens = network.embed_beside(x, beside)
        segment = Segment(tokens, places, x.new_full((len(sounds),), time))
        drawn, at, _ = network.run([segment], past)
        velocities = network.velocity(drawn, at, height, width)
        x = euler_step(x, (velocities * weights).sum(0, keepdim=True), time, next_time)
    return x


@torch.no_grad()
def costs(config: Config, num_references: int = 1, num_blocks: int | None = None) -> dict[str, Cost]:
    """Per block behind num_blocks others of its window.

    None: as many as there can be. That block is remembered as the first of the next window.
    """
    with FakeTensorMode():
        networks = Networks(config).eval()
        stream = new_stream(networks, config, num_references, (1.0, 0.0))
        stream.decode(stream.noise)  # begins the stream of the decoder
        stream.stand_at(config.generator.window_blocks - 1 if num_blocks is None else num_blocks)
        features = torch.zeros(CHUNK_FRAMES, config.generator.audio_features)
        mel = torch.zeros(CHUNK_FRAMES, 1, MEL_BANDS, MEL_COLUMNS)
        parts: dict[str, tuple[Callable[[], object], int]] = {
            "hearing": (lambda: networks.audio(mel), 1),
            "embedding the sound": (
                lambda: networks.generator.embed_audio(features[None], starts=False),
                1,
            ),
            "drawing, a step of 3 branches": (stream.draw, Options().num_steps),
            "remembering, 2 branches": (lambda: stream.remember(stream.noise), 1),
            "decoding": (lambda: stream.decode(stream.noise), 1),
        }
        return {name: counted(work, times) for name, (work, times) in parts.items()}
