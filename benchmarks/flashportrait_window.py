"""One window of FlashPortrait at several sizes: drawn, decoded, its arithmetic counted. For flashportrait_prediction.

Letters as in the family: B guidance branches, Z latent channels, n latents of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from vivant import checkpoint
from vivant.diffusion.flow_match import euler_step
from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import Config, Options, published, small, tiny
from vivant.engines.flashportrait.config_networks import TransformerConfig, wan_tiny_vae
from vivant.engines.flashportrait.denoising import Denoiser, Inputs, Memory, PredictionSettings, ask
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.motion import Motion
from vivant.engines.flashportrait.networks.portrait_encoder import tokens_per_latent
from vivant.engines.flashportrait.networks.vae import VideoVae
from vivant.engines.flashportrait.sampling import Guidance, step_times
from vivant.runtime import precision
from vivant.session import Session

GUIDANCE = Guidance(expression=4.0, text=1.0)
"""The published strength: two branches."""


def medium() -> Config:
    """Heads, channels and tokens per latent of the published transformer, six layers of width 256: for a CPU."""
    sizes = TransformerConfig(
        num_layers=6,
        num_heads=2,
        head_channels=128,
        feed_forward_channels=1024,
        latent_channels=16,
        text_channels=64,
        num_text_tokens=32,
        image_channels=16,
        expression_channels=16,
        frequency_channels=256,
        answers="velocity",
        motion_tokens=None,
        learned_places=None,
    )
    vae = replace(tiny().vae, latent_mean=published().vae.latent_mean, latent_std=published().vae.latent_std)
    return replace(
        tiny(),
        image_size=128,
        window_latents=6,
        num_steps=30,
        transformer=sizes,
        vae=vae,
        tiny_vae=wan_tiny_vae(),
    )


def wide() -> Config:
    """Two blocks exactly as published (width 5120, 40 heads, 425 M parameters each), and few tokens: for a CPU."""
    few = medium()
    sizes = replace(
        published().transformer, num_layers=2, num_text_tokens=32, text_channels=64, image_channels=16
    )
    encoder = replace(few.portrait_encoder, token_channels=sizes.expression_channels)
    return replace(few, image_size=32, transformer=sizes, portrait_encoder=encoder)


NUM_DECODED = 3
"""Latents of which frames are compared: 9 frames."""

SIZES = {"tiny": tiny, "small": small, "medium": medium, "wide": wide, "full": published}
NARROW = ("wide", "full")
"""Sizes that are made and run in bfloat16, since they hold gigabytes."""


@dataclass(frozen=True)
class Drawn:
    """What came of one window."""

    latents: Tensor
    memory: Memory
    processor_seconds: float
    wall_seconds: float


class Window:
    """One window of an engine, with random conditions."""

    def __init__(self, engine: FlashPortrait, seed: int):
        config = engine.config
        shape = (1, config.transformer.latent_channels, config.window_latents, *[config.latent_size] * 2)
        self.engine = engine
        self.noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(engine.device)
        self.inputs = random_inputs(config, engine.device, seed + 1)

    @torch.no_grad()
    def draw(self, settings: PredictionSettings, num_steps: int) -> Drawn:
        engine, memory, x = self.engine, Memory(), self.noise
        networks: Any = engine.networks
        denoiser = Denoiser(
            transformer=networks.transformer, inputs=self.inputs, guidance=GUIDANCE, settings=settings
        )
        times = step_times(num_steps, engine.config.step_shift, distilled=engine.config.distilled)
        begin = _now(engine.device)
        for step, (time, following) in enumerate(pairwise(times)):
            with precision.computing(engine.device, engine.dtype):
                velocity = denoiser.velocity(x, step, time, memory)
            x = euler_step(x, velocity, time, following)
        processor, wall = (end - start for start, end in zip(begin, _now(engine.device), strict=True))
        return Drawn(x, memory, processor, wall)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The first frames (1, 3, T, H, W); the VAE would take longer than most of what is compared."""
        vae: VideoVae = self.engine.networks.vae  # type: ignore[assignment]
        with precision.computing(self.engine.device, self.engine.dtype):
            return vae.decode_piece(latents[:, :, :NUM_DECODED], VaeCache())


@torch.no_grad()
def stream_seconds(engine: FlashPortrait, options: Options, num_frames: int, seed: int) -> float:
    """From a driver's motion to pictures, as `vivant animate` does it: windows, fading and decoding; processor time."""
    generator = torch.Generator().manual_seed(seed)
    size = engine.config.image_size
    portrait = engine.prepare(torch.rand(3, size, size, generator=generator), face=None)
    channels = 42 + engine.config.face_features.mouth_channels
    session = Session(engine, portrait, options)
    begin, _ = _now(engine.device)
    frames = session.push_motion(Motion(torch.randn(num_frames, channels, generator=generator)))
    frames += session.flush()
    assert len(frames) == num_frames
    return _now(engine.device)[0] - begin


