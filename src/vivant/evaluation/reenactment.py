"""Self- and cross-reenactment, and long clips, as in the LivePortrait paper (arXiv 2407.03168, section 4, appendix A).

Any preset, any clips; see `protocol.Reenactment` for what is fixed. Memory does not grow with the length of a clip:
frames are measured and forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from vivant import __version__
from vivant.checkpoint import sha256_of
from vivant.engine import Engine
from vivant.errors import InputError
from vivant.evaluation import protocol
from vivant.evaluation.catalogue import CATALOGUE
from vivant.evaluation.driving import DrivingClip, driven, found_files, open_driving
from vivant.evaluation.gauges.change import ChangeGauge
from vivant.evaluation.gauges.drift import DriftGauge
from vivant.evaluation.gauges.faces import FaceGauge, JitterGauge, Mode
from vivant.evaluation.gauges.features import ClipFeatures, FrameFeatures
from vivant.evaluation.gauges.given import ScriptGauge
from vivant.evaluation.gauges.people import PersonGauge
from vivant.evaluation.gauges.pictures import PictureGauge
from vivant.evaluation.gauges.sync import MAX_SECONDS, SOUND_HZ, SyncGauge
from vivant.evaluation.items import THUMB_PX, Item, ItemFolder, key_of
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.judges.inception import NUM_FEATURES
from vivant.evaluation.metrics import RunningGaussian
from vivant.evaluation.protocol import REENACTMENT_SEED
from vivant.evaluation.reenactment_report import RealPictures, report_of
from vivant.evaluation.report import Report, describe_engine
from vivant.evaluation.sheet import evenly
from vivant.evaluation.shown import Gauge, Shown, as_tensor
from vivant.face.crop import Crop, CropSpec
from vivant.face.detect import FaceDetector
from vivant.face.framing import frame_faces, the_one
from vivant.face.mesh import FaceMesh
from vivant.face.points import Landmarks
from vivant.face.track import FaceTracker
from vivant.media.image import read_image

NUM_THUMBS = 6


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure, and on what."""

    protocol: str
    """"self", "cross" or "long"; long clips are self-reenactment where no portraits are given."""
    clips: Sequence[Path]
    """Files, or folders of files."""
    portraits: Sequence[Path] = ()
    """Files, or folders of files."""
    real: Path | None = None
    """Folder of pictures that FID of cross-reenactment compares with."""
    judges: Judges = field(default_factory=Judges)
    options: Any = None
    """The family's Options; None for the defaults."""
    seed: int = REENACTMENT_SEED
    """Of the noise, in families that have any."""
    items: Path | None = None
    """Folder that keeps what was measured, so that the same call goes on where it was stopped; None keeps nothing."""


@dataclass(frozen=True)
class _Square:
    """The square around a face in which pictures are compared."""

    crop: Crop
    face: Landmarks | None
    """Of the first picture, in the square."""
    picture: np.ndarray


def measure_reenactment(
    engine: Engine, request: Request, progress: Callable[[int, int | None], None] | None = None
) -> Report:
    """Measure and report; the same files, weights and machine give the same numbers.

    progress: called with (frames done, all). Raises InputError and FaceError where a file cannot be used.
    """
    plan = protocol.REENACTMENTS.get(request.protocol)
    if plan is None:
        raise InputError(f"--protocol is {', '.join(protocol.REENACTMENTS)}, got {request.protocol}")
    clips = found_files(request.clips, "video", "clip")
    portraits = found_files(request.portraits, "image", "portrait")
    if not clips:
        raise InputError(f"--protocol {request.protocol} needs clips; give --clip FILE or FOLDER")
    if request.protocol == "self" and portraits:
        raise InputError("--protocol self takes its portraits from the clips; leave --portrait out")
    if request.protocol == "cross" and not portraits:
        raise InputError("--protocol cross needs portraits; give --portrait FILE or FOLDER")
    run = _Run(engine, request, plan, "cross" if portraits else "self")
    opened = [open_driving(path, engine, plan.max_frames) for path in clips]
    sources: list[Path | None] = [*portraits] or [None]
    total = sum(clip.num_frames for clip in opened) * len(sources)
    items: list[Item] = []
    done = 0
    for source in sources:
        for clip in opened:

            def tick(frames: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + frames, total)

            items.append(run.item(source, clip, tick))
            done += clip.num_frames
            tick(0, done)
    return report_of(run.mode, plan, items, engine, request, run.real())


