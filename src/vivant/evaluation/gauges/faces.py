"""Does the face do what it should, by the mesh alone: no published weights are needed.

In self-reenactment the same person should do the same, so values compare as they are. Between two people only the
change since the first scored frame does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vivant.evaluation import metrics
from vivant.evaluation.faces import Jitter, mouth_opening
from vivant.evaluation.shown import Means, Shown, mesh_of
from vivant.face.points import NUM_MESH, Landmarks, eye_openness

Mode = Literal["self", "cross"]


@dataclass(frozen=True)
class _Reading:
    """What the mesh says about one picture; arrays of nan without a face."""

    pose: np.ndarray  # (1, 3) degrees
    shape: np.ndarray  # (1, 468, 3) outer eye distances
    gaze: np.ndarray  # (1, 2) degrees
    eyes: np.ndarray  # (2,)
    lips: float


def _read(face: Landmarks | None) -> _Reading:
    mesh = mesh_of(face)[None]
    return _Reading(
        pose=metrics.rigid_pose(mesh),
        shape=metrics.in_head_frame(mesh)[:, :NUM_MESH],
        gaze=metrics.gaze_angles(mesh),
        eyes=np.full(2, np.nan) if face is None else np.array(eye_openness(face)),
        lips=float("nan") if face is None else mouth_opening(face),
    )


class FaceGauge:
    """apd_mesh, aed_mesh, eye_error, lip_error, gaze_mesh, share_without_face; lmd_mesh in self."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._means = Means()
        self._first: tuple[_Reading, _Reading] | None = None
        self._count = self._lost = 0

    def update(self, shown: Shown) -> None:
        made, wanted = shown.output_face, shown.target_face
        self._count += 1
        if made is None or wanted is None:
            self._lost += wanted is not None
            return
        output, target = _read(made), _read(wanted)
        if self._mode == "cross":
            if self._first is None:
                self._first = (output, target)
                return
            output, target = (
                _since(now, then) for now, then in zip((output, target), self._first, strict=True)
            )
        self._add(output, target)
        if self._mode == "self":
            points = (made.xy[:NUM_MESH], wanted.xy[:NUM_MESH])
            self._means.add("lmd_mesh", float(np.linalg.norm(points[0] - points[1], axis=1).mean()))

    def _add(self, output: _Reading, target: _Reading) -> None:
        add = self._means.add
        add("apd_mesh", metrics.pose_error(output.pose, target.pose)[0])
        add("aed_mesh", metrics.expression_error(output.shape, target.shape)[0])
        add("eye_error", float(np.abs(output.eyes - target.eyes).mean()))
        add("lip_error", abs(output.lips - target.lips))
        directions = [metrics.gaze_direction(reading.gaze) for reading in (output, target)]
        add("gaze_mesh", metrics.angular_error(*directions)[0])

    def numbers(self) -> dict[str, float]:
        names = ["apd_mesh", "aed_mesh", "eye_error", "lip_error", "gaze_mesh"]
        names += ["lmd_mesh"] if self._mode == "self" else []
        found = dict.fromkeys(names, float("nan")) | self._means.values
        found["share_without_face"] = self._lost / self._count if self._count else float("nan")
        return found


def _since(now: _Reading, then: _Reading) -> _Reading:
    return _Reading(
        pose=now.pose - then.pose,
        shape=now.shape - then.shape,
        gaze=now.gaze - then.gaze,
        eyes=now.eyes - then.eyes,
        lips=now.lips - then.lips,
    )


class JitterGauge:
    """jitter_over_driver; wants every frame."""

    def __init__(self) -> None:
        self._output, self._target = Jitter(), Jitter()

    def update(self, shown: Shown) -> None:
        self._output.update(shown.output_face)
        self._target.update(shown.target_face)

    def numbers(self) -> dict[str, float]:
        made, wanted = self._output.value, self._target.value
        return {"jitter_over_driver": made / wanted if wanted > 0 else float("nan")}
