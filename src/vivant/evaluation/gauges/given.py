"""What the networks that came as scripts say: AED and APD from coefficients, MAE of gaze."""

from __future__ import annotations

import torch

from vivant.evaluation import metrics
from vivant.evaluation.judges.given import FACE_PX, Judges
from vivant.evaluation.judges.recognition import face_square
from vivant.evaluation.shown import Means, Shown, as_tensor


class ScriptGauge:
    """aed, apd and mae, as defined in appendix A of the LivePortrait paper, where their networks were given."""

    def __init__(self, judges: Judges) -> None:
        self._coefficients, self._gaze = judges.coefficients, judges.gaze
        self._means = Means()

    @torch.no_grad()
    def update(self, shown: Shown) -> None:
        if self._coefficients is None and self._gaze is None:
            return
        if shown.output_face is None or shown.target_face is None:
            return
        faces = torch.cat(
            [
                as_tensor(face_square(face, FACE_PX).apply(picture))
                for picture, face in ((shown.output, shown.output_face), (shown.target, shown.target_face))
            ]
        )
        if self._coefficients is not None:
            expression, pose = (each.numpy() for each in self._coefficients(faces))
            self._means.add("aed", metrics.mean_l1(expression[:1], expression[1:])[0])
            self._means.add("apd", metrics.mean_l1(pose[:1], pose[1:])[0])
        if self._gaze is not None:
            directions = self._gaze(faces)[0].numpy()
            self._means.add("mae", metrics.angular_error(directions[:1], directions[1:])[0])

    def numbers(self) -> dict[str, float]:
        names = ["aed", "apd"] if self._coefficients is not None else []
        names += ["mae"] if self._gaze is not None else []
        return dict.fromkeys(names, float("nan")) | self._means.values
