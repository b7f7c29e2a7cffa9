"""Pictures of people driven by clips of others: does the output follow the driver, and is the person kept?

There is no true picture, so driver and output are measured with the same 468-point mesh, an outside judge.
Motion is relative to the driver's first frame, as users get it. What is compared is change over time: correlation
and standard deviation, never absolute values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vivant.animation import animate
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.evaluation import metrics, protocol
from vivant.evaluation.faces import QUANTITIES, FaceFinder, FaceSeries, follow_faces
from vivant.evaluation.piecewise import PiecewiseAffine
from vivant.evaluation.reading import read_driver
from vivant.evaluation.real_report import Driven, Followed, report_of
from vivant.evaluation.report import Report
from vivant.evaluation.sheet import evenly, sheet
from vivant.media.reader import read_clip

TEXTURE_FRAMES = 12
"""Frames per animation in which the texture is compared."""


@dataclass(frozen=True)
class _Driver:
    """A clip as the protocol uses it."""

    name: str
    frames: list[np.ndarray]
    faces: FaceSeries


def real_drive(
    engine: Engine,
    portraits: Sequence[str | Path],
    clips: Sequence[str | Path],
    *,
    every: int = protocol.EVERY_FRAMES,
    max_frames: int | None = None,
    options: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Animate every portrait with every clip and compare each output with its driver.

    Args:
        portraits, clips: paths; file names are what the report calls them.
        every: use each `every`-th frame of a clip.
        max_frames: at most this many frames per clip; None for all.
        options: the family's Options; None for the defaults, which is what the targets are about.
        progress: called with (animations done, all).

    Raises FaceError where a portrait shows no face and InputError where a file cannot be used.
    """
    if not portraits or not clips:
        raise InputError("give at least one portrait and one driving clip")
    if every < 1 or (max_frames is not None and max_frames < 3):
        raise InputError(f"every is 1 or more and max_frames 3 or more, got {every} and {max_frames}")
    people = [(Path(path).stem, engine.prepare(path)) for path in portraits]
    found: list[Driven] = []
    sheets = {}
    seen: dict[str, dict[str, Followed]] = {}
    for path in clips:
        driver = _driver(Path(path), every, max_frames)
        read = read_driver(engine, driver.frames, driver.faces)
        if read is not None:
            seen[driver.name] = _followed_all(driver.faces, read, driver.faces.found)
        chosen = evenly(len(driver.frames), protocol.NUM_SHEET_COLUMNS - 1)
        rows: list[list[np.ndarray | None]] = [[None, *(driver.frames[i] for i in chosen)]]
        for name, portrait in people:
            outputs = list(animate(engine, portrait, iter(driver.frames), options=options, paste_back=False))
            found.append(_measure(name, portrait, driver, outputs))
            rows.append([_reference(portrait), *(outputs[i] for i in chosen)])
            if progress is not None:
                progress(len(found), len(people) * len(clips))
        labels = [f"driver: {driver.name}", *(name for name, _ in people)]
        sheets[driver.name] = sheet(rows, labels=labels)
    settings = {
        "portraits": ", ".join(name for name, _ in people),
        "clips": ", ".join(Path(path).stem for path in clips),
        "every_frames": every,
        "max_frames": max_frames or "all",
        "options": "defaults" if options is None else str(options),
    }
    return report_of(found, engine, settings, sheets, seen)


def _driver(path: Path, every: int, max_frames: int | None) -> _Driver:
    with read_clip(path) as clip:
        frames = [
            frame.image
            for frame in islice(clip, 0, None if max_frames is None else every * max_frames, every)
        ]
    faces = follow_faces(frames)
    if int(faces.found.sum()) < 3:
        raise InputError(f"{path} shows a face in fewer than three of the frames used; choose another clip")
    return _Driver(path.stem, frames, faces)


def _measure(name: str, portrait: Portrait, driver: _Driver, outputs: list[np.ndarray]) -> Driven:
    output = follow_faces(outputs)
    both = driver.faces.found & output.found
    followed = _followed_all(driver.faces, output.quantities, both)
    reference = _reference(portrait, len(outputs[0]))
    home = FaceFinder().faces([reference])
    return Driven(
        portrait=name,
        clip=driver.name,
        num_frames=len(outputs),
        num_without_face=int((driver.faces.found & ~output.found).sum()),
        followed=followed,
        jitter_driver=_jitter(driver.faces, both),
        jitter_output=_jitter(output, both),
        background=_background(reference, home, outputs, output),
        texture=_texture(reference, home, outputs, output),
        rest_psnr=_rest(reference, outputs[0]),
    )


def _followed_all(
    driver: FaceSeries, output: Mapping[str, np.ndarray], both: np.ndarray
) -> dict[str, Followed]:
    return {name: _followed(driver.quantities[name], output[name], both) for name in QUANTITIES}


def _followed(driver: np.ndarray, output: np.ndarray, both: np.ndarray) -> Followed:
    return Followed(
        correlation=metrics.correlation(driver[both], output[both]),
        amplitude=metrics.amplitude_ratio(output[both], driver[both]),
        driver_std=float(np.std(driver[both])) if both.any() else float("nan"),
    )


def _jitter(faces: FaceSeries, both: np.ndarray) -> float:
    """Of the mesh, in thousandths of the outer eye distance, over frames with faces in both clips."""
    meshes = faces.meshes[both]
    return (
        1000 * metrics.jitter(meshes) / float(np.mean(faces.eye_distance[both]))
        if len(meshes)
        else float("nan")
    )


def _background(
    reference: np.ndarray, home: FaceSeries, outputs: list[np.ndarray], faces: FaceSeries
) -> float:
    """Mean background_error over the frames with a face, outside the heads of portrait and output."""
    errors = []
    for index in _with_face(home, faces):
        meshes = (home.meshes[0], faces.meshes[index])
        outside = torch.from_numpy(metrics.outside_heads(meshes, len(reference)))[None]
        errors.append(metrics.background_error(_frame(outputs[index]), _frame(reference), outside).item())
    kept = [error for error in errors if np.isfinite(error)]
    return float(np.mean(kept)) if kept else float("nan")


def _texture(reference: np.ndarray, home: FaceSeries, outputs: list[np.ndarray], faces: FaceSeries) -> float:
    chosen = list(_with_face(home, faces))
    if not chosen:
        return float("nan")
    laid_back = PiecewiseAffine(home.meshes[0], len(reference))
    return float(
        np.mean([metrics.texture_kept(outputs[i], reference, laid_back, faces.meshes[i]) for i in chosen])
    )


def _with_face(home: FaceSeries, faces: FaceSeries) -> Iterator[int]:
    """Some frames that show a face, where the portrait's own face is found in its crop."""
    if home.found[0]:
        indices = np.flatnonzero(faces.found)
        yield from (int(indices[i]) for i in evenly(len(indices), TEXTURE_FRAMES) if len(indices))


def _rest(reference: np.ndarray, first: np.ndarray) -> float:
    """PSNR of the first frame, in which nothing has moved yet, against the portrait."""
    return metrics.psnr(_frame(first), _frame(reference)).item()


def _reference(portrait: Portrait, size_px: int | None = None) -> np.ndarray:
    """The portrait's crop, uint8 (S, S, 3)."""
    assert portrait.reference is not None, "a portrait that is made by `prepare` has its reference"
    pixels = (portrait.reference.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
    if size_px is None or len(pixels) == size_px:
        return pixels
    way = cv2.INTER_AREA if size_px < len(pixels) else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (size_px, size_px), interpolation=way), np.uint8)


def _frame(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255