def random_inputs(config: Config, device: torch.device, seed: int) -> Inputs:
    """Conditions of one window, of unit variance."""
    sizes, count, cells = config.transformer, config.window_latents, config.latent_size
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    return Inputs(
        reference=noise(1, 4 + sizes.latent_channels, count, cells, cells),
        image=noise(1, config.image_encoder.num_tokens, sizes.image_channels),
        text=noise(1, sizes.num_text_tokens, sizes.text_channels),
        negative=noise(1, sizes.num_text_tokens, sizes.text_channels),
        expression=noise(
            count, tokens_per_latent(config.portrait_encoder.tokens_per_frame), sizes.expression_channels
        ),
    )


def make_engine(
    size: str, folder: Path | None, device: torch.device, seed: int, num_blocks: int | None = None
) -> FlashPortrait:
    """A checkpoint's engine, or one of random weights, made on the device; with so many blocks or all."""
    if folder is not None:
        dtype = precision.choose_dtype("auto" if device.type == "cuda" else "float32", device)
        config, networks = checkpoint.load(folder, Config, FlashPortrait.build_networks, device=device)
        return FlashPortrait(config, precision.place(networks, device, dtype), dtype)
    narrow = size in NARROW or device.type == "cuda"
    dtype = torch.bfloat16 if narrow else torch.float32
    config = SIZES[size]()
    if num_blocks is not None:
        config = replace(config, transformer=replace(config.transformer, num_layers=num_blocks))
    torch.manual_seed(seed)
    with torch.device(device):
        torch.set_default_dtype(dtype if size in NARROW else torch.float32)
        networks = FlashPortrait.build_networks(config)
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            # Zero in untrained weights, where the driver would say nothing.
            if name.startswith("transformer.") and ".emo_" in name:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return FlashPortrait(config, precision.place(networks, device, dtype), dtype)


def _now(device: torch.device) -> tuple[float, float]:
    """Seconds of this process's processor and of the wall; on a GPU, once it is done, both of the wall."""
    if device.type != "cuda":
        return process_time(), perf_counter()
    torch.cuda.synchronize(device)
    return perf_counter(), perf_counter()


@dataclass(frozen=True)
class Arithmetic:
    """Floating point operations in matrix products, attention and convolutions; elementwise work is not in it."""

    enter: float
    """Of a step before the blocks: patches, time, words."""
    block: float
    num_blocks: int
    leave: float
    """Of a step after the blocks."""
    decode: float
    """Of a latent, by the VAE."""

    @property
    def step(self) -> float:
        """Of a computed step."""
        return self.enter + self.num_blocks * self.block + self.leave

    def predicted_step(self, settings: PredictionSettings) -> float:
        """Of a step whose blocks are predicted."""
        probe = self.block if settings.method == "controlled" else 0.0
        if settings.method != "threshold" and settings.level == "velocity":
            return self.enter + probe if probe else 0.0
        return self.enter + probe + self.leave

    def window(self, settings: PredictionSettings, num_computed: int, num_steps: int) -> float:
        """Of all steps. Where a probe judges its own prediction, that is finished too."""
        judged = settings.method == "controlled" and settings.level != "velocity"
        guesses = (num_computed - 1) * self.leave if judged else 0.0
        predicted = (num_steps - num_computed) * self.predicted_step(settings)
        return num_computed * self.step + predicted + guesses


def count_arithmetic(config: Config) -> Arithmetic:
    """Of any size, the published too: on tensors without content, without weights."""
    with FakeTensorMode(), torch.no_grad():
        networks: Any = FlashPortrait.build_networks(config).eval()
        inputs = random_inputs(config, torch.device("cpu"), 0)
        x = torch.zeros(1, config.vae.latent_channels, config.window_latents, *[config.latent_size] * 2)
        question = ask(networks.transformer, x, 0.5, inputs, GUIDANCE.branches)
        counts = []
        for work in (
            lambda: question.stream,
            lambda: question.first_block,
            lambda: networks.transformer.leave(question.first_block[0], question.stream),
        ):
            counts.append(_counted(work))
        cache = VaeCache()
        for _ in range(2):  # the first latent is one frame, the second the first of four
            decode = _counted(lambda: networks.vae.decode_piece(x[:, :, :1], cache))
    enter, block, leave = counts
    return Arithmetic(enter, block, config.transformer.num_layers, leave, decode)


def _counted(work: Any) -> float:
    aten: Any = torch.ops.aten

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop(query, key, value)

    mapping = {aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return float(counter.get_total_flops())
