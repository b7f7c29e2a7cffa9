"""Controls over time: keyframes from a JSON or CSV file, and the Controls at any moment between them.

JSON: [{"time": 0, "yaw": 0}, {"time": 1.5, "yaw": 20, "smile": 1}], or {"interpolation": "linear", "keyframes": [...]}.
CSV: a header such as time,yaw,smile; a cell may be empty. Every control goes its own way between the keyframes that
name it, and holds its first value before them and its last after them.
"""

from __future__ import annotations

import csv
import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vivant.controls import ABSURD, Controls, Sliders, is_control, parse_controls
from vivant.errors import InputError

Interpolation: TypeAlias = Literal["smooth", "linear"]
MAX_BYTES = 10_000_000


@dataclass(frozen=True)
class Keyframes:
    """Controls over time, in seconds."""

    tracks: Mapping[str, tuple[tuple[float, float], ...]]
    """By control: (time, value), times rising."""
    interpolation: Interpolation = "smooth"
    """Between two keyframes: with a soft start and end, or straight."""

    @property
    def end(self) -> float:
        """Time of the last keyframe, seconds."""
        return max((track[-1][0] for track in self.tracks.values()), default=0.0)

    def at(self, seconds: float, base: Controls | None = None) -> Controls:
        """The controls at a moment, added to `base`."""
        values = {name: self._value(track, seconds) for name, track in self.tracks.items()}
        return parse_controls(values, base=base)

    def _value(self, track: tuple[tuple[float, float], ...], seconds: float) -> float:
        after = bisect_right(track, seconds, key=lambda point: point[0])
        if after == 0 or after == len(track):
            return track[max(0, after - 1)][1]
        (start, low), (end, high) = track[after - 1], track[after]
        share = (seconds - start) / (end - start)
        if self.interpolation == "smooth":
            share = share * share * (3 - 2 * share)
        return low + share * (high - low)


def make_keyframes(
    rows: Sequence[Mapping[str, Any]],
    sliders: Sliders = "vivant",
    interpolation: Interpolation = "smooth",
    name: str = "keyframes",
) -> Keyframes:
    """Keyframes of rows with a `time` in seconds and controls; raises InputError, naming `name`."""
    if not rows:
        raise InputError(f"{name} holds no keyframe.")
    if interpolation not in ("smooth", "linear"):
        raise InputError(f"{name}: interpolation is smooth or linear, got {interpolation!r}.")
    tracks: dict[str, list[tuple[float, float]]] = {}
    last = -math.inf
    for number, row in enumerate(rows, 1):
        values = {key: value for key, value in row.items() if key != "time" and value is not None}
        time = row.get("time")
        if not isinstance(time, (int, float)) or isinstance(time, bool) or not 0 <= time < ABSURD:
            raise InputError(
                f"{name}: keyframe {number} needs a time in seconds from 0, got {str(time)[:40]}."
            )
        if time <= last:
            raise InputError(f"{name}: times rise, and keyframe {number} is at {time:g} after {last:g}.")
        last = time
        for given, value in values.items():
            try:
                meant = parse_controls({given: value}, sliders)
            except InputError as error:
                raise InputError(f"{name}: keyframe {number}: {error}") from error
            for control in meant.changed or _named(given, sliders):
                tracks.setdefault(control, []).append((float(time), getattr(meant, control)))
    return Keyframes({control: tuple(points) for control, points in tracks.items()}, interpolation)


def read_keyframes(path: str | Path, sliders: Sliders = "vivant") -> Keyframes:
    """The keyframes of a .json or .csv file. Raises InputError for what is missing or damaged."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB, which no keyframes are.")
    interpolation: Any = "smooth"
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = [_row(row) for row in csv.DictReader(text.splitlines())]
        else:
            data = json.loads(text)
            if isinstance(data, dict):
                interpolation = data.get("interpolation", interpolation)
                sliders = data.get("sliders", sliders)
                data = data.get("keyframes")
            rows = data
    except (UnicodeDecodeError, ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"{path} is neither JSON nor CSV with keyframes ({error}).") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f'{path} holds no list of keyframes such as [{{"time": 0, "yaw": 10}}].')
    if sliders not in ("vivant", "alp", "facefusion"):
        raise InputError(f"{path}: sliders is vivant, alp or facefusion, got {sliders!r}.")
    return make_keyframes(rows, sliders, interpolation, str(path))


def _row(row: Mapping[str | None, Any]) -> dict[str, Any]:
    """A line of a CSV file: empty cells are not there."""
    if None in row:
        raise ValueError("a line has more cells than the header")
    cells = {str(key).strip(): str(cell or "").strip() for key, cell in row.items()}
    return {key: float(cell) for key, cell in cells.items() if cell}


def _named(given: str, sliders: Sliders) -> tuple[str, ...]:
    """The control that a name means where its value is nothing: it is a keyframe all the same."""
    assert is_control(given)
    for probe in (1e-6, -1e-6, 1.0):
        try:
            changed = parse_controls({given: probe}, sliders).changed
        except InputError:
            continue
        if changed:
            return changed
    return ()
