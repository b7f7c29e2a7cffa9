"""How many images a recipe sees in so many seconds: times some steps, trains nothing that is kept, prints a number.

    images=$(python benchmarks/gpu/fit_images.py flashportrait/mini_vae_gpu SECONDS DATA [INIT])

Times it on a few of the clips; what reading, and for flow matching encoding, all of them will take is a guess, and is
taken off SECONDS as the start of the program is.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivant.training.launch import find_recipe
from vivant.training.trainer import Trainer

WARM_STEPS, TIMED_STEPS = 10, 30
NUM_CLIPS = 16
SECONDS_PER_CLIP = {True: 0.08, False: 0.02}
"""To read a clip and encode its streams, or to read it: a guess by counted arithmetic and kernels."""
SPARE = 0.93
"""Of the time: snapshots take some, and so may other jobs on the same GPU."""


class Timed(Trainer):
    """Notes when the warm steps, and when all steps, were done."""

    def _micro_step(self, *arguments: Any) -> None:
        super()._micro_step(*arguments)
        if self.step in (WARM_STEPS, WARM_STEPS + TIMED_STEPS):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            setattr(self, f"after_{self.step}", time.monotonic())

    def _snapshot(self) -> None:
        """Nothing is kept."""


def main(name: str, seconds: float, data: Path, init: Path | None, device: torch.device) -> int:
    recipe = find_recipe(name)
    began = time.monotonic()
    train = recipe.train
    clips = recipe.find_data(data)
    stage = recipe.build(clips[:NUM_CLIPS], np.zeros(0), init)
    train = replace(train, num_images=(WARM_STEPS + TIMED_STEPS) * train.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        timed: Any = Timed(stage, train, Path(folder), device)
        timed.run()
    first, last = (getattr(timed, f"after_{n}") for n in (WARM_STEPS, WARM_STEPS + TIMED_STEPS))
    pace = (last - first) / TIMED_STEPS
    more = SECONDS_PER_CLIP["flow" in name] * max(0, len(clips) - NUM_CLIPS)
    left = seconds - (first - began - WARM_STEPS * pace) - more
    print(f"{1000 * pace:.1f} ms a step, {first - began:.1f} s to begin", file=sys.stderr)
    return max(1, int(SPARE * left / pace)) * train.batch_size


if __name__ == "__main__":
    name, seconds, data, *init = sys.argv[1:]
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(main(name, float(seconds), Path(data), Path(init[0]) if init else None, where))
