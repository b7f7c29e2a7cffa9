"""Writes edit_shapes.json of the family liveportrait from the face model: python tests/assets/make_edit_shapes.py.

How far the named blendshapes of ICT-FaceKit (MIT) move the 81 keypoints of its mean face, in hundredths of a
millimetre, in the axes of the engine (y down, z inward). Looks turn both eyes by GAZE_DEGREES and take the lids along
in part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.engines.liveportrait.face_shapes import SHAPES_FILE, UNIT
from vivant.studio.camera import UNIT_CM
from vivant.studio.face_model import FaceModel, load_face_model
from vivant.studio.motion import columns_of, set_gaze_lids

TARGET = Path(__file__).parents[2] / "src" / "vivant" / "engines" / "liveportrait" / SHAPES_FILE
BLENDSHAPES = (
    "eyeBlink_L", "eyeBlink_R", "eyeWide_L", "eyeWide_R", "browInnerUp", "browOuterUp", "browDown", "mouthSmile",
    "mouthFrown", "jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthStretch", "mouthPucker", "mouthFunnel",
    "mouthShrugLower", "mouthPress", "mouthRollLower", "mouthRollUpper", "mouthLeft", "mouthRight",
)  # fmt: skip
GAZE_DEGREES = {"lookRight": (25, 0), "lookLeft": (-25, 0), "lookDown": (0, 16), "lookUp": (0, -16)}
"""Yaw to the right of the picture, pitch down."""
LID_SHARE = 0.4
"""Of how far lids go along with the eyes: all of it reads as a blink."""


def edit_shapes(model: FaceModel) -> dict[str, list[int]]:
    """By name: 81 x 3 numbers in a row."""
    names = model.expression_names
    nobody = np.zeros(len(model.identity_modes), np.float32)
    shape, centres = model.shape(nobody), model.eye_centres_of(nobody)

    def points(expression: NDArray[Any], gaze: tuple[float, float]) -> NDArray[Any]:
        posed = model.posed(shape, expression, np.asarray(gaze, np.float32), centres)[model.keypoints]
        return np.asarray(posed / UNIT_CM * [1, -1, -1])

    still = np.zeros(len(names), np.float32)
    rest = points(still, (0, 0))
    found = {}
    for name in BLENDSHAPES:
        expression = still.copy()
        expression[columns_of(name, names)] = 1
        found[name] = points(expression, (0, 0)) - rest
    for name, gaze in GAZE_DEGREES.items():
        expression = still.copy()
        set_gaze_lids(expression, np.asarray(gaze, np.float32), names)
        found[name] = points(LID_SHARE * expression, gaze) - rest
    return {name: np.rint(offset / UNIT).astype(int).flatten().tolist() for name, offset in found.items()}


if __name__ == "__main__":
    rows = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in edit_shapes(load_face_model()).items())
    TARGET.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")
