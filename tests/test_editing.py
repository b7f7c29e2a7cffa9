"""Edits in the picture: nothing asked for is the picture itself; what is asked for is seen where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vivant
from vivant.controls import Controls
from vivant.editing import Editor
from vivant.engines.liveportrait.config import tiny
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.evaluation.edits import sweep
from vivant.face.models import face_models_available
from vivant.face.points import to_68
from vivant.runtime import precision

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"


def test_a_crop_can_be_edited_too() -> None:
    torch.manual_seed(0)
    networks = precision.place(LivePortrait.build_networks(tiny()), torch.device("cpu"), torch.float32)
    engine = LivePortrait(tiny(), networks)
    crop = torch.rand(3, 64, 64)
    editor = Editor(engine, engine.prepare(crop, face=None))
    assert np.array_equal(editor.apply(Controls()), (crop.permute(1, 2, 0) * 255).round().byte().numpy())
    assert editor.apply(Controls(yaw=10, blink=0.5)).shape == (64, 64, 3)
    again = editor.apply(Controls(yaw=10, blink=0.5))
    assert np.array_equal(again, Editor(engine, editor.portrait).apply(Controls(yaw=10, blink=0.5))), (
        "no memory"
    )


@pytest.fixture(scope="module")
def editor() -> Editor:
    if not face_models_available():
        pytest.skip("the face models are fetched by `make models`")
    engine = vivant.load("liveportrait-mini", device="cpu", dtype="float32")
    return Editor(engine, engine.prepare(ASTRONAUT))


def test_zero_is_the_picture_byte_for_byte(editor: Editor) -> None:
    original = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    assert np.array_equal(editor.apply(Controls()), original)
    editor.apply(Controls(smile=1))
    assert np.array_equal(editor.apply(Controls(smile=0.0, yaw=0.0)), original), "after other edits too"
    assert editor.portrait.framing is not None
    assert np.array_equal(editor.portrait.framing.image, original)


def test_what_is_not_edited_keeps_its_bytes(editor: Editor) -> None:
    """Eyes leave the mouth alone, the mouth leaves the eyes alone, and nothing touches the rest of the picture."""
    framing = editor.portrait.framing
    assert framing is not None
    points = to_68(framing.landmarks)
    width = np.ptp(points[36:48, 0])
    row, column = np.mgrid[: framing.image.shape[0], : framing.image.shape[1]]

    def near(indices: slice, reach: float) -> np.ndarray:
        middle = points[indices].mean(0)
        return np.hypot(column - middle[0], row - middle[1]) < reach * width

    eyes = near(slice(36, 42), 0.1) | near(slice(42, 48), 0.1)
    mouth = near(slice(48, 68), 0.35)
    for controls, place, elsewhere in (
        (Controls(blink=1), eyes, mouth),
        (Controls(gaze_x=1), eyes, mouth),
        (Controls(smile=-1), mouth, eyes),
        (Controls(aa=0.7), mouth, eyes),
    ):
        changed = (editor.apply(controls) != framing.image).any(-1)
        assert changed[place].mean() > 0.05, controls
        assert not changed[elsewhere].any(), controls
        assert not changed[~near(slice(0, 68), 1.6)].any(), controls


@pytest.mark.parametrize(
    ("control", "least", "most_elsewhere"),
    [
        ("yaw", 3.0, 0.4),
        ("wink_right", 0.6, 0.4),
        ("gaze_x", 0.25, 0.4),
        ("lip_open", 0.25, 0.45),
        ("ee", 0.3, 0.4),
    ],
)
def test_controls_are_independent(editor: Editor, control: str, least: float, most_elsewhere: float) -> None:
    """Measured by the face mesh; the whole table is in docs/editing.md."""
    found = sweep(editor, control, 3 if control == "yaw" else 5)
    own = found.own[1:] if control == "wink_right" else found.own
    assert bool((np.diff(own) > 0).all()), found.own
    assert found.own_span > least
    assert found.elsewhere[0] < most_elsewhere, found.elsewhere
