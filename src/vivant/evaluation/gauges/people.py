"""Is it still the same person? Against the true picture in self-reenactment, the portrait in cross-reenactment."""

from __future__ import annotations

import numpy as np
import torch

from vivant.evaluation import metrics
from vivant.evaluation.gauges.faces import Mode
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.judges.recognition import embed_face, embed_own
from vivant.evaluation.piecewise import PiecewiseAffine
from vivant.evaluation.shown import Means, Shown
from vivant.face.points import NUM_MESH, Landmarks


class PersonGauge:
    """csim (ArcFace) and csim_own (our embedding) where given, and texture, which needs nothing."""

    def __init__(self, mode: Mode, judges: Judges) -> None:
        self._mode, self._judges = mode, judges
        self._means = Means()
        self._laid_back: PiecewiseAffine | None = None

    @torch.no_grad()
    def update(self, shown: Shown) -> None:
        with_truth = self._mode == "self"
        other, other_face = (
            (shown.target, shown.target_face) if with_truth else (shown.source, shown.source_face)
        )
        for name, value in self._similar(shown, other, other_face).items():
            self._means.add(name, value)
        self._means.add("texture", self.texture(shown))

    def _similar(self, shown: Shown, other: np.ndarray, other_face: Landmarks | None) -> dict[str, float]:
        found = {}
        if self._judges.arcface is not None:
            found["csim"] = float("nan")
            if shown.output_face is not None and other_face is not None:
                pair = [
                    embed_face(self._judges.arcface, picture, face)
                    for picture, face in ((shown.output, shown.output_face), (other, other_face))
                ]
                found["csim"] = float(metrics.cosine(*pair)[0])
        if self._judges.identity is not None:
            pair = [embed_own(self._judges.identity, picture) for picture in (shown.output, other)]
            found["csim_own"] = float(metrics.cosine(*pair)[0])
        return found

    def texture(self, shown: Shown) -> float:
        """Correlation with the portrait of the face laid back onto it; nan without faces."""
        if shown.source_face is None or shown.output_face is None:
            return float("nan")
        if self._laid_back is None:
            self._laid_back = PiecewiseAffine(shown.source_face.xy[:NUM_MESH], len(shown.source))
        mesh = shown.output_face.xy[:NUM_MESH]
        return metrics.texture_kept(shown.output, shown.source, self._laid_back, mesh)

    def numbers(self) -> dict[str, float]:
        return {"texture": float("nan")} | self._means.values
