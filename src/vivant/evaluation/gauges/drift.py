"""Does a long clip drift? Curves over the frames, and the last seconds against the first."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from vivant.evaluation import metrics
from vivant.evaluation.gauges.people import PersonGauge
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.judges.recognition import embed_own
from vivant.evaluation.shown import Shown

CURVES = ("sharpness", "colour", "texture", "identity")


class DriftGauge:
    """sharpness_drift, colour_drift, texture_drift, and identity_drift where our embedding is there.

    First and last mean `window_frames` frames each; a clip of fewer than twice as many has no drift.
    """

    def __init__(self, judges: Judges, window_frames: int) -> None:
        self._identity = judges.identity
        self._texture = PersonGauge("cross", Judges())
        names = [name for name in CURVES if name != "identity" or judges.identity is not None]
        self._curves = {name: metrics.Curve() for name in names}
        self._window = window_frames
        self._first: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self._last: dict[str, deque[np.ndarray]] = {name: deque(maxlen=window_frames) for name in names}
        self._start: dict[str, np.ndarray] = {}
        self._count = 0
        self._indices = (0, 0)

    def update(self, shown: Shown) -> None:
        values = {
            "sharpness": np.array([metrics.sharpness(shown.output)]),
            "colour": metrics.colour(shown.output),
            "texture": np.array([self._texture.texture(shown)]),
        }
        if self._identity is not None:
            pair = [embed_own(self._identity, picture) for picture in (shown.output, shown.source)]
            values["identity"] = metrics.cosine(*pair)
        for name, value in values.items():
            self._start.setdefault(name, value)
            point = (
                metrics.colour_difference(value, self._start[name]) if name == "colour" else float(value[0])
            )
            self._curves[name].update(point)
            if self._count < self._window:
                self._first[name].append(value)
            self._last[name].append(value)
        self._indices = (self._indices[0] if self._count else shown.index, shown.index)
        self._count += 1

    def numbers(self) -> dict[str, float]:
        found = {}
        for name in self._curves:
            drift = float("nan")
            if self._count >= 2 * self._window:
                first, last = (_mean(values) for values in (self._first[name], list(self._last[name])))
                if name == "colour":
                    drift = metrics.colour_difference(first, last)
                else:
                    drift = metrics.relative_drift(float(first[0]), float(last[0]))
            found[f"{name}_drift"] = drift
        return found

    @property
    def curves(self) -> Mapping[str, np.ndarray]:
        """(P, 2) each: index of the output's frame and value; colour is Delta E to the first frame."""
        first, last = self._indices
        step = (last - first) / max(self._count - 1, 1)
        return {name: curve.points * [step, 1] + [first, 0] for name, curve in self._curves.items()}


def _mean(values: list[np.ndarray]) -> np.ndarray:
    rows = np.stack(values)
    rows = rows[np.isfinite(rows).all(1)]
    return rows.mean(0) if len(rows) else np.full(np.shape(values)[1], np.nan)
