"""personalive-mini on a CPU, chunk by chunk: as it is, and with the library's attention and gates, turn about.

    python benchmarks/personalive_cpu.py [--threads 2] [--precision auto] [--chunks 12] [--rounds 3]

Rendering only: no reading, no face mesh, no pasting. Prints milliseconds a frame, the fastest round of each, and their
ratio.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vivant
from vivant.engines.personalive.config import Options
from vivant.engines.personalive.engine import PersonaLive
from vivant.engines.personalive.networks import layers
from vivant.media.reader import VideoReader
from vivant.ops.fused import gated_gelu

EXAMPLES = Path(__file__).parent.parent / "examples"
WARM_CHUNKS = 5
"""Until the window is full, calls are shorter."""


def plainly_gated(x: Tensor, layer: nn.Linear) -> Tensor:
    return gated_gelu(layer(x))


def rendered(engine: PersonaLive, chunks: list[Tensor]) -> float:
    """Milliseconds a frame, in a full window."""
    state = engine.start(engine.prepare(EXAMPLES / "astronaut.png"), Options(renoise="fresh"))
    begin, frames = 0.0, 0
    for number, chunk in enumerate(chunks):
        motion = engine.encode_motion(state, chunk)
        if number == WARM_CHUNKS:
            begin, frames = time.perf_counter(), 0
        engine.render(state, motion)
        frames += len(chunk)
    return 1000 * (time.perf_counter() - begin) / frames


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    engine = vivant.load("personalive-mini", "cpu", given.precision)
    assert isinstance(engine, PersonaLive)
    count = engine.stream.chunk_frames * (given.chunks + WARM_CHUNKS)
    with VideoReader(EXAMPLES / "driving.mp4") as reader:
        frames = np.stack([frame.image for frame, _ in zip(reader, range(count), strict=False)])
    chunks = list((torch.from_numpy(frames).movedim(-1, 1).float() / 255).split(engine.stream.chunk_frames))
    times: dict[str, list[float]] = {"library": [], "as it is": []}
    for _ in range(given.rounds):
        with (
            patch.object(layers, "attention", F.scaled_dot_product_attention),
            patch.object(layers, "gated", plainly_gated),
        ):
            times["library"].append(rendered(engine, chunks))
        times["as it is"].append(rendered(engine, chunks))
    best = {name: min(measured) for name, measured in times.items()}
    for name, fastest in best.items():
        print(f"{name:10} {fastest:6.1f} ms a frame")
    print(f"ratio {best['library'] / best['as it is']:.2f}")


if __name__ == "__main__":
    main()
