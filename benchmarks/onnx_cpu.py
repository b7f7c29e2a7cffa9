"""Exported networks on onnxruntime against the eager ones in float32, in the same process.

    python benchmarks/onnx_cpu.py [--preset liveportrait-mini | --random NAME] [--threads 1] [--rounds 5]

Per network method: error on inputs that the export has not seen, and the least processor time of all rounds, the two
taking turns; processor time counts on a busy machine. `--random` needs no weights: random ones, of liveportrait's
published size or of personalive-mini. Eager is the folded form, as `vivant.load` makes it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import vivant
from vivant import checkpoint, export
from vivant.engines import engine_class
from vivant.engines.liveportrait.config import published
from vivant.engines.personalive.config import mini
from vivant.presets import find_checkpoint
from vivant.runtime import onnx

RANDOM = {"published": ("liveportrait", published()), "personalive-mini": ("personalive", mini())}


def milliseconds(method: Callable[..., object], arguments: tuple[object, ...]) -> float:
    begin = time.process_time()
    method(*arguments)
    return 1e3 * (time.process_time() - begin)


def random_checkpoint(folder: Path, name: str) -> Path:
    torch.manual_seed(0)
    family, config = RANDOM[name]
    checkpoint.save(folder, family, config, engine_class(family).build_networks(config))
    return folder


def difference(actual: object, expected: object) -> float:
    pairs = zip(onnx.named_tensors(actual, ""), onnx.named_tensors(expected, ""), strict=True)
    return max(float((a - b).abs().max()) for (_, a), (_, b) in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="liveportrait-mini")
    parser.add_argument("--random", choices=list(RANDOM))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        source = (
            random_checkpoint(Path(scratch) / "random", given.random)
            if given.random
            else find_checkpoint(given.preset)
        )
        begin = time.process_time()
        export.export(source, Path(scratch) / "onnx")
        print(f"exported and checked in {time.process_time() - begin:.0f} s of processor time")
        eager = vivant.load(source, device="cpu", dtype="float32")
        other = export.load_exported(Path(scratch) / "onnx")
        with torch.inference_mode():
            calls = eager.network_calls(2)
            print(f"{'':24}{'error':>9}{'eager ms':>10}{'onnx ms':>10}{'ratio':>7}")
            for name, arguments in calls.items():
                methods = [onnx.find_method(engine.networks, name) for engine in (eager, other)]
                expected, actual = (method(*arguments) for method in methods)
                times: list[list[float]] = [[], []]
                for _ in range(given.rounds):
                    for method, taken in zip(methods, times, strict=True):
                        taken.append(milliseconds(method, arguments))
                plain, fast = (min(taken) for taken in times)
                error = difference(actual, expected)
                print(f"{name:24}{error:>9.0e}{plain:>10.1f}{fast:>10.1f}{plain / fast:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
