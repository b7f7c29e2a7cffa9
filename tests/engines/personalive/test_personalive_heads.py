"""Heads off the face mesh: one that leans leans, one that moves moves; where no face is seen the last one holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from leaning import moved
from torch import Tensor

from vivant.engines.personalive.config import tiny_differences
from vivant.engines.personalive.engine import PersonaLive
from vivant.engines.personalive.heads import heads_in, middle_head
from vivant.engines.personalive.motion import Pose

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"
SIDE = 128
HEAD = slice(20, 220), slice(125, 325)
"""Of the photograph."""


def own() -> Tensor:
    """(3, SIDE, SIDE): the photograph's head."""
    picture = cv2.cvtColor(cv2.imread(str(ASTRONAUT)), cv2.COLOR_BGR2RGB)[HEAD]
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).permute(2, 0, 1).float() / 255


def test_heads_are_where_faces_are() -> None:
    nobody = torch.zeros(3, SIDE, SIDE)
    pictures = torch.stack([nobody, own(), moved(own(), degrees=8.0), moved(own(), shift_px=6.0), nobody])
    heads = heads_in(pictures, middle_head(torch.device("cpu")))
    nothing, upright, leaning, shifted, held = (
        Pose(*(value[[row]] for value in vars(heads).values())) for row in range(5)
    )
    assert torch.equal(nothing.keypoints, middle_head(torch.device("cpu")).keypoints)
    assert torch.equal(held.keypoints, shifted.keypoints)
    assert 6 < abs(float((leaning.degrees - upright.degrees)[0, 2])) < 10
    step = (shifted.keypoints - upright.keypoints)[..., :2].mean((0, 1)) * SIDE / 2
    np.testing.assert_allclose(step.numpy(), (6.0, 0.0), atol=1.0)


def test_a_stream_remembers_the_last_head_and_a_cut_forgets_it() -> None:
    torch.manual_seed(0)
    config = tiny_differences()
    engine = PersonaLive(config, PersonaLive.build_networks(config).eval())
    portrait = engine.encode_reference(own()[None])
    state, nobody = engine.start(portrait), torch.zeros(2, 3, SIDE, SIDE)
    first = engine.encode_motion(state, nobody)
    torch.testing.assert_close(first.translation, portrait.pose.translation.expand(2, -1))
    seen = engine.encode_motion(state, moved(own(), shift_px=6.0).expand(2, -1, -1, -1))
    assert float((seen.translation - first.translation)[:, 0].min()) > 0.03
    assert torch.equal(engine.encode_motion(state, nobody).translation, seen.translation)
    engine.restart(state)
    assert torch.equal(engine.encode_motion(state, nobody).translation, first.translation)
