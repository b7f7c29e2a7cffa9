"""Quality against time of every way to predict denoising steps, on one window of FlashPortrait.

    python benchmarks/flashportrait_prediction.py [--size medium] [--device cpu] [--checkpoint FOLDER] [--out FOLDER]

Every case starts from the same noise; its error is the relative difference (root sums of squares) of final latents and
of decoded frames to those of the run that computes every step. Random weights say how much arithmetic a method saves
and that it is stable, and little about the trajectories of trained weights; give --checkpoint for those.
Writes prediction.json and prediction.svg.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor

from vivant import checkpoint
from vivant.diffusion.flow_match import euler_step
from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import Config, published, tiny
from vivant.engines.flashportrait.config_networks import TransformerConfig, wan_tiny_vae
from vivant.engines.flashportrait.denoising import Denoiser, Inputs, Memory, PredictionSettings
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.networks.vae import VideoVae
from vivant.engines.flashportrait.sampling import Guidance, step_times
from vivant.runtime import precision

COLOURS = {
    "taylor": "#c33",
    "adaptive": "#d80",
    "newton": "#393",
    "threshold": "#777",
    "controlled": "#05c",
}


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


@dataclass(frozen=True)
class Result:
    """One case."""

    method: str
    level: str
    horizon: int
    order: int
    bound: float
    computed_steps: int
    seconds: float
    latent_error: float
    frame_error: float
    memory_mb: float


def cases() -> list[PredictionSettings]:
    base = PredictionSettings(method="none", horizon=1, order=0, level="velocity", bound=1.0)
    out = [base]
    for method in ("taylor", "adaptive", "newton"):
        for horizon, order in ((2, 1), (2, 3), (5, 1), (5, 3), (8, 3)):
            out.append(replace(base, method=method, horizon=horizon, order=order, level="hidden"))
        out.append(replace(base, method=method, horizon=5, order=3, level="module"))
        out.append(replace(base, method=method, horizon=5, order=3, level="velocity"))
    for bound in (0.05, 0.1, 0.2, 0.4, 0.8):
        out.append(replace(base, method="threshold", horizon=8, level="hidden", bound=bound))
    for level in ("hidden", "module"):
        for bound in (0.02, 0.05, 0.1, 0.2):
            out.append(replace(base, method="controlled", horizon=8, order=3, level=level, bound=bound))
    return out


class Window:
    """One window of an engine, with random conditions."""

    def __init__(self, engine: FlashPortrait, seed: int = 0):
        config = engine.config
        sizes, cells, count = config.transformer, config.latent_size, config.window_latents
        generator = torch.Generator().manual_seed(seed)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(engine.device)

        tokens = 4 * config.portrait_encoder.tokens_per_frame + 1
        self.engine = engine
        self.times = step_times(config.num_steps, config.step_shift, distilled=config.distilled)
        self.noise = noise(1, sizes.latent_channels, count, cells, cells)
        self.inputs = Inputs(
            reference=noise(1, 4 + sizes.latent_channels, count, cells, cells),
            image=noise(1, config.image_encoder.num_tokens, sizes.image_channels),
            text=noise(1, sizes.num_text_tokens, sizes.text_channels),
            negative=noise(1, sizes.num_text_tokens, sizes.text_channels),
            expression=noise(count, tokens, sizes.expression_channels),
        )

    @torch.no_grad()
    def draw(self, settings: PredictionSettings) -> tuple[Tensor, Memory, float]:
        """Latents, what was remembered, and seconds."""
        engine = self.engine
        networks: Any = engine.networks
        denoiser = Denoiser(
            transformer=networks.transformer,
            inputs=self.inputs,
            guidance=Guidance(expression=4.0, text=1.0),
            settings=settings,
        )
        memory, x = Memory(), self.noise
        begin = _now(engine.device)
        for step, (time, following) in enumerate(pairwise(self.times)):
            with precision.computing(engine.device, engine.dtype):
                velocity = denoiser.velocity(x, step, time, memory)
            x = euler_step(x, velocity, time, following)
        return x, memory, _now(engine.device) - begin

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        vae: VideoVae = self.engine.networks.vae  # type: ignore[assignment]
        with precision.computing(self.engine.device, self.engine.dtype):
            return vae.decode_piece(latents, VaeCache())


def _now(device: torch.device) -> float:
    """Seconds: of this process on a CPU, which may be busy with others; of the wall on a GPU, once it is done."""
    if device.type != "cuda":
        return process_time()
    torch.cuda.synchronize(device)
    return perf_counter()


def relative(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


def make_engine(size: str, folder: Path | None, device: torch.device) -> FlashPortrait:
    dtype = precision.choose_dtype("auto" if device.type == "cuda" else "float32", device)
    if folder is not None:
        config, networks = checkpoint.load(folder, Config, FlashPortrait.build_networks, device=device)
        return FlashPortrait(config, precision.place(networks, device, dtype), dtype)
    config = {"tiny": tiny, "medium": medium, "full": published}[size]()
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(dtype if size == "full" else torch.float32)
        networks = FlashPortrait.build_networks(config)
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            if (
                name.startswith("transformer.") and ".emo_" in name
            ):  # zero in untrained weights, where the driver would say nothing
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return FlashPortrait(config, precision.place(networks, device, dtype), dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("tiny", "medium", "full"), default="medium")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--levels", default="velocity,hidden,module", help="of prediction, with commas")
    parser.add_argument("--out", type=Path, default=Path("."))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    window = Window(
        make_engine(arguments.size, arguments.checkpoint, precision.choose_device(arguments.device))
    )
    results: list[Result] = []
    full_latents = full_frames = torch.zeros(())
    window.draw(replace(cases()[0], method="taylor", horizon=99))  # first calls are slow
    for settings in cases():
        if settings.method != "none" and settings.level not in arguments.levels.split(","):
            continue
        latents, memory, seconds = window.draw(settings)
        frames = window.decode(latents)
        if settings.method == "none":
            full_latents, full_frames = latents, frames
        results.append(
            Result(
                settings.method,
                settings.level,
                settings.horizon,
                settings.order,
                settings.bound,
                memory.num_computed,
                seconds,
                relative(latents, full_latents),
                relative(frames, full_frames),
                (memory.anchors.num_bytes() + memory.probes.num_bytes()) / 1e6,
            )
        )
        print(line(results[-1], results[0]), flush=True)
    (arguments.out / "prediction.json").write_text(
        json.dumps([asdict(result) for result in results], indent=1)
    )
    (arguments.out / "prediction.svg").write_text(drawn(results))


def line(result: Result, full: Result) -> str:
    return (
        f"{result.method:10} {result.level:8} K={result.horizon} n={result.order} bound={result.bound:4.2f} "
        f"{result.computed_steps:3} steps {result.seconds:7.2f} s ({full.seconds / result.seconds:4.1f}x) "
        f"latents {result.latent_error:.4f} frames {result.frame_error:.4f} {result.memory_mb:8.1f} MB"
    )


def drawn(results: list[Result]) -> str:
    """Speed-up to the right, frame error upwards (logarithmic): lower right is better."""
    full, rest = results[0], [result for result in results[1:] if result.frame_error > 0]
    width, height, margin = 640, 420, 50
    fastest = max(full.seconds / result.seconds for result in rest)
    logs = [torch.tensor(result.frame_error).log10().item() for result in rest]
    low, high = min(logs), max(logs)
    marks = []
    for result, log in zip(rest, logs, strict=True):
        x = margin + (width - 2 * margin) * (full.seconds / result.seconds) / fastest
        y = height - margin - (height - 2 * margin) * (log - low) / max(high - low, 1e-9)
        shape = {"hidden": "5", "module": "8", "velocity": "3"}[result.level]
        marks.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{shape}" fill="{COLOURS[result.method]}" fill-opacity="0.7">'
            f"<title>{line(result, full)}</title></circle>"
        )
    words = [
        f'<text x="{margin}" y="{20 + 15 * i}" fill="{colour}">{name}</text>'
        for i, (name, colour) in enumerate(COLOURS.items())
    ]
    words.append(f'<text x="{width - 260}" y="{height - 10}">speed-up, 0 to {fastest:.1f}x</text>')
    words.append(
        f'<text x="5" y="{height - margin}">{10**low:.4f}</text><text x="5" y="{margin}">{10**high:.4f}</text>'
    )
    body = "\n".join([*marks, *words])
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="12">{body}</svg>\n'


if __name__ == "__main__":
    main()
