"""Program for test_flashportrait_parallel: tiny streams, alone or as one of several processes (torchrun)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from flash_engine import motions, tiny_engine
from safetensors.torch import save_file
from torch import Tensor

from vivant.engines.flashportrait.config import Options
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.runtime.parallel import leading
from vivant.session import Session

WAYS = {
    "plain": Options(expression_guidance=1.5, text_guidance=1.2),
    "predicted": Options(
        fusion="published",
        expression_guidance=1.5,
        prediction="controlled",
        prediction_bound=0.5,
        prediction_level="module",
    ),
}
"""Everything at once, and the first block apart from the others, with what each part of them gave."""


def played(engine: FlashPortrait) -> dict[str, Tensor]:
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    portrait, motion = engine.prepare(picture, face=None), motions(engine, 21)
    frames = {}
    for name, options in WAYS.items():
        session = Session(engine, portrait, options)
        frames[name] = torch.stack(session.push_motion(motion) + session.flush())
    return frames


if __name__ == "__main__":
    with leading(tiny_engine) as loaded:
        if loaded is not None:
            save_file(played(loaded()), Path(sys.argv[1]))
