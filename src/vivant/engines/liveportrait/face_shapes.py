"""How far full blendshapes of the face model (ICT-FaceKit, MIT) move the 81 keypoints of its mean face.

Blendshapes add up, and keypoints of other people move almost as far. Written by tests/assets/make_edit_shapes.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from vivant.engines.liveportrait.config_compact import NUM_POINTS

SHAPES_FILE = "edit_shapes.json"
UNIT = 1e-4
"""Of the file: 0.01 mm, in the unit of the keypoints, 10 cm."""


@lru_cache(maxsize=1)
def shapes() -> Mapping[str, Tensor]:
    """(K, 3) by name, units of 10 cm, head frame; names without a side are both sides together."""
    rows = json.loads(Path(__file__).with_name(SHAPES_FILE).read_text("utf-8"))
    return {name: torch.tensor(row).view(NUM_POINTS, 3) * UNIT for name, row in rows.items()}
