"""The report of a reenactment protocol: means over clips, distances over the set, what was not measured and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vivant.engine import Engine
from vivant.evaluation import metrics, protocol
from vivant.evaluation.catalogue import Metric, measured_in, reason_not_measured
from vivant.evaluation.gauges.faces import Mode
from vivant.evaluation.items import Item
from vivant.evaluation.plot import plot
from vivant.evaluation.report import Report, Row, Table, describe_engine
from vivant.evaluation.sheet import sheet

if TYPE_CHECKING:
    from vivant.evaluation.reenactment import Request

MAX_SHEET_ROWS = 24
_NOTES = (
    "Numbers are means per frame, then over the animations. Output and target are compared inside a square around the "
    f"face at {protocol.REENACTMENT_PX} px, pasted back into the picture. docs/evaluation.md says what compares with "
    "the papers.",
    "Between two people only the change since the first frame compares; between pictures of one person, values do.",
)


@dataclass(frozen=True)
class RealPictures:
    """What FID of cross-reenactment compares with."""

    count: int
    fingerprint: str
    """Of the files."""
    features: metrics.RunningGaussian


def report_of(
    mode: Mode,
    plan: protocol.Reenactment,
    items: Sequence[Item],
    engine: Engine,
    request: Request,
    real: RealPictures | None,
) -> Report:
    """The report; None for `real` where no pictures were given."""
    wanted = list(measured_in(request.protocol))
    if mode == "cross" and request.protocol == "long":
        wanted = [metric for metric in wanted if metric.name != "lmd_mesh"]
    numbers = _means(items) | _distances(mode, plan, items, real)
    judges = request.judges
    settings: dict[str, Any] = {
        "sources": ", ".join(dict.fromkeys(item.source for item in items)),
        "clips": ", ".join(dict.fromkeys(item.clip for item in items)),
        "frames": sum(item.num_frames for item in items),
        "max_frames": plan.max_frames or "all",
        "every": plan.every,
        "seed": request.seed,
        "real": "none given" if real is None else f"{real.count} pictures {real.fingerprint}",
        "options": "defaults" if request.options is None else str(request.options),
        "weights": ", ".join(f"{name} {digits}" for name, digits in judges.fingerprints.items())
        or "none given",
    }
    measured = [metric for metric in wanted if np.isfinite(numbers.get(metric.name, np.nan))]
    missing = [metric for metric in wanted if metric not in measured]
    return Report(
        protocol=plan.name,
        title=plan.title,
        subject=describe_engine(engine),
        settings=settings,
        numbers={metric.name: numbers.get(metric.name, float("nan")) for metric in wanted},
        tables=(
            _summary(measured, numbers),
            _not_measured([(metric.name, reason_not_measured(metric, judges)) for metric in missing]),
            _by_item(measured, items),
        ),
        notes=_NOTES,
        sheets={"sheet": _sheet(items)},
        curves=_curves(items),
        plots=_plots(items),
    )


def _means(items: Sequence[Item]) -> dict[str, float]:
    names = dict.fromkeys(name for item in items for name in item.numbers)
    found = {}
    for name in names:
        values = [item.numbers[name] for item in items if np.isfinite(item.numbers.get(name, np.nan))]
        found[name] = float(np.mean(values)) if values else float("nan")
    return found


def _distances(
    mode: Mode, plan: protocol.Reenactment, items: Sequence[Item], real: RealPictures | None
) -> dict[str, float]:
    found = {"fvd25": _frechet(_gathered(items, "clips_output"), _gathered(items, "clips_target"))}
    if plan.max_frames is not None:
        given = None if real is None else real.features
        wanted = _gathered(items, "inception_target") if mode == "self" else given
        found["fid"] = _frechet(_gathered(items, "inception_output"), wanted)
    return found


def _gathered(items: Sequence[Item], name: str) -> metrics.RunningGaussian | None:
    """Of all animations; None where nothing was kept under that name."""
    running: metrics.RunningGaussian | None = None
    for item in items:
        features = item.features.get(name)
        if features is not None:
            running = running or metrics.RunningGaussian(features.shape[1])
            running.update(features)
    return running


def _frechet(made: metrics.RunningGaussian | None, wanted: metrics.RunningGaussian | None) -> float:
    if made is None or wanted is None:
        return float("nan")
    return metrics.frechet_distance(made, wanted)


def _summary(measured: Sequence[Metric], numbers: Mapping[str, float]) -> Table:
    rows: list[Row] = [
        (
            f"{metric.name}/{metric.version}",
            numbers[metric.name],
            metric.better,
            metric.range,
            metric.comparable,
            metric.says,
        )
        for metric in measured
    ]
    return Table(
        title="Measured",
        columns=("metric/version", "value", "better", "range", "comparable with papers", "what it is"),
        rows=tuple(rows),
    )


def _not_measured(missing: Sequence[tuple[str, str]]) -> Table:
    return Table(title="Not measured", columns=("metric", "why"), rows=tuple(missing))


def _by_item(measured: Sequence[Metric], items: Sequence[Item]) -> Table:
    names = [metric.name for metric in measured if any(metric.name in item.numbers for item in items)]
    rows: list[Row] = [
        (
            item.source if item.source == item.clip else f"{item.source} x {item.clip}",
            item.num_frames,
            *(item.numbers.get(name, float("nan")) for name in names),
        )
        for item in items
    ]
    return Table(title="By animation", columns=("", "frames", *names), rows=tuple(rows))


def _sheet(items: Sequence[Item]) -> np.ndarray:
    """Two rows per animation: the target, and the portrait with what was made of it."""
    rows: list[list[np.ndarray | None]] = []
    labels: list[str] = []
    for item in items[:MAX_SHEET_ROWS]:
        targets, outputs = (list(item.thumbs.get(name, ())) for name in ("target", "output"))
        rows += [[None, *targets], [item.thumbs["source"][0], *outputs]]
        labels += [f"{item.clip}", f"{item.source}: output"]
    return sheet(rows, labels=labels)


def _curves(items: Sequence[Item]) -> dict[str, list[list[float]]]:
    """By "source x clip: quantity": frame index and value."""
    return {
        f"{item.source} x {item.clip}: {name}": points.tolist()
        for item in items
        for name, points in item.curves.items()
    }


def _plots(items: Sequence[Item]) -> dict[str, np.ndarray]:
    """A picture per quantity with a line per animation."""
    names = dict.fromkeys(name for item in items for name in item.curves)
    return {
        name: plot(
            {f"{item.source} x {item.clip}": item.curves[name] for item in items if name in item.curves},
            title=f"{name} over frames",
        )
        for name in names
    }
