"""Quality against work and time of every way to predict denoising steps, on one window of FlashPortrait.

    python benchmarks/flashportrait_prediction.py [--size small] [--seed 0] [--device cpu] [--out FOLDER]
    python benchmarks/flashportrait_prediction.py --checkpoint FOLDER

Sizes: small (6 blocks of width 192), medium, wide (two blocks exactly as published, bfloat16), full (a GPU with 80 GB).
Every case starts from the same noise; its error is the relative difference (root sums of squares) of final latents and
of decoded frames to those of the run that computes every step, which is the first and of which all ratios are.
`work` counts matrix products, attention and convolutions; at the published size it is what the same computed steps
would be there. Random weights say how much arithmetic a method saves and that it is stable, and little about the
trajectories of trained weights; give --checkpoint for those. Writes prediction.json, .md and .svg.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from html import escape
from pathlib import Path

import torch
from flashportrait_window import (
    SIZES,
    Arithmetic,
    Drawn,
    Window,
    count_arithmetic,
    make_engine,
    stream_seconds,
)
from torch import Tensor

from vivant.engines.flashportrait.config import Level, Options, Prediction, published
from vivant.engines.flashportrait.denoising import PredictionSettings
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.runtime import precision

FULL = PredictionSettings(method="none", horizon=1, order=0, level="velocity", bound=1.0)
EXTRAPOLATING: tuple[Prediction, ...] = ("taylor", "adaptive", "newton")
LEVELS: tuple[Level, ...] = ("velocity", "hidden", "module")
COLOURS = {
    "none": "#000",
    "taylor": "#c33",
    "adaptive": "#d80",
    "newton": "#393",
    "threshold": "#777",
    "controlled": "#05c",
}


WIDTH, HEIGHT, MARGIN = 720, 440, 46
SPEEDS = (1, 2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Case:
    """A way to come from noise to latents."""

    settings: PredictionSettings
    num_steps: int

    def __str__(self) -> str:
        own = self.settings
        if own.method == "none":
            return f"{self.num_steps} steps, all computed"
        rules = {"threshold": f"bound {own.bound:g}", "controlled": f"bound {own.bound:g}, n<={own.order}"}
        return f"{own.method}, {own.level}, {rules.get(own.method, f'K={own.horizon}, n={own.order}')}"


@dataclass(frozen=True)
class Result:
    """One case; work and seconds are parts of those of the full computation."""

    case: Case
    computed_steps: int
    work: float
    work_published: float
    processor: float
    wall: float
    seconds: float
    """Of the wall, all steps."""
    latent_error: float
    frame_error: float
    memory_mb: float


def cases(num_steps: int) -> Iterator[Case]:
    """The first computes every step."""
    for count in (num_steps, num_steps // 2, -(-num_steps // 5), 4):
        yield Case(FULL, count)
    for method in EXTRAPOLATING:
        at = replace(FULL, method=method, level="hidden")
        for horizon, order in ((2, 1), (2, 3), (5, 1), (5, 2), (5, 3), (8, 1), (8, 3)):
            yield Case(replace(at, horizon=horizon, order=order), num_steps)
        yield Case(replace(at, horizon=5, order=3, level="velocity"), num_steps)
        for order in (1, 3):
            yield Case(replace(at, horizon=5, order=order, level="module"), num_steps)
    for bound in (0.05, 0.1, 0.2, 0.4):
        yield Case(replace(FULL, method="threshold", horizon=8, level="hidden", bound=bound), num_steps)
    for level in LEVELS:
        for bound in (0.05, 0.1, 0.2):
            settings = replace(FULL, method="controlled", horizon=8, order=3, bound=bound)
            yield Case(replace(settings, level=level), num_steps)


@cache
def count_arithmetic_once() -> Arithmetic:
    """Of the published size."""
    return count_arithmetic(published())


def relative(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


def measured(window: Window, chosen: list[Case]) -> Iterator[Result]:
    """Results in the order of the cases."""
    here, there = count_arithmetic(window.engine.config), count_arithmetic_once()
    full: Drawn | None = None
    full_frames = torch.zeros(())
    for case in chosen:
        drawn = window.draw(case.settings, case.num_steps)
        frames = window.decode(drawn.latents)
        if full is None:
            full, full_frames = drawn, frames
        computed = drawn.memory.num_computed

        def share(cost: Arithmetic, case: Case = case, computed: int = computed) -> float:
            whole = chosen[0].num_steps * cost.step
            return cost.window(case.settings, computed, case.num_steps) / whole

        yield Result(
            case,
            computed,
            share(here),
            share(there),
            drawn.processor_seconds / full.processor_seconds,
            drawn.wall_seconds / full.wall_seconds,
            drawn.wall_seconds,
            relative(drawn.latents, full.latents),
            relative(frames, full_frames),
            drawn.memory.num_bytes() / 1e6,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--num-steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--blocks", type=int, help="Of random weights: fewer blocks than the size has.")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--cases", default="", help="only those whose name fits this pattern, and the first")
    parser.add_argument("--frames", type=int, default=0, help="also stream so many frames, end to end")
    parser.add_argument("--out", type=Path, default=Path("."))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = precision.choose_device(arguments.device)
    engine = make_engine(arguments.size, arguments.checkpoint, device, arguments.seed, arguments.blocks)
    window = Window(engine, arguments.seed)
    wanted = cases(arguments.num_steps)
    chosen = [next(wanted), *(case for case in wanted if re.search(arguments.cases, str(case)))]
    window.draw(FULL, 1)  # first calls are slow
    results: list[Result] = []
    print(HEADER, flush=True)
    for result in measured(window, chosen):
        results.append(result)
        print(line(result), flush=True)
        save(results, {}, arguments)
    streams = dict(streamed(window.engine, arguments))
    for name, seconds in streams.items():
        print(
            f"{arguments.frames} frames end to end, {name}: {seconds:.1f} s ({streams['none'] / seconds:.2f}x)"
        )
    save(results, streams, arguments)


def save(results: list[Result], streams: dict[str, float], arguments: argparse.Namespace) -> None:
    """All that was found so far: time on a GPU may end in between."""
    data = {
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "published_arithmetic": asdict(count_arithmetic_once()),
        "stream_seconds": streams,
        "results": [asdict(result) | {"name": str(result.case)} for result in results],
    }
    (arguments.out / "prediction.json").write_text(json.dumps(data, indent=1))
    (arguments.out / "prediction.md").write_text("\n".join([HEADER, *map(line, results)]) + "\n")
    if len(results) > 1:
        (arguments.out / "prediction.svg").write_text(picture(results))


def streamed(engine: FlashPortrait, arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Seconds of whole streams: what is not predicted, decoding above all, takes as long as ever."""
    methods: tuple[Prediction, ...] = ("none", "taylor", "newton")
    for method in methods if arguments.frames else ():
        options = Options(prediction=method, num_steps=arguments.num_steps)
        yield method, stream_seconds(engine, options, arguments.frames, arguments.seed)


