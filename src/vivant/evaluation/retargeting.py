"""Stitching and retargeting, measured: do shoulders stay, do eyes and lips open as far as asked, and only they?

Shoulders: the portrait is turned, tilted and moved; its picture below the chin, pasted back, is compared with that of
the portrait drawn unmoved. Openness: eyes and lips are asked for ratios from 0 to 0.8; the face mesh, an outside judge,
says what came out, and the picture elsewhere is compared with the first of the sweep. Letters: T pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vivant.engine import Engine
from vivant.engines.liveportrait.config import Options
from vivant.engines.liveportrait.engine import LivePortrait, LivePortraitPortrait
from vivant.engines.liveportrait.losses import masked_l1, opening_masks, shoulder_mask
from vivant.engines.liveportrait.motion import Motion
from vivant.errors import InputError
from vivant.evaluation import protocol
from vivant.evaluation.faces import FaceFinder, FoundFaces
from vivant.evaluation.people import held_out_people
from vivant.evaluation.reenact import as_liveportrait
from vivant.evaluation.report import Report, Row, Table, describe_engine
from vivant.evaluation.sheet import sheet
from vivant.face.paste import paste_back
from vivant.face.points import Landmarks, eye_openness, lip_openness, to_68
from vivant.ops.fetching import as_pixels
from vivant.ops.rotation import rotation_from_degrees

PROTOCOL = "retargeting/2"
SWEEP = (0.0, 0.2, 0.4, 0.6, 0.8)
TURNS_DEGREES = ((0.0, 15.0, 0.0), (0.0, -15.0, 0.0), (10.0, 0.0, 0.0), (0.0, 0.0, 8.0))
"""Pitch, yaw and roll added to the portrait's own pose."""
SHIFTS = ((0.1, 0.0, 1.0), (0.0, 0.08, 1.0), (0.0, 0.0, 1.12))
"""Sideways and down in crop units (whole crop = 2), and size: the head moved without turning."""
STILL = Options(smoothing_ms=0)


@dataclass
class Findings:
    """One entry per portrait; openness (portraits, sweep)."""

    names: list[str] = field(default_factory=list)
    shoulders: dict[str, list[float]] = field(default_factory=lambda: {"off": [], "on": []})
    opened: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"eyes": [], "lips": []})
    elsewhere: dict[str, list[float]] = field(default_factory=lambda: {"eyes": [], "lips": []})
    rows: list[list[np.ndarray | None]] = field(default_factory=list)


def measure_retargeting(
    engine: Engine,
    data_folder: str | Path | None = None,
    portraits: Sequence[str | Path] = (),
    *,
    num_identities: int = protocol.NUM_IDENTITIES,
    progress: Callable[[int, int | None], None] | None = None,
) -> Report:
    """Measure an engine of the family liveportrait on held-out rendered people and on pictures.

    Raises InputError where the engine has no such networks or there is nothing to measure; FaceError where a picture
    shows no face. Rendered people in whom the mesh finds no face are left out and counted.
    """
    driven = as_liveportrait(engine)
    if not driven.networks.has_retargeting:
        raise InputError("this preset has no stitching and retargeting networks to measure")
    finder, findings, skipped = FaceFinder(), Findings(), 0
    pictures: list[tuple[str, LivePortraitPortrait, Landmarks | None]] = []
    for path in portraits:
        portrait = driven.prepare(path)
        assert portrait.framing is not None
        pictures.append((Path(path).name, portrait, portrait.framing.landmarks))
    if data_folder is not None:
        people = held_out_people(Path(data_folder), 1, num_identities, driven.crop_size_px, protocol.SEED)[1]
        for person in people:
            crop = torch.from_numpy(person.source).permute(2, 0, 1).float() / 255
            portrait = driven.prepare(crop, face=None)
            pictures.append((person.name, portrait, finder.faces([person.source]).landmarks[0]))
    for index, (name, portrait, landmarks) in enumerate(pictures, 1):
        if landmarks is None:
            skipped += 1
        else:
            _measure(driven, name, portrait, landmarks, finder, findings)
        if progress is not None:
            progress(index, len(pictures))
    if not findings.names:
        raise InputError("there is no face to measure; give portraits, or a folder of rendered people")
    return _report(driven, findings, skipped)


def _measure(
    engine: LivePortrait,
    name: str,
    portrait: LivePortraitPortrait,
    landmarks: Landmarks,
    finder: FaceFinder,
    findings: Findings,
) -> None:
    findings.names.append(name)
    own = portrait.motion
    if own.eyes_open is None:
        left, right = eye_openness(landmarks)
        eyes = torch.tensor([[left, right]]).to(own.scale)
        own = replace(own, eyes_open=eyes, lips_open=own.scale.new_tensor([[lip_openness(landmarks)]]))
        portrait = replace(portrait, motion=own)
    at = _points_in_crop(engine, portrait, landmarks)
    turns = [
        own,
        *(_turned(own, *angles) for angles in TURNS_DEGREES),
        *(_shifted(own, *shift) for shift in SHIFTS),
    ]
    pasted: dict[str, Tensor] = {}
    for word, stitching in (("off", False), ("on", True)):
        frames = _draw(engine, portrait, turns, [replace(STILL, stitching=stitching)] * len(turns))
        pasted[word] = frames
        shown = _pasted(engine, portrait, frames)
        mask = shoulder_mask(at, shown.shape[-1])
        same = _pasted(engine, portrait, pasted["off"][:1])  # unmoved and not stitched
        findings.shoulders[word].append(
            float(masked_l1(shown[1:], same, mask.expand(len(shown) - 1, -1, -1, -1)))
        )
    size = pasted["off"].shape[-1]
    masks = dict(zip(("eyes", "lips"), opening_masks(at, size), strict=True))
    shown_rows: list[np.ndarray | None] = []
    for what in ("eyes", "lips"):
        options = [
            replace(STILL, eyes_open=value) if what == "eyes" else replace(STILL, lips_open=value)
            for value in SWEEP
        ]
        frames = _draw(engine, portrait, [own] * len(SWEEP), options)
        drawn = [as_pixels(frame).numpy() for frame in frames]
        findings.opened[what].append(_openness(finder.faces(drawn), what))
        kept = (1 - masks[what]).expand(len(frames) - 1, -1, -1, -1)
        findings.elsewhere[what].append(float(masked_l1(frames[1:], frames[:1], kept)))
        shown_rows += drawn[::2]
    findings.rows.append(shown_rows)


