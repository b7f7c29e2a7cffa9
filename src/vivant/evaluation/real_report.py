"""The report of driving real people: which entries count, means over them, tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vivant.engine import Engine
from vivant.evaluation import protocol
from vivant.evaluation.faces import QUANTITIES
from vivant.evaluation.report import Report, Row, Table, describe_engine


@dataclass(frozen=True)
class Followed:
    """How an output follows its driver in one quantity."""

    correlation: float
    amplitude: float
    """Standard deviation over the driver's."""
    driver_std: float


@dataclass(frozen=True, kw_only=True)
class Driven:
    """One portrait under one clip."""

    portrait: str
    clip: str
    num_frames: int
    num_without_face: int
    """Frames in which the driver has a face and the output none."""
    followed: dict[str, Followed]
    """By quantity, see faces.QUANTITIES."""
    jitter_driver: float
    jitter_output: float
    """Second difference of the mesh, thousandths of the outer eye distance."""
    background: float
    """Levels of 255."""
    texture: float
    """Correlation, at most 1."""
    rest_psnr: float
    """dB."""

    def counts(self, quantity: str) -> bool:
        """Whether the driver moves enough in this quantity for a correlation to mean something."""
        return self.followed[quantity].driver_std >= protocol.MOVES_AT_LEAST[quantity]


_UNITS = {
    "yaw": "degrees",
    "pitch": "degrees",
    "roll": "degrees",
    "mouth": "outer eye distances",
    "eyes": "lid gap over eye width",
    "yaw_mesh": "degrees",
    "pitch_mesh": "degrees",
}
_NOTES = (
    "Yaw, pitch and roll come from the rigid part of the face. yaw_mesh and pitch_mesh come from the whole mesh, in "
    "which an open mouth or a smile looks like a nod of 4 degrees; up to real-drive/1 they were called yaw and pitch.",
    "Driver and output are measured with the same 468-point face mesh, which is itself noisy (about 0.3 degrees, "
    "0.005 in the mouth, 0.01 in the eyes from frame to frame).",
    "In brackets: the driver hardly moves in this quantity ("
    + ", ".join(f"{name} below {least}" for name, least in protocol.MOVES_AT_LEAST.items())
    + " standard deviation), so the entry is mostly noise and left out of the means and the targets.",
    "Motion is relative to the driver's first frame; correlation and amplitude do not see constant offsets.",
    "Background: mean difference to the portrait in levels of 255 outside the heads, shoulders included. Texture: "
    "correlation with the portrait of the face laid back onto the portrait's mesh, a stand-in for identity that knows "
    "nobody. Rest: PSNR of the first frame, in which nothing has moved, against the portrait.",
)


def report_of(
    found: Sequence[Driven],
    engine: Engine,
    settings: Mapping[str, Any],
    sheets: Mapping[str, np.ndarray],
    read: Mapping[str, dict[str, Followed]],
) -> Report:
    """Numbers, tables and verdicts. `read`: by clip, what the networks read from the driver against the mesh."""
    numbers: dict[str, float] = {}
    for quantity in QUANTITIES:
        counted = [driven.followed[quantity] for driven in found if driven.counts(quantity)]
        numbers[f"{quantity}_correlation"] = _mean([followed.correlation for followed in counted])
        numbers[f"{quantity}_amplitude"] = _mean([followed.amplitude for followed in counted])
    numbers["background"] = _mean([driven.background for driven in found])
    numbers["texture"] = _mean([driven.texture for driven in found])
    numbers["rest_psnr"] = _mean([driven.rest_psnr for driven in found])
    numbers["jitter_over_driver"] = _mean(
        [driven.jitter_output / driven.jitter_driver for driven in found if driven.jitter_driver > 0]
    )
    numbers["share_without_face"] = sum(driven.num_without_face for driven in found) / max(
        1, sum(driven.num_frames for driven in found)
    )
    return Report(
        protocol=protocol.REAL,
        title="Real people driven by clips of others",
        subject=describe_engine(engine),
        settings=settings,
        numbers=numbers,
        tables=(
            _summary(found),
            _correlations(found),
            _amplitudes(found),
            _drivers(found),
            *([_read(read)] if read else []),
            _kept(found),
        ),
        targets=protocol.REAL_TARGETS,
        notes=_NOTES,
        sheets=sheets,
    )


