"""The heart of the family: a voice makes a portrait speak, one block of 16 frames after another.

    references --E1--> features ------------------------------> D_ref --+
        +-------E1,E2--> latents --G--> keys, values --+                |
                                                       v                v
    sound --mel--> audio tower --> motion --> G: noise to a block of latents --D1, D_ref, D2--> frames
                                                       ^           |
                                                       +-- memory -+

E, D the video VAE, G the generator (arXiv 2606.01620, Algorithm 2). The first block has 13 frames, because the first
frame has a latent of its own; so a chunk of 16 frames of sound is answered with the frames up to 3 before its end.

Letters: M references, T frames, S samples, Z latent channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.diffusion.flow_match import shifted_times
from vivant.engine import Engine, Portrait, State, StreamSpec
from vivant.engines.refvae.config import (
    BLOCK_LATENTS,
    CHUNK_FRAMES,
    DELAY_FRAMES,
    FRAME_RATE_HZ,
    SAMPLE_RATE_HZ,
    Config,
    Options,
    tiny,
)
from vivant.engines.refvae.drawing import (
    Guidance,
    Identity,
    Memory,
    Walk,
    block_frames,
    draw_block,
    new_memory,
    new_walk,
    remember_references,
)
from vivant.engines.refvae.layers import TemporalCache
from vivant.engines.refvae.motion import Hearing, Motion, hear, new_hearing, windows
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.recordings import Decoding, Recordings
from vivant.engines.refvae.vae import References
from vivant.errors import InputError
from vivant.face.crop import CropSpec
from vivant.runtime import precision

WALKS_KEPT = 4
"""Grids of times whose tables an engine keeps, shared by all streams; one of 12 steps takes 6 MB at full size."""


@dataclass(frozen=True, kw_only=True)
class RefVaePortrait(Portrait):
    """One person, one or more pictures."""

    details: References | None
    """What decoding looks at: keys and values per block of D_ref."""
    identity: Identity
    """What drawing looks at."""
    latents: Tensor
    """Of the pictures, standardised, (1, M, Z, h, w): what is drawn may be differences to them."""


@dataclass(kw_only=True)
class RefVaeState(State):
    """One stream."""

    portrait: RefVaePortrait
    options: Options
    hearing: Hearing
    num_heard: int
    """Blocks whose sound has been understood."""
    memory: Memory
    """Past latents, as the generator remembers them."""
    decoder: TemporalCache
    """What the VAE's decoder saw last."""


