"""The heart of the family: a video diffusion transformer draws a portrait that moves as the driver moves.

    reference --VAE, CLIP--> reference latents, tokens ----------+
                                                                 v
    driving --align, PD-FGC--> motion --portrait encoder--> transformer: noise to latents, window by window
                                                                 |
                                       rows of latents, one per step, windows faded into each other
                                                                 |
                                                                VAE --> frames

Latent 0 is the reference itself, so its frame is not shown; latent p > 0 is driving frames 4 p - 4 to 4 p - 1. The
driver's first frame stands for the missing frame before it. arXiv 2512.16900; windows.py says in which order windows
and steps are worked off, denoising.py what a step is.

Letters: T frames, Z latent channels, h w cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engine import Engine, Portrait, State, StreamSpec
from vivant.engines.flashportrait.caches import TinyVaeCache, VaeCache
from vivant.engines.flashportrait.config import (
    NUM_PLACEMENT,
    PROMPTS,
    SPACE_FACTOR,
    TIME_FACTOR,
    Config,
    Options,
    Sampler,
    tiny,
    tiny_differences,
)
from vivant.engines.flashportrait.denoising import Denoiser, Inputs, Memory, PredictionSettings
from vivant.engines.flashportrait.known import masked
from vivant.engines.flashportrait.motion import (
    Motion,
    aligned_face,
    in_sides,
    next_alignment,
)
from vivant.engines.flashportrait.sampling import guidance_of, sampler_times, stepped
from vivant.engines.flashportrait.tiles import Tiling, in_tiles
from vivant.engines.flashportrait.windows import (
    Layout,
    Rows,
    arrive,
    new_rows,
    oldest_needed,
    read,
    take,
    work,
    write,
)
from vivant.errors import InputError, SetupError
from vivant.face.crop import CropSpec
from vivant.ops.bending import Source, bent, placement
from vivant.ops.fetching import as_pixels
from vivant.runtime import precision

if TYPE_CHECKING:
    from vivant.engines.flashportrait.networks import Networks


ENCODED_WHOLE_PX = 768
"""References above this side are encoded in tiles, of this side:"""
ENCODED_TILE_PX = 512


@dataclass(frozen=True, kw_only=True)
class FlashPortraitPortrait(Portrait):
    """One person, one picture."""

    image_tokens: Tensor
    """(1, tokens, channels): the reference as CLIP sees it."""
    conditioning: Tensor | None
    """(1, 4 + Z, window, h, w): mask and latents of a clip that is the reference first and grey afterwards; None where
    differences are drawn."""
    source: Source | None
    """What is bent, where differences are drawn."""


@dataclass(kw_only=True)
class FlashPortraitState(State):
    """One stream."""

    portrait: FlashPortraitPortrait
    options: Options
    layout: Layout
    """Sizes of windows, number of steps and order of work, fixed when the stream began."""
    sampler: Sampler
    """How steps are taken, fixed when the stream began."""
    decoder: str
    """Which VAE decodes, fixed when the stream began."""
    tile_px: int | None
    """Side of the tiles that it decodes, fixed as well; None: whole pictures."""
    alignment: Tensor | None
    """(2, 3): how the last face that was seen is aligned, or with Config.alignment "first" the first one of a shot, in
    the window of that time; None before the first."""
    features: Tensor
    """(n, C): of the frames that windows will still read, from frame `first_frame` on."""
    first_frame: int
    num_frames: int
    """Frames whose features have arrived, the one before the first included."""
    rows: Rows
    """Latents, one row per step."""
    known: Tensor
    """(1, Z, n, h, w): where differences are drawn, the bent reference's latents, from latent `first_known` on."""
    first_known: int
    memories: dict[str, Memory]
    """What prediction remembers, by the number of the window."""
    vae: list[VaeCache]
    """One per tile."""
    tiny_vae: list[TinyVaeCache]


