"""Pictures of people driven by clips of others: does the output follow the driver, and is the person kept?

There is no true picture, so driver and output are measured with the same 468-point mesh, an outside judge.
Motion is relative to the driver's first frame (users' files start from the calmest face of the first two seconds,
unless `--reference-frame 0` is said). What is compared is change over time: correlation and standard deviation, never
absolute values. Memory does not grow with the clip, but for seven numbers a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vivant.animation import Animation, animate
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.evaluation import metrics, protocol
from vivant.evaluation.driving import found_files, names_of
from vivant.evaluation.faces import QUANTITIES, FaceFinder, FaceSeries, FaceWatch
from vivant.evaluation.piecewise import PiecewiseAffine
from vivant.evaluation.reading import DriverReading
from vivant.evaluation.real_report import Driven, Followed, report_of
from vivant.evaluation.report import Report
from vivant.evaluation.sheet import evenly, sheet
from vivant.evaluation.shown import Means, as_tensor
from vivant.face.points import NUM_MESH, Landmarks
from vivant.media.reader import read_clip
from vivant.media.resample import tidy_rate
from vivant.ops.fetching import as_pixels

TEXTURE_FRAMES = 12
"""Frames per animation, evenly spread, in which texture and background are compared where they show a face."""


@dataclass(frozen=True)
class _Driver:
    """A clip as the protocol uses it; its frames are read again for every portrait, never kept."""

    name: str
    path: Path
    every: int
    max_frames: int | None
    rate: Fraction
    """Of the frames that are used, per second: what is smoothed over time is told it."""
    faces: FaceSeries
    jitter: float
    shown: dict[int, np.ndarray]
    """The frames of the contact sheet, by index."""

    def frames(self) -> Iterator[np.ndarray]:
        return _frames(self.path, self.every, self.max_frames)

    def animation(self, engine: Engine, portrait: Portrait, options: Any) -> Animation:
        frames = self.frames()
        return animate(engine, portrait, frames, options=options, frame_rate=self.rate, paste_back=False)

    def __len__(self) -> int:
        return len(self.faces.found)


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
        portraits, clips: files, or folders of files; their names are what the report calls them (see names_of).
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
    pictures = found_files(map(Path, portraits), "image", "portrait", same_names=True)
    drivers = found_files(map(Path, clips), "video", "clip", same_names=True)
    people = [(name, engine.prepare(path)) for name, path in zip(names_of(pictures), pictures, strict=True)]
    found: list[Driven] = []
    sheets = {}
    seen: dict[str, dict[str, Followed]] = {}
    names = names_of(drivers)
    for called, path in zip(names, drivers, strict=True):
        driver, read = _driver(called, path, every, max_frames, engine)
        if read is not None:
            seen[driver.name] = _followed_all(driver.faces, read, driver.faces.found)
        rows: list[list[np.ndarray | None]] = [[None, *driver.shown.values()]]
        for name, portrait in people:
            measure = _Measure(portrait, driver)
            with driver.animation(engine, portrait, options) as outputs:
                for output in outputs:
                    measure.update(output)
            found.append(measure.result(name))
            rows.append([reference_of(portrait), *measure.shown])
            if progress is not None:
                progress(len(found), len(people) * len(drivers))
        labels = [f"driver: {driver.name}", *(name for name, _ in people)]
        sheets[driver.name] = sheet(rows, labels=labels)
    settings = {
        "portraits": ", ".join(name for name, _ in people),
        "clips": ", ".join(names),
        "every_frames": every,
        "max_frames": max_frames or "all",
        "options": "defaults" if options is None else str(options),
    }
    return report_of(found, engine, settings, sheets, seen)


def _frames(path: Path, every: int, max_frames: int | None) -> Iterator[np.ndarray]:
    with read_clip(path) as clip:
        for frame in islice(clip, 0, None if max_frames is None else every * max_frames, every):
            yield frame.image


def _driver(
    name: str, path: Path, every: int, max_frames: int | None, engine: Engine
) -> tuple[_Driver, dict[str, np.ndarray] | None]:
    """The driver, and what the engine's networks read from it (see DriverReading)."""
    watch, reading = FaceWatch(), DriverReading(engine)
    for frame in _frames(path, every, max_frames):
        reading.update(frame, watch.update(frame))
    series = watch.series
    if int(series.found.sum()) < 3:
        raise InputError(f"{path} shows a face in fewer than three of the frames used; choose another clip")
    wanted = set(evenly(len(watch), protocol.NUM_SHEET_COLUMNS - 1))
    shown = {i: frame for i, frame in enumerate(_frames(path, every, max_frames)) if i in wanted}
    with read_clip(path) as clip:
        rate = tidy_rate(clip.frame_rate) / every
    driver = _Driver(name, path, every, max_frames, rate, series, watch.jitter, shown)
    return driver, reading.quantities


class _Measure:
    """One animation, measured picture by picture."""

    def __init__(self, portrait: Portrait, driver: _Driver) -> None:
        self._portrait, self._driver = portrait, driver
        self._watch = FaceWatch()
        self._chosen = set(evenly(len(driver), TEXTURE_FRAMES))
        self._reference: np.ndarray | None = None
        self._home: Landmarks | None = None
        self._laid_back: PiecewiseAffine | None = None
        self._rest = float("nan")
        self._means = Means()
        self.shown: list[np.ndarray] = []
        """Of the contact sheet."""

    def update(self, output: np.ndarray) -> None:
        index = len(self._watch)
        face = self._watch.update(output)
        if self._reference is None:
            self._reference = reference_of(self._portrait, len(output))
            self._home = FaceFinder().find(self._reference)
            if self._home is not None:
                self._laid_back = PiecewiseAffine(self._home.xy[:NUM_MESH], len(output))
            # Nothing has moved yet.
            self._rest = metrics.psnr(as_tensor(output), as_tensor(self._reference)).item()
        if index in self._driver.shown:
            self.shown.append(output)
        if index in self._chosen and face is not None and self._home is not None:
            self._compare(output, self._reference, face, self._home)

    def _compare(self, output: np.ndarray, reference: np.ndarray, face: Landmarks, home: Landmarks) -> None:
        meshes = (home.xy[:NUM_MESH], face.xy[:NUM_MESH])
        outside = torch.from_numpy(metrics.outside_heads(meshes, len(reference)))[None]
        error = metrics.background_error(as_tensor(output), as_tensor(reference), outside).item()
        self._means.add("background", error)
        assert self._laid_back is not None
        self._means.add("texture", metrics.texture_kept(output, reference, self._laid_back, meshes[1]))

    def result(self, name: str) -> Driven:
        driver, output = self._driver, self._watch.series
        both = driver.faces.found & output.found
        means = self._means.values
        return Driven(
            portrait=name,
            clip=driver.name,
            num_frames=len(self._watch),
            num_without_face=int((driver.faces.found & ~output.found).sum()),
            followed=_followed_all(driver.faces, output.quantities, both),
            jitter_driver=driver.jitter,
            jitter_output=self._watch.jitter,
            background=means.get("background", float("nan")),
            texture=means.get("texture", float("nan")),
            rest_psnr=self._rest,
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


def reference_of(portrait: Portrait, size_px: int | None = None) -> np.ndarray:
    """The portrait's crop, uint8 (S, S, 3)."""
    assert portrait.reference is not None, "a portrait that is made by `prepare` has its reference"
    pixels = as_pixels(portrait.reference).cpu().numpy()
    if size_px is None or len(pixels) == size_px:
        return pixels
    way = cv2.INTER_AREA if size_px < len(pixels) else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (size_px, size_px), interpolation=way), np.uint8)
