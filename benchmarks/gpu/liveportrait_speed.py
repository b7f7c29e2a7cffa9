"""Published-size LivePortrait on a CUDA device: eager, compiled, CUDA graph; batch 1 and 16; ms per frame.

Weights are random: speed does not depend on them. Floors: 1245 GFLOP and 747 M elements (2 bytes) per frame.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from timing import graphed, milliseconds

from vivant.engines.liveportrait.config import published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.runtime import precision

GFLOP_PER_FRAME = 1245.3
BYTES_PER_FRAME = 747e6 * 2


@torch.inference_mode()
def measure(batch: int, dtype: torch.dtype, fold: bool, mode: str) -> float:
    device = torch.device("cuda")
    torch.manual_seed(0)
    networks = PublishedNetworks(published()).eval()
    if fold:
        networks.fold()
    precision.place(networks, device, dtype)
    image = torch.rand(batch, 3, 256, 256, device=device)
    with precision.computing(device, dtype):
        appearance = networks.appearance(image[:1])
        if mode == "compiled":
            networks.generate = torch.compile(networks.generate)  # type: ignore[method-assign]
            networks.motion_extractor.compile()

        def frame() -> torch.Tensor:
            motion = networks.motion(image)
            points = motion.canonical
            return networks.generate(appearance, points[:1], points)

        call: Callable[[], object] = graphed(frame) if mode == "graph" else frame
        return milliseconds(call) / batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; benchmarks/liveportrait_cpu.py measures a CPU")
    rows = []
    for batch in (1, 16):
        eager = measure(batch, torch.float32, False, "eager")
        for name, dtype, fold, mode in (
            ("fp32 eager", torch.float32, False, "eager"),
            ("bf16 eager, folded", torch.bfloat16, True, "eager"),
            ("bf16 compiled", torch.bfloat16, False, "compiled"),
            ("bf16 graph, folded", torch.bfloat16, True, "graph"),
        ):
            ms = measure(batch, dtype, fold, mode)
            rows.append({"batch": batch, "what": name, "ms_per_frame": ms, "ratio_to_eager": eager / ms})
            print(rows[-1])
    device = torch.cuda.get_device_name()
    report = {"device": device, "gflop": GFLOP_PER_FRAME, "bytes": BYTES_PER_FRAME, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
