"""Self-reenactment of synthetic people that were never trained on: the true picture is known to the pixel.

For each held-out session the most frontal picture is the source; other pictures of the session drive it. The
output is compared with the driving picture itself, next to copying the source, bending it by the true landmarks and
warping it by the true flow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vivant.engine import Engine
from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.liveportrait.motion import Motion
from vivant.evaluation import metrics, protocol
from vivant.evaluation.baselines import copy_source, landmark_affine, true_flow_warp
from vivant.evaluation.faces import FaceFinder, FoundFaces
from vivant.evaluation.people import Person, held_out_people
from vivant.evaluation.reenact import Seen, as_liveportrait, draw, look_at, resized
from vivant.evaluation.report import Report
from vivant.evaluation.scores import Scores
from vivant.evaluation.sheet import sheet
from vivant.evaluation.synthetic_report import ENGINE, TRUE_MOTION, report_of
from vivant.face.models import face_models_available
from vivant.face.points import NUM_MESH
from vivant.ops.fetching import as_pixels
from vivant.ops.rotation import degrees_from_rotation

SHEET_ROWS = 12
SHEET_METHODS = (ENGINE, TRUE_MOTION, "landmark affine", "true-flow warp")


@dataclass
class Findings:
    """Everything measured so far, pair by pair."""

    pictures: Scores = field(default_factory=Scores)
    """By row (method) and metric."""
    landmarks: Scores = field(default_factory=Scores)
    """By row (whose points) and "error"."""
    angles: Scores = field(default_factory=Scores)
    """By row and angle, absolute error in degrees."""
    signals: Scores = field(default_factory=Scores)
    """By quantity and source ("truth", "predicted", "re-extracted", "mesh truth", "mesh output")."""
    faces: Scores = field(default_factory=Scores)
    """"output" and "lost": 1 for each driving picture with a face whose output shows none to the mesh, else 0."""
    sheet_rows: list[list[np.ndarray | None]] = field(default_factory=list)
    num_people: int = 0


def synthetic_self_reenactment(
    engine: Engine,
    data_folder: str | Path,
    *,
    pairs_per_session: int = protocol.PAIRS_PER_SESSION,
    num_identities: int = protocol.NUM_IDENTITIES,
    size: int = protocol.SIZE_PX,
    seed: int = protocol.SEED,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure an engine of the family liveportrait on the held-out sessions of a rendered dataset.

    Args:
        data_folder: sessions as `vivant studio render` writes them; identities below 12 are held out.
        pairs_per_session: driving pictures per session.
        num_identities: identities below this number are used, all their looks.
        size: side in pixels at which pictures are compared.
        progress: called with (sessions done, all).

    Raises InputError where there are no such sessions or the engine is of another family.
    """
    driven = as_liveportrait(engine)
    num_sessions, people = held_out_people(Path(data_folder), pairs_per_session, num_identities, size, seed)
    finder = FaceFinder() if face_models_available() else None
    findings, pictures = Findings(), hashlib.sha256()
    for person in people:
        pictures.update(person.source.tobytes() + person.driving.tobytes())
        _measure(driven, person, finder, findings)
        findings.num_people += 1
        if progress is not None:
            progress(findings.num_people, num_sessions)
    settings = {
        "sessions": num_sessions,
        "pairs": findings.pictures.count("copy source", "psnr"),
        "size_px": size,
        "seed": seed,
        "pictures": pictures.hexdigest()[:12],
    }
    picture = sheet(findings.sheet_rows, columns=("source", "driving", *SHEET_METHODS))
    return report_of(findings, driven, settings, picture, with_mesh=finder is not None)


def _measure(engine: LivePortrait, person: Person, finder: FaceFinder | None, findings: Findings) -> None:
    source, driving = _frames(person.source[None]), _frames(person.driving)
    size = source.shape[-1]
    seen_source, seen_driving = look_at(engine, source), look_at(engine, driving)
    output, driven_points = draw(engine, source, seen_source.motion, seen_driving.motion)
    made = _baselines(person) | {ENGINE: resized(output, size)}
    if seen_source.is_named:
        by_truth, _ = draw(engine, source, _motion(person.source_labels), _motion(person.labels))
        made[TRUE_MOTION] = resized(by_truth, size)
    _score_pictures(person, made, driving, findings.pictures)
    again = look_at(engine, output)
    if seen_source.is_named:
        _score_points(person, {"driving picture": seen_driving, "output": again}, driven_points, findings)
        _collect_signals(person, seen_driving, again, findings.signals)
    _score_angles(person, {"driving picture": seen_driving, "output": again}, findings.angles)
    if finder is not None:
        outputs = [as_pixels(frame).numpy() for frame in made[ENGINE]]
        _score_mesh(finder.faces([person.source, *person.driving]), finder.faces(outputs), findings)
    if len(findings.sheet_rows) < SHEET_ROWS:
        first: list[np.ndarray | None] = [person.source, person.driving[0]]
        for name in SHEET_METHODS:
            first.append(as_pixels(made[name][0]).numpy() if name in made else None)
        findings.sheet_rows.append(first)


