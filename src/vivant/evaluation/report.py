"""A report: what was measured, how, and whether it is good enough. JSON for machines, Markdown for people.

No time stamps and no paths: the same weights on the same machine give the same file, byte for byte (speed aside).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from vivant import __version__
from vivant.engine import Engine
from vivant.errors import InputError
from vivant.media.image import write_image
from vivant.media.staging import StagedFile, make_folder, output_errors

Row: TypeAlias = tuple[str | float | None, ...]

DIGITS = 4
"""Decimals kept in reports: what is below is noise of the number of threads."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a number should be."""

    number: str
    """A key of Report.numbers."""
    least: float = -math.inf
    most: float = math.inf
    says: str
    """The demand in words."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and what was measured."""

    target: Target
    value: float | None
    """None where it could not be measured."""

    @property
    def result(self) -> Literal["pass", "fail", "not measured"]:
        if self.value is None:
            return "not measured"
        return "pass" if self.target.least <= self.value <= self.target.most else "fail"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers in rows and columns. nan and None are shown as a dash."""

    title: str
    columns: tuple[str, ...]
    """The first names the rows."""
    rows: tuple[Row, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.title!r} has rows that do not fit its {len(self.columns)} columns")


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one protocol."""

    protocol: str
    """Name and version, such as "synthetic-self-reenactment/2"."""
    title: str
    subject: Mapping[str, Any]
    """What was measured: family, networks, precision, fingerprint of the weights (see `describe_engine`)."""
    settings: Mapping[str, Any]
    numbers: Mapping[str, float]
    """The headline numbers by name; nan where one could not be measured."""
    tables: tuple[Table, ...]
    targets: tuple[Target, ...] = ()
    notes: tuple[str, ...] = ()
    sheets: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Contact sheets by name, uint8 RGB."""
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    """Values over a clip by name: pairs of frame index and value."""
    plots: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Drawings of them by name, uint8 RGB."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        found = ((target, self.numbers.get(target.number)) for target in self.targets)
        return tuple(Verdict(target=target, value=_finite(value)) for target, value in found)

    @property
    def passed(self) -> bool | None:
        """Whether every target that could be judged is met; None where none could."""
        results = [verdict.result for verdict in self.verdicts if verdict.result != "not measured"]
        return all(result == "pass" for result in results) if results else None

    def to_json(self) -> str:
        data: dict[str, Any] = {
            "protocol": self.protocol,
            "title": self.title,
            "vivant": __version__,
            "subject": dict(self.subject),
            "settings": dict(self.settings),
            "numbers": {name: _rounded(value) for name, value in self.numbers.items()},
            "verdicts": [
                {
                    "number": verdict.target.number,
                    "says": verdict.target.says,
                    "value": _rounded(verdict.value),
                    "result": verdict.result,
                }
                for verdict in self.verdicts
            ],
            "passed": self.passed,
            "tables": [
                {
                    "title": table.title,
                    "columns": list(table.columns),
                    "rows": [[_rounded(cell) for cell in row] for row in table.rows],
                    "note": table.note,
                }
                for table in self.tables
            ],
            "notes": list(self.notes),
        }
        if self.curves:
            data["curves"] = {
                name: [[_rounded(value) for value in point] for point in points]
                for name, points in self.curves.items()
            }
        return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        subject = ", ".join(f"{name} {value}" for name, value in self.subject.items())
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        parts = [f"# {self.title}", f"Protocol `{self.protocol}`, vivant {__version__}. {subject}."]
        parts.append(f"Settings: {settings}.")
        if self.targets:
            rows = [(v.target.says, v.value, v.result) for v in self.verdicts]
            parts.append(_markdown(("target", "measured", "result"), rows))
        for table in self.tables:
            parts += [f"## {table.title}", _markdown(table.columns, table.rows)]
            if table.note:
                parts.append(table.note)
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: str | Path, name: str, *, overwrite: bool = False) -> list[Path]:
        """Write NAME.json, NAME.md, NAME_<sheet>.jpg, NAME_<plot>.png. Raises InputError where one exists already."""
        folder = Path(folder)
        make_folder(folder)
        texts = {folder / f"{name}.json": self.to_json(), folder / f"{name}.md": self.to_markdown()}
        sheets = {folder / f"{name}_{sheet}.jpg": image for sheet, image in self.sheets.items()}
        sheets |= {folder / f"{name}_{plot}.png": image for plot, image in self.plots.items()}
        taken = [path for path in (*texts, *sheets) if path.exists()]
        if taken and not overwrite:
            raise InputError(f"{taken[0]} exists already; choose another name or allow overwriting")
        for path, text in texts.items():
            staged = StagedFile(path, overwrite=overwrite)
            with output_errors(path):
                staged.temporary.write_text(text, "utf-8")
            staged.commit()
        for path, image in sheets.items():
            write_image(path, image, overwrite=overwrite)
        return [*texts, *sheets]


def describe_engine(engine: Engine) -> dict[str, Any]:
    """Family, precision, device and a fingerprint of the placed weights: enough to know them again."""
    digest = hashlib.sha256()
    for name, tensor in sorted(engine.networks.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return {
        "family": engine.family,
        "networks": getattr(engine.config, "networks", "one set"),
        "precision": str(engine.dtype).removeprefix("torch."),
        "device": engine.device.type,
        "weights": digest.hexdigest()[:12],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _rounded(value: str | float | None) -> str | float | None:
    if isinstance(value, str) or value is None:
        return value
    if not math.isfinite(value):
        return None
    return value if isinstance(value, int) else round(float(value), DIGITS)


def _markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| --- " + "| ---: " * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: str | float | None) -> str:
    value = _rounded(value)
    if value is None:
        return "-"
    if isinstance(value, (str, int)):
        return str(value).replace("|", "/")
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"
