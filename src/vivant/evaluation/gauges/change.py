"""Does it flicker? Change from one frame to the next, against the target's, and at the borders of chunks."""

from __future__ import annotations

import numpy as np
import torch

from vivant.engine import StreamSpec
from vivant.evaluation import metrics
from vivant.evaluation.gauges.faces import Mode
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.shown import Shown


class ChangeGauge:
    """tlp (LPIPS given), tl1, which needs nothing, and border_ratio where a family draws in chunks.

    Four numbers per frame are kept, not frames.
    """

    def __init__(self, mode: Mode, judges: Judges, stream: StreamSpec) -> None:
        self._mode, self._lpips, self._stream = mode, judges.lpips_alex, stream
        self._changes: dict[str, list[tuple[float, float]]] = {}
        self._indices: list[int] = []
        self._last: Shown | None = None

    @torch.no_grad()
    def update(self, shown: Shown) -> None:
        last, self._last = self._last, shown
        if last is None or shown.index != last.index + 1:
            return
        pairs = ((last.output_tensor, shown.output_tensor), (last.target_tensor, shown.target_tensor))
        self._indices.append(shown.index)
        output, target = (metrics.l1(*pair).item() for pair in pairs)
        self._changes.setdefault("tl1", []).append((output, target))
        if self._lpips is not None:
            output, target = (self._lpips(*pair).item() for pair in pairs)
            self._changes.setdefault("tlp", []).append((output, target))

    def numbers(self) -> dict[str, float]:
        apart = metrics.change_apart if self._mode == "self" else metrics.means_apart
        names = ["tl1"] + (["tlp"] if self._lpips is not None else [])
        changes = {name: np.array(self._changes.get(name, ())).reshape(-1, 2) for name in names}
        found = {name: apart(*rows.T) for name, rows in changes.items()}
        if (chunk := self._stream.chunk_frames) > 1:
            found["border_ratio"] = metrics.border_ratio(
                changes[names[-1]][:, 0], np.array(self._indices), chunk, self._stream.delay_frames
            )
        return found