def _draw(
    engine: LivePortrait,
    portrait: LivePortraitPortrait,
    motions: Sequence[Motion],
    options: Sequence[Options],
) -> Tensor:
    """(T, 3, S, S): each motion against the portrait's own."""
    frames = []
    for motion, chosen in zip(motions, options, strict=True):
        state = engine.start(portrait, chosen)
        state.first = portrait.motion
        frames.append(engine.render(state, motion).cpu())
    return torch.cat(frames)


def _turned(motion: Motion, pitch: float, yaw: float, roll: float) -> Motion:
    turn = rotation_from_degrees(*(torch.tensor([angle]).to(motion.rotation) for angle in (pitch, yaw, roll)))
    return replace(motion, rotation=motion.rotation @ turn)


def _shifted(motion: Motion, right: float, down: float, size: float) -> Motion:
    shift = motion.translation.new_tensor([[right, down, 0.0]])
    return replace(motion, translation=motion.translation + shift, scale=size * motion.scale)


def _points_in_crop(engine: LivePortrait, portrait: LivePortraitPortrait, landmarks: Landmarks) -> Tensor:
    """(1, 70, 2): the 68 points and the pupils, crop units."""
    at = to_68(landmarks)
    if portrait.framing is not None:
        at = portrait.framing.crop.to_crop(at)
    return torch.from_numpy(np.asarray(at, np.float32) * (2 / engine.crop_size_px) - 1)[None]


def _pasted(engine: LivePortrait, portrait: LivePortraitPortrait, frames: Tensor) -> Tensor:
    """The frames as they stand in the whole picture, seen through the crop again; crops as they are."""
    framing = portrait.framing
    if framing is None:
        return frames
    seen = [framing.crop.apply(paste_back(framing.image, as_pixels(f).numpy(), framing.crop)) for f in frames]
    return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2).float() / 255


def _openness(faces: FoundFaces, what: str) -> np.ndarray:
    """(T,) of the mesh, nan without a face."""
    measure = {"eyes": lambda face: float(np.mean(eye_openness(face))), "lips": lip_openness}[what]
    return np.array([np.nan if face is None else measure(face) for face in faces.landmarks])


def _mean(values: np.ndarray) -> float:
    """Of those that were measured; nan where none was."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _report(engine: LivePortrait, findings: Findings, skipped: int) -> Report:
    numbers: dict[str, float] = {}
    for word, values in findings.shoulders.items():
        numbers[f"shoulder error, stitching {word}"] = 255 * float(np.mean(values))
    rows: list[Row] = []
    for what in ("eyes", "lips"):
        opened = np.stack(findings.opened[what])
        steps = np.diff(opened, axis=1)
        seen = steps[np.isfinite(steps)]
        numbers[f"{what}: share of steps that open"] = float(np.mean(seen > 0)) if len(seen) else float("nan")
        numbers[f"{what}: change elsewhere"] = 255 * float(np.mean(findings.elsewhere[what]))
        rows.append((what, *(_mean(column) for column in opened.T)))
    people: list[Row] = [
        (name, *(255 * findings.shoulders[word][i] for word in ("off", "on")))
        for i, name in enumerate(findings.names)
    ]
    return Report(
        protocol=PROTOCOL,
        title="Stitching and retargeting",
        subject=describe_engine(engine),
        settings={"portraits": len(findings.names), "without a face": skipped, "sweep": str(SWEEP)},
        numbers=numbers,
        tables=(
            Table(title="Summary", columns=("number", "value"), rows=tuple(numbers.items())),
            Table(
                title="Openness measured by the face mesh",
                columns=("asked for", *(f"{value:.1f}" for value in SWEEP)),
                rows=tuple(rows),
                note="Means. Eyes: lid distance over eye width; lips: lip distance over mouth width.",
            ),
            Table(
                title="Error below the chin after turning and moving the head, levels of 255",
                columns=("portrait", "without stitching", "with"),
                rows=tuple(people),
                note="Mean absolute difference from the portrait drawn unmoved, pasted back where there is a picture.",
            ),
        ),
        sheets={
            "sweep": sheet(
                findings.rows[:8],
                columns=("eyes 0", "eyes 0.4", "eyes 0.8", "lips 0", "lips 0.4", "lips 0.8"),
            )
        },
    )