HEADER = """| way | computed steps | work | work, published size | processor | wall | latents | frames | kept |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def line(result: Result) -> str:
    """A row of the table; parts of the full computation as how many times less they are."""
    ratios = (result.work, result.work_published, result.processor, result.wall)
    return (
        f"| {result.case} | {result.computed_steps} | {' | '.join(f'{1 / part:.2f}x' for part in ratios)} | "
        f"{result.latent_error:.4f} | {result.frame_error:.4f} | {result.memory_mb:.2f} MB |"
    )


def picture(results: list[Result]) -> str:
    """Speed-up to the right, latents' error upwards (both logarithmic): lower right is better. An SVG file."""
    rest = [result for result in results if result.latent_error > 0]
    errors = [result.latent_error for result in rest]
    marks = [_line(x, low, x, high, f"{speed}x") for speed in SPEEDS for x, low, high in [_across(speed)]]
    grid = [10.0**power for power in range(-5, 1) if min(errors) / 2 < 10.0**power < 2 * max(errors)]
    span = (math.log10(min([*errors, *grid])), math.log10(max([*errors, *grid])))
    for error in grid:
        y = _height(error, span)
        marks.append(_line(MARGIN, y, WIDTH - MARGIN, y, f"{error:g}"))
    for result in rest:
        x, own = _across(1 / result.processor)[0], result.case.settings
        radius = {"velocity": 3, "hidden": 5, "module": 8}[own.level]
        marks.append(
            f'<circle cx="{x:.0f}" cy="{_height(result.latent_error, span):.0f}" r="{radius}" '
            f'fill="{COLOURS[own.method]}" fill-opacity="0.7"><title>{escape(line(result))}</title></circle>'
        )
    for row, (name, colour) in enumerate(COLOURS.items()):
        words = "fewer steps" if name == "none" else name
        marks.append(f'<text x="{MARGIN + 10}" y="{MARGIN + 15 * row}" fill="{colour}">{words}</text>')
    marks.append(
        f'<text x="{MARGIN}" y="{HEIGHT - 8}">speed-up (processor time) to the right, relative error of latents '
        "upwards; small: velocity, middle: hidden, large: module</text>"
    )
    body = "\n".join(marks)
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    background = f'<rect {size} fill="#fff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="12" font-family="sans-serif">'
    return f"{head}\n{background}\n{body}\n</svg>\n"


def _across(speed: float) -> tuple[float, float, float]:
    """Where a speed-up lies, and both ends of its grid line."""
    share = math.log(max(speed, SPEEDS[0]) / SPEEDS[0]) / math.log(SPEEDS[-1] / SPEEDS[0])
    return MARGIN + (WIDTH - 2 * MARGIN) * share, HEIGHT - MARGIN, MARGIN / 2


def _height(error: float, span: tuple[float, float]) -> float:
    low, high = span
    share = (math.log10(error) - low) / max(high - low, 1e-9)
    return HEIGHT - MARGIN - (HEIGHT - 1.5 * MARGIN) * share


def _line(x0: float, y0: float, x1: float, y1: float, words: str) -> str:
    place = f'x="{x0 - 40:.0f}" y="{y0 + 4:.0f}"' if y0 == y1 else f'x="{x0 - 6:.0f}" y="{y0 + 15:.0f}"'
    return (
        f'<line x1="{x0:.0f}" y1="{y0:.0f}" x2="{x1:.0f}" y2="{y1:.0f}" stroke="#ddd"/>'
        f'<text {place} fill="#777">{words}</text>'
    )


if __name__ == "__main__":
    main()
