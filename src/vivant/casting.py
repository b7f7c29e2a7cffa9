"""Who is driven by what: one performance per driver, with the faces of the source that it moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

from vivant.drivers import DrivingClip, How, driven
from vivant.engine import Engine
from vivant.errors import InputError
from vivant.face.missing import MissingPolicy, MissingReport
from vivant.media.probe import probe_kind
from vivant.motion_file import SUFFIX
from vivant.performance import Performance
from vivant.session import Session
from vivant.sources import Source

Drivers: TypeAlias = DrivingClip | Mapping[int, DrivingClip]
"""One for all faces, or one per face, by the face's number in the source."""


@dataclass(frozen=True)
class Cast:
    """Performances that begin together."""

    performances: tuple[Performance, ...]
    frame_rate: Fraction | None


def cast(
    engine: Engine[Any, Any, Any, Any, Any],
    source: Source,
    driving: Drivers,
    how: How,
    *,
    options: Any = None,
    on_missing: MissingPolicy = "hold",
) -> Cast:
    """Drivers opened, at one rate, and a session for each face. Raises InputError or FaceError."""
    portraits = source.portraits()
    performances = []
    for number, (clip, faces) in enumerate(_roles(source, driving)):
        mark = None if how.resume is None else how.resume.mark(f"driver{number}")
        mine = _how_of(clip, how, alone=not isinstance(driving, Mapping))
        made = driven(engine, clip, replace(mine, resume=mark))
        how = replace(how, rate=how.rate or made.rate)
        sessions = [
            Session(
                engine, portraits[face], options, how.seed, None if made.rate is None else float(made.rate)
            )
            if mark is None
            else Session.restore(mark.mark(f"face{index}"), engine, portraits[face])
            for index, face in enumerate(faces)
        ]
        lasts = source.moves and made.is_still
        missing = MissingReport(on_missing, name=str(clip) if isinstance(clip, (str, Path)) else "driving")
        waits = isinstance(clip, (str, Path, Sequence))  # what else drives comes when it comes
        ahead = asked_ahead(engine) if waits else 0
        performance = Performance(sessions, made, missing, faces=faces, lasts=lasts, ahead=ahead)
        if mark is not None:
            performance.go_on(mark)
        performances.append(performance)
    return Cast(tuple(performances), how.rate)


def asked_ahead(engine: Engine[Any, Any, Any, Any, Any]) -> int:
    """Frames: a chunk where a GPU draws, which would else wait while faces are found and pasted."""
    return engine.stream.chunk_frames if engine.device.type == "cuda" else 0


def _roles(source: Source, driving: Drivers) -> list[tuple[DrivingClip, list[int]]]:
    """Each driver with the faces that it moves, by their places in the scene. Raises InputError."""
    if not isinstance(driving, Mapping):
        return [(driving, list(range(len(source.numbers))))]
    if set(driving) != set(source.numbers):
        raise InputError(
            f"faces {_listed(source.numbers)} are animated and faces {_listed(driving)} have a driver; "
            "name one for each."
        )
    roles: list[tuple[DrivingClip, list[int]]] = []
    for face, number in enumerate(source.numbers):
        assert number is not None
        clip = driving[number]
        shared = [faces for other, faces in roles if isinstance(clip, (str, Path)) and other == clip]
        if shared:
            shared[0].append(face)
        else:
            roles.append((clip, [face]))
    return roles


def _listed(numbers: Sequence[int | None] | Mapping[int, DrivingClip]) -> str:
    return ", ".join(str(number) for number in sorted(number for number in numbers if number is not None))


def _how_of(clip: DrivingClip, how: How, *, alone: bool) -> How:
    """Among several drivers, those that are heard speak and the others are looked at."""
    if alone or how.voice is None or not isinstance(clip, (str, Path)):
        return how
    heard = Path(clip).suffix.lower() != SUFFIX and probe_kind(clip) == "audio"
    return how if heard else replace(how, voice=None)