def _summary(found: Sequence[Driven]) -> Table:
    rows: list[Row] = []
    for quantity in QUANTITIES:
        counted = [driven.followed[quantity] for driven in found if driven.counts(quantity)]
        correlations = [item.correlation for item in counted if np.isfinite(item.correlation)]
        amplitudes = [item.amplitude for item in counted if np.isfinite(item.amplitude)]
        rows.append(
            (
                quantity,
                len(counted),
                _mean(correlations),
                min(correlations, default=None),
                _mean(amplitudes),
                min(amplitudes, default=None),
                max(amplitudes, default=None),
            )
        )
    return Table(
        title="Following the driver, over the animations whose driver moves",
        columns=(
            "",
            "animations",
            "correlation",
            "worst",
            "amplitude",
            "smallest",
            "largest",
        ),
        rows=tuple(rows),
    )


def _correlations(found: Sequence[Driven]) -> Table:
    return _by_animation(found, "Correlation with the driver", "correlation")


def _amplitudes(found: Sequence[Driven]) -> Table:
    return _by_animation(found, "Amplitude over the driver's", "amplitude")


def _by_animation(found: Sequence[Driven], title: str, field: str) -> Table:
    rows: list[Row] = [
        (
            f"{driven.portrait} x {driven.clip}",
            *(_bracketed(getattr(driven.followed[name], field), driven.counts(name)) for name in QUANTITIES),
        )
        for driven in found
    ]
    return Table(title=title, columns=("", *QUANTITIES), rows=tuple(rows))


def _drivers(found: Sequence[Driven]) -> Table:
    """One row per clip, from its first animation."""
    first: dict[str, Driven] = {}
    for driven in found:
        first.setdefault(driven.clip, driven)
    rows: list[Row] = [
        (clip, *(_bracketed(driven.followed[name].driver_std, driven.counts(name)) for name in QUANTITIES))
        for clip, driven in first.items()
    ]
    return Table(
        title="How much the drivers move: standard deviation",
        columns=("", *(f"{name} ({_UNITS[name]})" for name in QUANTITIES)),
        rows=tuple(rows),
    )


def _read(read: Mapping[str, dict[str, Followed]]) -> Table:
    """Two rows per clip: what is lost here cannot be drawn."""
    rows: list[Row] = []
    for clip, quantities in read.items():
        rows.append((f"{clip}, correlation", *(quantities[name].correlation for name in QUANTITIES)))
        rows.append((f"{clip}, amplitude", *(quantities[name].amplitude for name in QUANTITIES)))
    return Table(
        title="What the networks read from the driver, against the mesh on the driver",
        columns=("", *QUANTITIES),
        rows=tuple(rows),
        note="What is missing here is lost in seeing; what is only missing above is lost in drawing.",
    )


def _kept(found: Sequence[Driven]) -> Table:
    rows: list[Row] = [
        (
            f"{driven.portrait} x {driven.clip}",
            driven.background,
            driven.texture,
            driven.rest_psnr,
            driven.jitter_output,
            driven.jitter_driver,
            driven.num_without_face,
            driven.num_frames,
        )
        for driven in found
    ]
    return Table(
        title="What is kept",
        columns=(
            "",
            "background",
            "texture",
            "rest PSNR",
            "jitter",
            "driver's jitter",
            "frames without a face",
            "frames",
        ),
        rows=tuple(rows),
        note="Jitter: second difference of the mesh in thousandths of the outer eye distance.",
    )


def _bracketed(value: float, counts: bool) -> str | float:
    return value if counts or not np.isfinite(value) else f"({value:.3f})"


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if np.isfinite(value)]
    return float(np.mean(kept)) if kept else float("nan")
