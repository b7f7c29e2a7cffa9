"""Full-size refvae at 512 px, 12 steps with guidance: ms per block of 16 frames, frames/s, share of the floor.

    python benchmarks/gpu/refvae_speed.py --json refvae.json [--references 3]
    python benchmarks/gpu/refvae_speed.py --size tiny --device cpu --cycles 1    what of it a CPU can do

Weights are random: speed does not depend on them. The same blocks are drawn in several ways, and each way's latents and
pictures are compared with those of the first (see refvae_ways.py). Times are medians over cycles of a window, from the
second window on; hearing a block is among them, making the portrait is not.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from timing import Stopwatch, kernels, shown
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from counting import Peak, total_ms
from refvae_parts import MEL_BANDS, MEL_COLUMNS, Stream, costs, new_stream
from refvae_ways import CPU_WAYS, WAYS, Plain
from report import Report

from vivant.diffusion.flow_match import shifted_times
from vivant.engines.refvae import config as configs
from vivant.engines.refvae.config import BLOCK_LATENTS, CHUNK_FRAMES, Config, Options
from vivant.engines.refvae.drawing import block_frames
from vivant.engines.refvae.engine import RefVae
from vivant.engines.refvae.networks import Networks
from vivant.ops import fused, measured
from vivant.runtime import precision

SIZES = {"full": configs.full, "mini": configs.mini, "tiny": configs.tiny}
COMPARED_AFTER_WINDOW = 2
"""Blocks, so that windows have begun anew."""
COMPARED_OF_ENGINE = 3


@dataclass(frozen=True)
class Bench:
    """What all ways have in common."""

    config: Config
    networks: Networks
    device: torch.device
    num_references: int
    num_cycles: int
    dtype: torch.dtype = torch.float32

    @property
    def window(self) -> int:
        return self.config.generator.window_blocks

    def stream(self) -> Stream:
        """At its start; always the same."""
        torch.manual_seed(1)
        options = Options()
        times = shifted_times(options.num_steps, options.step_shift).tolist()
        return new_stream(self.networks, self.config, self.num_references, times)

    @staticmethod
    def inputs_of(stream: Stream) -> tuple[Tensor, Tensor]:
        """Of any block but the first."""
        mel = torch.randn(CHUNK_FRAMES, 1, MEL_BANDS, MEL_COLUMNS, device=stream.noise.device)
        return torch.randn_like(stream.noise), mel

    def blocks(self, stream: Stream) -> Iterator[tuple[Tensor, Tensor]]:
        """Noise and mel windows of one block after another; the same for every way."""
        torch.manual_seed(2)
        while True:
            count = len(block_frames(stream.memory.num_drawn, BLOCK_LATENTS))
            mel = torch.randn(count, 1, MEL_BANDS, MEL_COLUMNS, device=self.device)
            yield torch.randn_like(stream.noise), mel


def drawn(bench: Bench, way: Plain) -> tuple[Tensor, Tensor]:
    """Latents and pictures from the beginning of the stream until a window has begun anew."""
    latents, videos, inputs = [], [], bench.blocks(way.stream)
    for _ in range(bench.window + COMPARED_AFTER_WINDOW):
        made = way.draw(*next(inputs))
        latents.append(made.clone())
        videos.append(way.kept(way.decode(made)))
    way.finish()
    return torch.cat(latents, 1).float().cpu(), torch.cat(videos, 2).float().cpu()


def timed(bench: Bench, way: Plain) -> dict[str, float]:
    """Milliseconds, from where `drawn` stopped."""
    memory, watch, inputs = way.stream.memory, Stopwatch(bench.device), bench.blocks(way.stream)
    while memory.num_blocks != 1:
        way.decode(way.draw(*next(inputs)))
    way.finish()
    given = [next(inputs) for _ in range(bench.window - 1)]
    draws, longest, decodes, wholes, cycles = [], [], [], [], []
    for _ in range(bench.num_cycles):
        watch.mark()
        for noise, mel in given:
            latents = way.draw(noise, mel)
            if not way.overlaps:
                watch.mark()
            way.decode(latents)
            if not way.overlaps:
                watch.mark()
        way.finish()
        watch.mark()
        laps = watch.laps_ms()
        cycles.append(sum(laps) / len(given))
        draws += laps[:-1:2]
        decodes += laps[1:-1:2]
        longest += laps[:-1:2][-1:]
        wholes += [draw + decode for draw, decode in zip(laps[:-1:2], laps[1:-1:2], strict=True)]
    found = {"block_ms": statistics.median(cycles), "block_ms_p95": p95(wholes or cycles)}
    if not way.overlaps:
        names = ("draw_ms", "draw_ms_longest_cache", "decode_ms")
        found |= {
            name: statistics.median(xs) for name, xs in zip(names, (draws, longest, decodes), strict=True)
        }
    return found


def drawing_of(way: Plain) -> Callable[[], object]:
    """A block more, for the profiler; only graphs that are there are played."""
    inputs = Bench.inputs_of(way.stream)
    return lambda: way.draw(*inputs)


def timed_engine(bench: Bench, num_blocks: int) -> dict[str, float]:
    """The package itself with `--runtime graphs`, sound in and 8-bit pictures out, on the clock on the wall.

    Beside it, of a few blocks: the same with pictures as floats, and how long hearing and drawing take alone.
    """
    engine = RefVae(bench.config, bench.networks, bench.dtype)
    torch.manual_seed(3)
    side = bench.config.image_size
    portrait = engine.prepare(torch.rand(bench.num_references, 3, side, side), face=None)
    sound = torch.rand(CHUNK_FRAMES * engine.stream.samples_per_frame) - 0.5
    state = engine.start(portrait)
    plain = torch.cat([shown(engine.step(state, sound)) for _ in range(COMPARED_OF_ENGINE)]).float()
    if bench.device.type == "cuda":
        engine.record()
    state = engine.start(portrait)
    got = torch.cat([shown(engine.step(state, sound)) for _ in range(COMPARED_OF_ENGINE)]).float()
    for _ in range(bench.window + 1 - COMPARED_OF_ENGINE):  # all of it is recorded
        shown(engine.step(state, sound))
    found = {"block_ms": wall_ms(lambda: shown(engine.step(state, sound)), num_blocks)}
    found["recorded_differs_by"] = float((got - plain).norm() / plain.norm())
    few = min(num_blocks, bench.window - 1)
    found["block_ms_floats"] = wall_ms(lambda: engine.step(state, sound).cpu(), few)
    motion = engine.encode_motion(state, sound)
    found["hearing_ms"] = wall_ms(lambda: engine.encode_motion(state, sound).features.cpu(), few)
    found["drawing_ms"] = wall_ms(lambda: engine.render(state, motion)[0, 0, 0].cpu(), few)
    return found


def wall_ms(call: Callable[[], object], count: int) -> float:
    """Of a call that waits for the device; mean."""
    begin = perf_counter()
    for _ in range(count):
        call()
    return 1000 * (perf_counter() - begin) / count


def p95(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def difference(a: Tensor, b: Tensor) -> float:
    """Largest, relative to the largest value."""
    return float((a - b).abs().max() / b.abs().max())


@torch.no_grad()
def measure(
    bench: Bench, names: Sequence[str], peak: Peak, report: Report, *, has_tables: bool = False
) -> None:
    """A row per way; the first is what the others are compared with."""
    # Halfway through a window, for costs grow evenly with what it holds.
    floor_ms = total_ms(costs(bench.config, bench.num_references, bench.window // 2), peak)
    wanted: tuple[Tensor, Tensor] | None = None
    first: dict[str, float] | None = None
    for name in names:
        with report.attempt(way=name) as row, precision.computing(bench.device, bench.dtype):
            with nullcontext() if WAYS[name].has_kernels else fused.plainly():
                stream = bench.stream()
            way = WAYS[name](stream)
            try:
                got = drawn(bench, way)
                row |= timed(bench, way)
                if has_tables:
                    row["kernels"] = kernels(lambda way=way: way.decode(way.stream.noise), bench.device)
                    row["kernels_drawing"] = kernels(drawing_of(way), bench.device)
                    row["convolutions"] = measured.choices()
            finally:
                way.close()
            wanted, first = wanted or got, first or row
            row |= {
                "frames_per_s": 1000 * CHUNK_FRAMES / row["block_ms"],
                f"times_{names[0]}": first["block_ms"] / row["block_ms"],
                "share_of_floor": floor_ms / row["block_ms"] if bench.device.type == "cuda" else None,
                "latents_error": float((got[0] - wanted[0]).norm() / wanted[0].norm()),
                "pictures_error": float((got[1] - wanted[1]).norm() / wanted[1].norm()),
                "latents_differ_by": difference(got[0], wanted[0]),
                "pictures_differ_by": difference(got[1], wanted[1]),
            }
        way = stream = None
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", choices=precision.DTYPES, help="bfloat16 on CUDA, float32 on a CPU.")
    parser.add_argument("--references", type=int, default=1, help="Pictures of the person.")
    parser.add_argument("--cycles", type=int, default=30, help="Of a window; 7 blocks each at full size.")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="All that the device can do.")
    parser.add_argument("--kernels", action="store_true", help="Say what takes the time of each way.")
    parser.add_argument("--tflops", type=float, default=Peak.tflops)
    parser.add_argument("--tbytes-per-s", type=float, default=Peak.tbytes_per_s)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --size tiny --device cpu runs what a CPU can, floor.py counts")
    if arguments.references < 1 or arguments.cycles < 1:
        parser.error("--references and --cycles are 1 or more")
    names = tuple(arguments.ways or (WAYS if arguments.device == "cuda" else CPU_WAYS))
    if arguments.device == "cpu" and not set(names) <= set(CPU_WAYS):
        parser.error(f"a CPU has no graphs and streams; its ways are {', '.join(CPU_WAYS)}")
    device = torch.device(arguments.device)
    dtype = precision.choose_dtype(
        arguments.dtype or ("bfloat16" if device.type == "cuda" else "float32"), device
    )
    config = SIZES[arguments.size]()
    torch.manual_seed(0)
    with device:
        networks = Networks(config).eval().requires_grad_(False)
    for parameter in networks.generator.parameters():  # gates begin at zero, and equality would say nothing
        torch.nn.init.normal_(parameter, std=0.02)
    precision.place(networks, device, dtype)
    bench = Bench(config, networks, device, arguments.references, arguments.cycles, dtype)
    peak = Peak(tflops=arguments.tflops, tbytes_per_s=arguments.tbytes_per_s)
    report = Report(
        arguments.json,
        device,
        dtype=str(dtype),
        size=arguments.size,
        references=arguments.references,
        floor_at=str(peak),
    )
    with report.attempt(way="engine") as row:
        found = timed_engine(bench, arguments.cycles * (bench.window - 1))
        row |= found | {"frames_per_s": 1000 * CHUNK_FRAMES / found["block_ms"]}
    measure(bench, names, peak, report, has_tables=arguments.kernels)
    report.finish()


if __name__ == "__main__":
    main()