class _Run:
    """What is the same for all items of a call."""

    def __init__(self, engine: Engine, request: Request, plan: protocol.Reenactment, mode: Mode) -> None:
        self.engine, self.request, self.plan, self.mode = engine, request, plan, mode
        # Looked for before anything is measured, and read after.
        self._real = None if request.real is None else found_files([request.real], "image", "picture")
        self.folder = ItemFolder(request.items)
        # Two checkpoints may have the same weights, and draw otherwise: by chunks or time steps of their config.
        self._subject = describe_engine(engine) | {"config": asdict(engine.config)}

    def item(self, source: Path | None, clip: DrivingClip, tick: Callable[[int], None]) -> Item:
        """One animation: as it was measured before, or now."""
        key = key_of(
            {
                "vivant": __version__,
                "protocol": self.plan.name,
                "metrics": {metric.name: metric.version for metric in CATALOGUE},
                "engine": self._subject,
                "options": str(self.request.options),
                "seed": self.request.seed,
                "judges": dict(self.request.judges.fingerprints),
                "source": None if source is None else [source.stem, sha256_of(source)],
                "clip": [clip.path.stem, sha256_of(clip.path)],
            }
        )
        known = self.folder.read(key)
        if known is not None:
            return known
        item = self._measure(source, clip, tick)
        self.folder.write(key, item)
        return item

    def _measure(self, source: Path | None, clip: DrivingClip, tick: Callable[[int], None]) -> Item:
        first = clip.first()
        given = first if source is None else read_image(source)
        home = _square(given, source or clip.path)
        away = home if source is None else _square(first, clip.path)
        portrait = self.engine.prepare(given)
        frames, sequences = self._gauges(clip)
        faces = _Faces()
        kept = set(evenly(clip.num_frames, NUM_THUMBS))
        thumbs: dict[str, list[np.ndarray]] = {"target": [], "output": []}
        count = 0
        options, seed = self.request.options, self.request.seed
        for index, (picture, frame) in enumerate(
            driven(self.engine, portrait, clip, options=options, seed=seed)
        ):
            count += 1
            output, target = home.crop.apply(picture), away.crop.apply(frame)
            shown = faces.shown(index, output, target, home)
            # In self-reenactment the first frame is the portrait itself, and proves nothing.
            if index > 0 or self.mode == "cross":
                for gauge in [*sequences, *(frames if index % self.plan.every == 0 else ())]:
                    gauge.update(shown)
            if index in kept:
                for name, thumb in (("target", target), ("output", output)):
                    thumbs[name].append(_thumb(thumb))
            tick(count)
        return _item(source, clip, home, count, [*frames, *sequences], thumbs)

    def _gauges(self, clip: DrivingClip) -> tuple[list[Gauge], list[Gauge]]:
        """Of single frames, and of frames that follow each other."""
        judges, plan = self.request.judges, self.plan
        frames: list[Gauge] = [FaceGauge(self.mode), PersonGauge(self.mode, judges), ScriptGauge(judges)]
        if self.mode == "self" and plan.drift_seconds is None:
            frames.append(PictureGauge(judges))
        if judges.inception is not None and plan.max_frames is not None:
            frames.append(FrameFeatures(judges.inception))
        if plan.drift_seconds is not None:
            frames.append(DriftGauge(judges, max(1, round(plan.drift_seconds * clip.rate / plan.every))))
        sequences: list[Gauge] = [JitterGauge(), ChangeGauge(self.mode, judges, self.engine.stream)]
        if judges.clips is not None:
            sequences.append(ClipFeatures(judges.clips))
        if clip.has_sound and (judges.syncnet is not None or judges.sync_expert is not None):
            sequences.append(SyncGauge(judges, clip.sound(SOUND_HZ, MAX_SECONDS), float(clip.rate)))
        return frames, sequences

    @torch.no_grad()
    def real(self) -> RealPictures | None:
        """What FID of cross-reenactment compares with, where it is given and can be measured."""
        paths, network = self._real, self.request.judges.inception
        if paths is None:
            return None
        running = RunningGaussian(NUM_FEATURES)
        if network is not None and self.mode == "cross" and self.plan.max_frames is not None:
            for path in paths:
                running.update(network(as_tensor(read_image(path))).numpy())
        return RealPictures(len(paths), key_of({"real": [sha256_of(path) for path in paths]})[:12], running)


class _Faces:
    """Follows the faces of output and target."""

    def __init__(self) -> None:
        detector, mesh = FaceDetector(), FaceMesh()
        self._output, self._target = (FaceTracker("largest", detector=detector, mesh=mesh) for _ in range(2))

    def shown(self, index: int, output: np.ndarray, target: np.ndarray, home: _Square) -> Shown:
        found = self._output.update(output), self._target.update(target)
        output_face, target_face = (None if face is None else face.landmarks for face in found)
        return Shown(index, output, target, home.picture, output_face, target_face, home.face)


def _square(picture: np.ndarray, path: Path) -> _Square:
    spec = CropSpec()
    framings = frame_faces(
        picture,
        "largest",
        size_px=protocol.REENACTMENT_PX,
        scale=spec.scale,
        vx=spec.vx,
        vy=spec.vy,
        name=str(path),
    )
    framing = the_one(framings, str(path))
    inside = framing.cropped
    found = FaceTracker("largest").update(inside)
    return _Square(framing.crop, None if found is None else found.landmarks, inside)


def _thumb(picture: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(picture, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _item(
    source: Path | None,
    clip: DrivingClip,
    home: _Square,
    count: int,
    gauges: Sequence[Gauge],
    thumbs: dict[str, list[np.ndarray]],
) -> Item:
    numbers: dict[str, float] = {}
    features: dict[str, np.ndarray] = {}
    curves: dict[str, np.ndarray] = {}
    for gauge in gauges:
        numbers |= gauge.numbers()
        if isinstance(gauge, (FrameFeatures, ClipFeatures)):
            features |= gauge.features
        if isinstance(gauge, DriftGauge):
            curves |= gauge.curves
    pictures = {name: np.stack(rows) for name, rows in thumbs.items() if rows}
    return Item(
        source=clip.path.stem if source is None else source.stem,
        clip=clip.path.stem,
        numbers=numbers,
        num_frames=count,
        features=features,
        curves=curves,
        thumbs=pictures | {"source": _thumb(home.picture)[None]},
    )