class RefVae(Engine[Config, Options, Motion, RefVaePortrait, RefVaeState]):
    """The family `refvae`."""

    family: ClassVar[str] = "refvae"
    config_type = Config
    options_type = Options
    state_type = RefVaeState
    network_methods = ("decode",)
    can_record = True
    hears = True
    stream = StreamSpec(
        driving="audio",
        chunk_frames=CHUNK_FRAMES,
        delay_frames=DELAY_FRAMES,
        frame_rate_hz=FRAME_RATE_HZ,
        sample_rate_hz=SAMPLE_RATE_HZ,
    )

    def __init__(self, config: Config, networks: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(config, networks, dtype)
        # Follows from weights and options alone, so it is no part of any stream's state.
        self._walk: Callable[[int, float], Walk] = lru_cache(WALKS_KEPT)(self._new_walk)
        self._records = False
        # As long as their stream; a state that is restored or copied records anew.
        self._recordings: WeakKeyDictionary[Memory, Recordings] = WeakKeyDictionary()
        self._decodings: WeakKeyDictionary[TemporalCache, Decoding] = WeakKeyDictionary()

    def record(self) -> None:
        self._records = True

    @staticmethod
    def build_networks(config: Config) -> nn.Module:
        return Networks(config)

    @staticmethod
    def tiny_configs() -> Mapping[str, Config]:
        return {"tiny": tiny()}

    @property
    def crop_size_px(self) -> int:
        return self.config.image_size

    @property
    def crop(self) -> CropSpec:
        """As the checkpoint was trained."""
        return CropSpec(scale=self.config.crop_scale, vy=self.config.crop_vy)

    @torch.no_grad()
    def encode_reference(self, reference: Tensor) -> RefVaePortrait:
        pictures = self._fitted(reference)[None] * 2 - 1
        with precision.computing(self.device, self.dtype):
            details = self._networks.vae.encode_references(pictures)
            mean, _ = self._networks.vae.encode(pictures[0][:, :, None])
            latents = self._networks.standardised(mean)[:, 0][None]
            identity = remember_references(self._networks.generator, latents)
        return RefVaePortrait(details=details, identity=identity, latents=latents)

    def frame_size(self, portrait: RefVaePortrait) -> tuple[int, int]:
        return self.config.image_size, self.config.image_size

    def start(self, portrait: RefVaePortrait, options: Options | None = None, seed: int = 0) -> RefVaeState:
        return RefVaeState(
            portrait=portrait,
            options=options if options is not None else Options(),
            generator=torch.Generator(device=self.device).manual_seed(seed),
            hearing=new_hearing(self.config.audio_lead_frames),
            num_heard=0,
            memory=new_memory(self._networks.generator, portrait.identity, self.config.cells**2),
            decoder=TemporalCache(),
        )

    @torch.no_grad()
    def encode_motion(self, state: RefVaeState, driving: Tensor) -> Motion:
        hear(state.hearing, driving)
        frames = block_frames(state.num_heard, BLOCK_LATENTS)
        heard = windows(state.hearing, frames, self.config.audio_lead_frames)
        state.num_heard += 1
        with precision.computing(self.device, self.dtype):
            features = self._networks.audio(heard.to(self.device))
        return Motion(features.flatten(1).float())

    @torch.no_grad()
    def render(self, state: RefVaeState, motion: Motion) -> Tensor:
        latents = self.draw(state, motion)
        with precision.computing(self.device, self.dtype):
            video = self._decoded(latents, state.portrait.details, state.decoder)
        return (video[0].movedim(1, 0).float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def draw(self, state: RefVaeState, motion: Motion) -> Tensor:
        """The next block's latents (1, L, Z, h, w), standardised."""
        starts = state.memory.num_drawn == 0
        wanted = len(block_frames(state.memory.num_drawn, BLOCK_LATENTS))
        if len(motion) != wanted:
            raise InputError(f"refvae draws {wanted} frames here, got the motion of {len(motion)}")
        options = state.options
        guidance = Guidance(audio=options.audio_guidance, references=options.reference_guidance)
        shape = (1, BLOCK_LATENTS, self.config.vae.latent_channels, self.config.cells, self.config.cells)
        noise = torch.randn(shape, generator=state.generator, device=self.device)
        with precision.computing(self.device, self.dtype):
            sound = self._networks.generator.embed_audio(motion.features[None], starts=starts)
            walk = self._walk(options.num_steps, options.step_shift)
            latents = self._drawn(walk, state.memory, noise, sound.float(), guidance)
            return self._networks.generator.absolute(latents, state.portrait.latents)

    def _drawn(self, walk: Walk, memory: Memory, noise: Tensor, sound: Tensor, guidance: Guidance) -> Tensor:
        if not self._records:
            return draw_block(walk, memory, noise, sound, guidance)
        kept = self._recordings.get(memory)
        if kept is None or not kept.fit(walk, memory, guidance):
            kept = self._recordings[memory] = Recordings(walk, memory, guidance, noise)
        return kept.draw_block(memory, noise, sound, guidance)

    def _decoded(self, latents: Tensor, details: References | None, cache: TemporalCache) -> Tensor:
        if not self._records or not cache.started:
            return self._networks.decode(latents, details, cache)
        kept = self._decodings.get(cache)
        if kept is None or not kept.fit(details, cache):
            kept = self._decodings[cache] = Decoding(self._networks, details, cache, latents)
        return kept.decode(latents)

    def flush(self, state: RefVaeState) -> Tensor:
        """The last three frames: silence follows the sound."""
        silence = torch.zeros(CHUNK_FRAMES * self.stream.samples_per_frame)
        return self.step(state, silence)[:DELAY_FRAMES]

    def _new_walk(self, num_steps: int, step_shift: float) -> Walk:
        times = shifted_times(num_steps, step_shift).tolist()
        return new_walk(self._networks.generator, times, self.config.cells, self.config.cells)

    @property
    def _networks(self) -> Networks:
        return cast("Networks", self.networks)

    def _fitted(self, pictures: Tensor) -> Tensor:
        """Pictures (M, 3, H, W) of any size at the side of the config, as float32."""
        side = self.config.image_size
        pictures = pictures.to(self.device, torch.float32)
        if pictures.shape[-2:] == (side, side):
            return pictures
        return F.interpolate(
            pictures, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
