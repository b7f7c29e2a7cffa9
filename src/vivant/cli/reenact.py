"""The part of `vivant evaluate` that runs reenactment protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vivant.evaluation.report import Report


@dataclass(frozen=True)
class Given:
    """What the command line says."""

    protocol: str
    clips: Sequence[Path]
    portraits: Sequence[Path]
    real: Path | None
    weights: Sequence[str]
    """NAME=PATH."""
    options: Any = None
    """The family's Options; None for the defaults."""


def reenacted(engine: Any, given: Given, out: Path | None) -> Report:
    """Measure. What is measured of each animation is kept in a folder below `out`, to go on after a stop."""
    from vivant.cli.progress import progress_of
    from vivant.evaluation.judges.given import load_judges, parse_weights
    from vivant.evaluation.reenactment import Request, measure_reenactment

    request = Request(
        protocol=given.protocol,
        clips=given.clips,
        portraits=given.portraits,
        real=given.real,
        options=given.options,
        judges=load_judges(parse_weights(given.weights)),
        items=None if out is None else out / f"{given.protocol}_items",
    )
    with progress_of("frames") as progress:
        return measure_reenactment(engine, request, progress)