class FlashPortrait(Engine[Config, Options, Motion, FlashPortraitPortrait, FlashPortraitState]):
    """The family `flashportrait`."""

    family: ClassVar[str] = "flashportrait"
    config_type = Config
    options_type = Options
    state_type = FlashPortraitState
    motion_type = Motion
    network_methods = ()

    def __init__(self, config: Config, networks: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(config, networks, dtype)
        # The oldest frame of a window waits for the newest.
        delay = TIME_FACTOR * config.window_latents - 1
        self.stream = StreamSpec(driving="video", chunk_frames=1, delay_frames=delay, frame_rate_hz=None)

    @staticmethod
    def build_networks(config: Config) -> nn.Module:
        try:
            from vivant.engines.flashportrait.networks import Networks
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in ("diffusers", "transformers"):
                raise
            raise SetupError(
                f"flashportrait needs {error.name.split('.')[0]}; run `python -m pip install 'vivant[diffusion]'`."
            ) from error
        return Networks(config)

    @staticmethod
    def tiny_configs() -> Mapping[str, Config]:
        return {"tiny": tiny(), "differences": tiny_differences()}

    @property
    def motion_kind(self) -> str:
        placed = "-placed" if self.config.drawing == "differences" else ""
        return f"pd-fgc-{self.config.face_features.mouth_channels}{placed}"

    @property
    def crop_size_px(self) -> int:
        return self.config.image_size

    @property
    def crop(self) -> CropSpec:
        return CropSpec(scale=self.config.crop_scale, vy=self.config.crop_vy)

    @torch.no_grad()
    def encode_reference(self, reference: Tensor) -> FlashPortraitPortrait:
        if len(reference) != 1:
            raise InputError(f"flashportrait animates one picture of a person, got {len(reference)}")
        picture, networks = self._fitted(reference), self._networks
        differs, size = self.config.drawing == "differences", self.config.face_features.image_size
        source = None
        if differs:
            own, _ = next_alignment("each", None, as_pixels(picture[0]).cpu().numpy(), size)
            source = Source(picture * 2 - 1, in_sides(own, size).to(self.device)[None])
        with precision.computing(self.device, self.dtype):
            conditioning = None if differs else masked(self._known(picture))
            tokens = networks.image_encoder(picture)
        return FlashPortraitPortrait(image_tokens=tokens.float(), conditioning=conditioning, source=source)

    def _known(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W) -> what is known of every latent of a window, (1, Z, window, h, w)."""
        networks, cells, count = self._networks, self.config.latent_size, self.config.window_latents
        tiling = _tiling(ENCODED_TILE_PX if self.config.image_size > ENCODED_WHOLE_PX else None)
        caches = [VaeCache() for _ in range(tiling.count(cells, cells))]
        first = in_tiles(networks.vae.encode_piece, picture[:, :, None] * 2 - 1, caches, tiling, SPACE_FACTOR)
        grey = torch.zeros_like(picture)[:, :, None].expand(-1, -1, TIME_FACTOR, -1, -1)
        rest = [
            in_tiles(networks.vae.encode_piece, grey, caches, tiling, SPACE_FACTOR) for _ in range(count - 1)
        ]
        return torch.cat([first, *rest], 2).float()

    def frame_size(self, portrait: FlashPortraitPortrait) -> tuple[int, int]:
        return self.config.image_size, self.config.image_size

    def start(
        self, portrait: FlashPortraitPortrait, options: Options | None = None, seed: int = 0
    ) -> FlashPortraitState:
        options, config = options if options is not None else Options(), self.config
        if options.decoder == "tiny" and config.tiny_vae is None:
            raise InputError("this checkpoint has no tiny decoder; leave --decoder out")
        if options.sampler != "euler" and config.distilled:
            raise InputError("these weights were distilled to steps of their own; leave --sampler out")
        layout = Layout(
            size=config.window_latents,
            overlap=config.overlap_latents,
            num_steps=options.num_steps or config.num_steps,
            fusion=options.fusion,
        )
        cells = config.latent_size
        num_tiles = _tiling(options.tile_px).count(cells, cells)
        return FlashPortraitState(
            portrait=portrait,
            options=options,
            generator=torch.Generator(device=self.device).manual_seed(seed),
            layout=layout,
            sampler=options.sampler,
            decoder=options.decoder,
            tile_px=options.tile_px,
            alignment=None,
            features=torch.zeros(0, config.num_features, device=self.device),
            first_frame=0,
            num_frames=0,
            rows=new_rows(layout, (config.vae.latent_channels, cells, cells), self.device),
            known=torch.zeros(1, config.vae.latent_channels, 0, cells, cells, device=self.device),
            first_known=0,
            memories={},
            vae=[VaeCache() for _ in range(num_tiles)],
            tiny_vae=[TinyVaeCache() for _ in range(num_tiles)],
        )

    def encode_motion(self, state: FlashPortraitState, driving: Tensor) -> Motion:
        return self.see(state, driving)

    @torch.no_grad()
    def see(
        self,
        state: FlashPortraitState,
        driving: Tensor,
        windows: Tensor | None = None,
        openness: Tensor | None = None,
    ) -> Motion:
        size = self.config.face_features.image_size
        places: list[Any] = [(1.0, 0.0, 0.0)] * len(driving) if windows is None else windows.tolist()
        faces, placements = [], []
        for frame, place in zip(driving, places, strict=True):
            pixels = as_pixels(frame).cpu().numpy()
            last = None if state.alignment is None else state.alignment.cpu().numpy()
            matrix, following = next_alignment(self.config.alignment, last, pixels, size, place)
            state.alignment = None if following is None else torch.from_numpy(following)
            faces.append(aligned_face(pixels, matrix, size))
            if self.config.drawing == "differences":
                # The first face was looked for just now.
                own = matrix if last is None else next_alignment("each", matrix, pixels, size)[0]
                placements.append(placement(in_sides(matrix, size), in_sides(own, size)).flatten())
        features = self._networks.face_features(torch.cat(faces).to(self.device))
        return Motion(
            torch.cat([features, torch.stack(placements).to(self.device)], 1) if placements else features
        )

    def restart(self, state: FlashPortraitState) -> None:
        if self.config.alignment == "first":
            state.alignment = None

    @torch.no_grad()
    def render(self, state: FlashPortraitState, motion: Motion) -> Tensor:
        frames = [self._nothing(state)]
        for row in motion.features.split(1):
            # A latent is four frames, and the very first is one: the driver's first frame, twice.
            copies = 2 if state.num_frames == 0 else 1
            state.features = torch.cat([state.features, row.expand(copies, -1)])
            state.num_frames += copies
            frames.append(self._advance(state))
        return torch.cat(frames)

    @torch.no_grad()
    def flush(self, state: FlashPortraitState) -> Tensor:
        frames = [self._nothing(state)]
        while (state.num_frames - 1) % TIME_FACTOR:
            frames.append(self.render(state, Motion(state.features[-1:])))
        state.rows.ended = True
        frames.append(self._advance(state))
        return torch.cat(frames)

    def _advance(self, state: FlashPortraitState) -> Tensor:
        """All steps that have become possible, and the frames (T, 3, H, W) that they finish."""
        rows, layout, config = state.rows, state.layout, self.config
        arrived = 1 + (state.num_frames - 1) // TIME_FACTOR
        if arrived == rows.num_latents and not rows.ended:
            return self._nothing(state)
        cells = config.latent_size
        for _ in range(arrived - rows.num_latents):
            shape = (1, config.vae.latent_channels, 1, cells, cells)
            arrive(rows, torch.randn(shape, generator=state.generator, device=self.device))
        if config.drawing == "differences":
            self._bend(state, arrived)
        times = sampler_times(state.sampler, layout.num_steps, config.step_shift, distilled=config.distilled)
        denoiser: tuple[int, Denoiser] | None = None
        for index, window, step in work(rows, layout):
            if denoiser is None or denoiser[0] != index:
                denoiser = index, self._denoiser(state, window)
            memory = state.memories.setdefault(str(index), Memory())
            x = read(rows, window, step)
            with precision.computing(self.device, self.dtype):
                velocity = denoiser[1].velocity(x, step, times[step], memory)
            span = times[step], times[step + 1]
            write(rows, layout, window, step, stepped(state.sampler, x, velocity, span, memory.history))
            if step == layout.num_steps - 1:
                del state.memories[str(index)]
        latents = take(rows, layout)
        oldest = TIME_FACTOR * oldest_needed(rows)
        state.features = state.features[oldest - state.first_frame :].clone()
        state.first_frame = oldest
        return self._decoded(state, latents)

    def _bend(self, state: FlashPortraitState, arrived: int) -> None:
        """Add what is known of the latents that arrived."""
        source, present = state.portrait.source, state.first_known + state.known.shape[2]
        assert source is not None
        oldest = max(0, TIME_FACTOR * present - 3) - state.first_frame
        newest = TIME_FACTOR * (arrived - 1) + 1 - state.first_frame
        placements = state.features[oldest:newest, -NUM_PLACEMENT:].unflatten(1, (2, 3))[None]
        frames = bent(source.picture, source.alignment, placements)
        latents = self._networks.blocks.encoded(frames, starts=present == 0)
        state.known = torch.cat([state.known, latents], 2)

    def _known_of(self, state: FlashPortraitState, latents: range) -> Tensor:
        return state.known[:, :, latents.start - state.first_known : latents.stop - state.first_known]

    def _denoiser(self, state: FlashPortraitState, window: range) -> Denoiser:
        networks, options, portrait = self._networks, state.options, state.portrait
        start = TIME_FACTOR * window.start - state.first_frame
        features = state.features[start : start + TIME_FACTOR * (len(window) - 1) + 1]
        with precision.computing(self.device, self.dtype):
            tokens = networks.portrait_encoder.told(features[None])[0]
        scene = list(PROMPTS).index(options.scene)
        if portrait.conditioning is not None:
            reference = portrait.conditioning[:, :, : len(window)]
        else:
            reference = masked(networks.blocks.told(self._known_of(state, window)))
        inputs = Inputs(
            reference=reference,
            image=portrait.image_tokens,
            text=networks.prompts[scene : scene + 1],
            negative=networks.prompts[-1:],
            expression=tokens,
        )
        guidance, settings = guidance_of(self.config, options), PredictionSettings.of(options)
        return Denoiser(transformer=networks.transformer, inputs=inputs, guidance=guidance, settings=settings)

    def _decoded(self, state: FlashPortraitState, latents: Tensor) -> Tensor:
        if not latents.shape[2]:
            return self._nothing(state)
        networks, tiling = self._networks, _tiling(state.tile_px)
        if self.config.drawing == "differences":
            taken = state.rows.num_taken
            latents = latents + self._known_of(state, range(taken - latents.shape[2], taken))
            needed = min(taken, oldest_needed(state.rows))
            state.known, state.first_known = state.known[:, :, needed - state.first_known :].clone(), needed
        with precision.computing(self.device, self.dtype):
            if state.decoder == "tiny":
                assert networks.tiny_vae is not None
                starts = not state.tiny_vae[0].past
                video = in_tiles(networks.tiny_vae.decode_piece, latents, state.tiny_vae, tiling)
            else:
                starts = state.vae[0].is_empty
                video = in_tiles(networks.vae.decode_piece, latents, state.vae, tiling)
        # The first frame of all is the reference's.
        frames = video[0].movedim(1, 0)[1 if starts else 0 :].float()
        return (frames / 2 + 0.5).clamp(0, 1)

    def _nothing(self, state: FlashPortraitState) -> Tensor:
        return torch.zeros(0, 3, *self.frame_size(state.portrait), device=self.device)

    @property
    def _networks(self) -> Networks:
        return cast("Any", self.networks)

    def _fitted(self, pictures: Tensor) -> Tensor:
        """Pictures (M, 3, H, W) of any size at the side of the config, as float32."""
        side = self.config.image_size
        pictures = pictures.to(self.device, torch.float32)
        if pictures.shape[-2:] == (side, side):
            return pictures
        return F.interpolate(
            pictures, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        ).clamp(0, 1)


def _tiling(tile_px: int | None) -> Tiling:
    return Tiling(size=None if tile_px is None else tile_px // SPACE_FACTOR)