def _baselines(person: Person) -> dict[str, Tensor]:
    source, source_points = person.source, person.source_labels["points"][0].numpy()
    count = len(person.driving)
    made: dict[str, list[np.ndarray]] = {
        "copy source": [copy_source(source)] * count,
        "landmark affine": [
            landmark_affine(source, source_points, at.numpy()) for at in person.labels["points"]
        ],
        "true-flow warp": [true_flow_warp(source, flow) for flow in person.flow],
    }
    return {name: _frames(np.stack(pictures)) for name, pictures in made.items()}


def _score_pictures(person: Person, made: dict[str, Tensor], truth: Tensor, scores: Scores) -> None:
    boxes = [metrics.region_boxes(at.numpy(), truth.shape[-1]) for at in person.labels["points"]]
    background = torch.from_numpy(person.background)
    for name, frames in made.items():
        scores.add(name, "psnr", metrics.psnr(frames, truth))
        scores.add(name, "ssim", metrics.ssim(frames, truth))
        for region in ("face", "mouth", "eyes"):
            inside = [box[region] for box in boxes]
            scores.add(name, region, metrics.region_psnr(frames, truth, inside))
        scores.add(name, "background", metrics.background_error(frames, truth, background))


def _score_points(person: Person, seen: dict[str, Seen], driven: Tensor, findings: Findings) -> None:
    """Errors of the 68 landmarks against the renderer's."""
    truth = person.labels["points"][:, :68]

    def error(at: Tensor) -> Tensor:
        return metrics.landmark_error(at[:, :68], truth, person.eye_distance)

    scores = findings.landmarks
    scores.add("copy source", "error", error(person.source_labels["points"].expand(len(truth), -1, -1)))
    scores.add("driving picture", "error", error(seen["driving picture"].keypoints))
    scores.add("driven keypoints", "error", error(driven))
    scores.add("output", "error", error(seen["output"].keypoints))


def _score_angles(person: Person, seen: dict[str, Seen], scores: Scores) -> None:
    truth = degrees_from_rotation(person.labels["rotation"])
    for row, at in seen.items():
        got = degrees_from_rotation(at.motion.rotation.cpu())
        for name, a, b in zip(("pitch", "yaw", "roll"), got, truth, strict=True):
            scores.add(row, name, (a - b).abs())


def _collect_signals(person: Person, predicted: Seen, again: Seen, signals: Scores) -> None:
    names = person.expression_names
    for source, at, weights in (
        ("truth", person.labels["points"], person.labels["weights"]),
        ("predicted", predicted.keypoints, predicted.weights),
        ("re-extracted", again.keypoints, again.weights),
    ):
        assert weights is not None
        for quantity, value in _signals(at, weights, names):
            signals.add(quantity, source, value)


def _signals(at: Tensor, weights: Tensor, names: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    right, left, lips = points.openness(at)
    yield "jaw", weights[:, names.index("jawOpen")]
    yield "blink", weights[:, [names.index("eyeBlink_L"), names.index("eyeBlink_R")]].mean(1)
    yield "smile", weights[:, [names.index("mouthSmile_L"), names.index("mouthSmile_R")]].mean(1)
    yield "brows", weights[:, [names.index("browOuterUp_L"), names.index("browOuterUp_R")]].mean(1)
    yield "lip opening", lips
    yield "eye opening", (right + left) / 2


def _score_mesh(truth: FoundFaces, output: FoundFaces, findings: Findings) -> None:
    """The same by the outside judge: the source comes first in `truth`, then the driving pictures."""
    source, driving = truth.meshes[0], truth.meshes[1:]
    eyes = float(truth.eye_distance[0])

    # Copying is measured on the same pairs: an engine that loses the hard faces must not look better for it.
    shown = np.where(output.found[:, None, None], driving, np.nan).astype(driving.dtype)

    def error(at: np.ndarray) -> Tensor:
        held = torch.from_numpy(np.broadcast_to(at, driving.shape).copy())
        return metrics.landmark_error(held, torch.from_numpy(shown), eyes)

    findings.landmarks.add("copy source (mesh)", "error", error(source.reshape(1, NUM_MESH, 2)))
    findings.landmarks.add("output (mesh)", "error", error(output.meshes))
    findings.faces.add("output", "lost", torch.from_numpy(~output.found[truth.found[1:]]).float())
    for quantity, name in (("lip opening", "mouth"), ("eye opening", "eyes")):
        findings.signals.add(quantity, "mesh truth", torch.from_numpy(truth.quantities[name][1:]))
        findings.signals.add(quantity, "mesh output", torch.from_numpy(output.quantities[name]))


def _motion(labels: dict[str, Tensor]) -> Motion:
    """The renderer's own motion, as the compact networks would report it."""
    names = ("rotation", "expression", "scale", "translation", "canonical")
    return Motion(**{name: labels[name] for name in names})


def _frames(pictures: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) as (T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().contiguous() / 255
