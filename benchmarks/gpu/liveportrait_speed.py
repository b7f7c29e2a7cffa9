"""Published-size LivePortrait: eager, CUDA graphs, compiled; batch 1 and 16; ms per frame.

    python benchmarks/gpu/liveportrait_speed.py --json liveportrait.json
    python benchmarks/gpu/liveportrait_speed.py --size tiny --device cpu    what of it a CPU can do

Weights are random: speed does not depend on them. Floors: 1245 GFLOP and 747 M elements (2 bytes) per frame. A frame is
looked at and drawn, from one portrait. Each way says how far its pictures are from those of the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch._dynamo
from report import Report
from timing import backend, milliseconds, tuned
from torch import Tensor

from vivant.engines.liveportrait.config import published, tiny_published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.runtime import precision
from vivant.runtime.graphs import record_methods

GFLOP_PER_FRAME = 1245.3
BYTES_PER_FRAME = 747e6 * 2


@dataclass(frozen=True, kw_only=True)
class Way:
    """How frames are drawn."""

    half: bool = True
    folded: bool = False
    graphs: bool = False
    compiled: bool = False


WAYS = {
    "fp32 eager": Way(half=False),
    "bf16 eager": Way(),
    "bf16 graph": Way(graphs=True),
    "bf16 eager, folded": Way(folded=True),
    "bf16 graph, folded": Way(folded=True, graphs=True),
    "bf16 compiled graph": Way(graphs=True, compiled=True),
}
"""The first is what the others are compared with."""


SIZES = {"published": published, "tiny": tiny_published}


@cache
def made(size: str, folded: bool) -> PublishedNetworks:
    """On the CPU, where folding them takes seconds: the same weights for all ways."""
    torch.manual_seed(0)
    networks = PublishedNetworks(SIZES[size]()).eval().requires_grad_(False)
    if folded:
        networks.fold()
    return networks


@torch.no_grad()
def measure(batch: int, way: Way, size: str, device: torch.device) -> tuple[float, Tensor]:
    """Milliseconds per frame, and pictures."""
    dtype = torch.bfloat16 if way.half else torch.float32
    config = SIZES[size]()
    networks = deepcopy(made(size, way.folded))
    torch.manual_seed(1)
    precision.place(networks, device, dtype)
    image = torch.rand(batch, 3, config.image_size, config.image_size).to(device)
    points = (torch.rand(batch, config.num_keypoints, 3) * 1.6 - 0.8).to(device)
    with ExitStack() as undoing:
        if way.graphs or way.compiled:
            undoing.enter_context(tuned())
        undoing.enter_context(precision.computing(device, dtype))
        appearance = networks.appearance(image[:1])
        if way.compiled:
            torch._dynamo.reset()
            for part in (networks.warping, networks.generator, networks.motion_extractor):
                part.compile(dynamic=False, backend=backend(device))

        def frame() -> Tensor:
            seen = networks.motion(image).canonical
            return networks.generate(appearance, points[:1], points + 0 * seen)

        if way.graphs and device.type == "cuda":
            record_methods(networks, ("motion", "generate"))  # as `--runtime graphs`
        pictures = frame().float().cpu()
        return milliseconds(frame, device) / batch, pictures


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", choices=SIZES, default="published")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; benchmarks/liveportrait_cpu.py measures a CPU")
    report = Report(arguments.json, device, size=arguments.size, gflop=GFLOP_PER_FRAME, bytes=BYTES_PER_FRAME)
    for batch in arguments.batches:
        first: tuple[float, Tensor] | None = None
        for name in arguments.ways:
            with report.attempt(batch=batch, what=name) as row:
                ms, pictures = measure(batch, WAYS[name], arguments.size, device)
                first = first or (ms, pictures)
                row |= {
                    "ms_per_frame": ms,
                    "frames_per_s": 1000 / ms,
                    f"times_{arguments.ways[0]}": first[0] / ms,
                    "pictures_differ_by": float((pictures - first[1]).norm() / first[1].norm()),
                }
            if device.type == "cuda":
                torch.cuda.empty_cache()
    report.finish()


if __name__ == "__main__":
    main()
