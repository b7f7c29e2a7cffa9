"""The published networks on this CPU: plain float32 as published against the folded form, in the same run.

    python benchmarks/liveportrait_cpu.py [--threads 2] [--rounds 5] [--precision auto] [--json]

Random weights, one 256 px portrait, one driving frame, 512 px out. Plain and folded take turns and the median of all
rounds counts, so that another job on the machine slows both. `cpu` is processor time of this process over all its
threads: on a busy machine it is the number to compare, wall time the one to wait for.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vivant.engines.liveportrait.config import published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.runtime import precision

PER_FRAME = ("M", "W", "G")


def parts_of(
    networks: PublishedNetworks, image: Tensor, source: Tensor, driving: Tensor
) -> dict[str, Callable[[], object]]:
    """One call per network, with inputs made beforehand."""
    appearance = networks.appearance(image)
    pair = (appearance[0], appearance[1])
    warped = networks.warping(pair, source, driving)
    return {
        "F": lambda: networks.appearance(image),
        "M": lambda: networks.motion(image),
        "W": lambda: networks.warping(pair, source, driving),
        "G": lambda: networks.generator(warped),
    }


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def measure(rounds: int, dtype: torch.dtype) -> dict[str, dict[str, dict[str, float]]]:
    """form -> network -> {wall, cpu} in milliseconds, medians over the rounds."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 256, 256)
    source = torch.rand(1, 21, 3) * 1.6 - 0.8
    driving = source + 0.1 * torch.randn(1, 21, 3)
    plain = PublishedNetworks(published()).eval().requires_grad_(False)
    folded = PublishedNetworks(published()).eval()
    folded.load_state_dict(plain.state_dict())
    folded.fold()
    precision.place(folded, torch.device("cpu"), dtype)
    forms = {
        "plain float32": parts_of(plain, image, source, driving),
        f"folded {str(dtype).removeprefix('torch.')}": parts_of(folded, image, source, driving),
    }
    times: dict[str, dict[str, list[tuple[float, float]]]] = {
        form: {name: [] for name in "FMWG"} for form in forms
    }
    for turn in range(rounds + 1):
        for form, parts in forms.items():
            for name, call in parts.items():
                taken = milliseconds(call)
                if turn:  # the first turn warms up
                    times[form][name].append(taken)
    return {
        form: {
            name: {
                "wall": statistics.median(wall for wall, _ in taken),
                "cpu": statistics.median(cpu for _, cpu in taken),
            }
            for name, taken in parts.items()
        }
        for form, parts in times.items()
    }


def with_frames(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """Add the time of a frame: everything that runs once per driving frame."""
    for parts in results.values():
        parts["frame"] = {clock: sum(parts[name][clock] for name in PER_FRAME) for clock in ("wall", "cpu")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=["auto", *precision.DTYPES])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = precision.choose_dtype(options.precision, torch.device("cpu"))
    with torch.inference_mode():
        results = measure(options.rounds, dtype)
    with_frames(results)
    slow, fast = results
    ratio = {
        clock: results[slow]["frame"][clock] / results[fast]["frame"][clock] for clock in ("wall", "cpu")
    }
    if options.json:
        machine = {
            "cpu": platform.processor() or platform.machine(),
            "threads": options.threads,
            "torch": torch.__version__,
        }
        print(json.dumps({"machine": machine, "milliseconds": results, "ratio": ratio}, indent=2))
        return
    print(f"{options.threads} threads, torch {torch.__version__}; milliseconds, median of {options.rounds}")
    print(f"{'':<10}{slow + ' wall':>22}{'cpu':>8}{fast + ' wall':>24}{'cpu':>8}")
    for name in ("F", *PER_FRAME, "frame"):
        a, b = results[slow][name], results[fast][name]
        print(f"{name:<10}{a['wall']:>22.0f}{a['cpu']:>8.0f}{b['wall']:>24.0f}{b['cpu']:>8.0f}")
    print(f"a frame is {ratio['wall']:.1f} times faster (processor time: {ratio['cpu']:.1f} times less)")


if __name__ == "__main__":
    main()
