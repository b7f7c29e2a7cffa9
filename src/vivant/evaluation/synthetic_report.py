"""The report of synthetic self-reenactment: from findings to headline numbers, tables and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vivant.engines.liveportrait.engine import LivePortrait
from vivant.evaluation import protocol
from vivant.evaluation.metrics import correlation
from vivant.evaluation.report import Report, Row, Table, describe_engine
from vivant.evaluation.scores import Scores

if TYPE_CHECKING:
    from vivant.evaluation.synthetic import Findings

ENGINE = "engine"
TRUE_MOTION = "engine, true motion"

_PICTURE_COLUMNS = ("psnr", "ssim", "face", "mouth", "eyes", "background")
_NOTES = (
    "Means over all pairs. PSNR and SSIM at the size above, on pictures rounded to 8 bits; face, mouth and eyes are "
    "PSNR inside boxes around the true landmarks; background is the mean difference in levels of 255 where neither "
    "picture shows the person.",
    "The setting `pictures` is a hash of all source and driving pictures: reports are comparable where it is the same.",
    "Landmark errors: mean distance over 68 points, relative to the outer eye distance in the source. Rows marked "
    "(mesh) compare the 468 points of the face mesh on output and driving picture instead: a judge that took no "
    "part in training. Pairs in which the output shows it no face count in neither row; share_without_face says how "
    "many of those whose driving picture shows one.",
    "Absolute drive on the source's neutral shape: rotation, expression, scale and translation are the driving "
    "picture's own. Options(relative=False) would keep the source's scale.",
)


def report_of(
    findings: Findings,
    engine: LivePortrait,
    settings: Mapping[str, Any],
    picture: np.ndarray,
    *,
    with_mesh: bool,
) -> Report:
    """Numbers, tables and verdicts."""
    named = "jaw" in findings.signals.rows
    notes: tuple[str, ...] = _NOTES
    if not with_mesh:
        notes += ("The face models are not on this machine, so nothing was measured with the mesh.",)
    if not named:
        notes += (
            "These networks report no named points and no blendshape weights: landmark error, jaw and blink are "
            "the mesh's.",
        )
    tables = [_picture_table(findings.pictures), _landmark_table(findings.landmarks)]
    tables += [_signal_table(findings.signals), _angle_table(findings.angles)]
    return Report(
        protocol=protocol.SYNTHETIC,
        title="Held-out synthetic people, self-reenactment",
        subject=describe_engine(engine),
        settings=settings,
        numbers=_numbers(findings, named=named),
        tables=tuple(tables),
        targets=protocol.SYNTHETIC_TARGETS,
        notes=notes,
        sheets={"pictures": picture},
    )


def _numbers(findings: Findings, *, named: bool) -> dict[str, float]:
    pictures, landmarks, signals = findings.pictures, findings.landmarks, findings.signals
    judge = "" if named else " (mesh)"
    error = landmarks.mean(f"output{judge}", "error")
    copied = landmarks.mean(f"copy source{judge}", "error")
    if named:
        jaw, blink = _follows(signals, "jaw", "re-extracted"), _follows(signals, "blink", "re-extracted")
    else:
        jaw, blink = _follows(signals, "lip opening", "mesh"), _follows(signals, "eye opening", "mesh")
    psnr = pictures.mean(ENGINE, "psnr")
    return {
        "psnr": psnr,
        "ssim": pictures.mean(ENGINE, "ssim"),
        "face_psnr": pictures.mean(ENGINE, "face"),
        "psnr_over_copy": psnr - pictures.mean("copy source", "psnr"),
        "psnr_over_landmark_affine": psnr - pictures.mean("landmark affine", "psnr"),
        "psnr_over_true_flow": psnr - pictures.mean("true-flow warp", "psnr"),
        "landmark_error": error,
        "landmark_error_over_copy": error / copied,
        "jaw_correlation": jaw,
        "blink_correlation": blink,
        "mesh_landmark_error_over_copy": landmarks.mean("output (mesh)", "error")
        / landmarks.mean("copy source (mesh)", "error"),
        "share_without_face": findings.faces.mean("output", "lost"),
        "mesh_mouth_correlation": _follows(signals, "lip opening", "mesh"),
        "mesh_eye_correlation": _follows(signals, "eye opening", "mesh"),
    }


def _follows(signals: Scores, quantity: str, source: str) -> float:
    """Correlation over all pairs of what was read with what should be there; pairs without a face are left out."""
    truth, read = ("mesh truth", "mesh output") if source == "mesh" else ("truth", source)
    a, b = signals.values(quantity, truth), signals.values(quantity, read)
    both = np.isfinite(a) & np.isfinite(b) if len(a) == len(b) else np.zeros(0, bool)
    return correlation(a[both], b[both]) if both.any() else float("nan")


def _picture_table(scores: Scores) -> Table:
    rows: list[Row] = [
        (row, *(scores.mean(row, column) for column in _PICTURE_COLUMNS)) for row in scores.rows
    ]
    return Table(
        title="Pictures",
        columns=("", "PSNR", "SSIM", "face PSNR", "mouth PSNR", "eyes PSNR", "background"),
        rows=tuple(rows),
    )


def _landmark_table(scores: Scores) -> Table:
    meaning = {
        "copy source": "the source's true points",
        "driving picture": "read from the driving picture",
        "driven keypoints": "what drove the output: driver's motion, source's shape",
        "output": "re-extracted from the output",
        "copy source (mesh)": "mesh on the source",
        "output (mesh)": "mesh on the output",
    }
    rows: list[Row] = [
        (row, says, scores.mean(row, "error"), scores.num_finite(row, "error"))
        for row, says in meaning.items()
        if row in scores.rows
    ]
    return Table(
        title="Landmark error", columns=("", "points", "error", "pairs with a face"), rows=tuple(rows)
    )


def _signal_table(signals: Scores) -> Table:
    return Table(
        title="Expression: correlation with the truth",
        columns=(
            "",
            "read from the driving picture",
            "re-extracted from the output",
            "mesh, output to driving",
        ),
        rows=tuple(
            (row, *(_follows(signals, row, source) for source in ("predicted", "re-extracted", "mesh")))
            for row in signals.rows
        ),
        note="jaw, blink, smile and brows are blendshape weights; openings are ratios of distances.",
    )


def _angle_table(scores: Scores) -> Table:
    return Table(
        title="Head angles: mean absolute error in degrees",
        columns=("read from the", "yaw", "pitch", "roll"),
        rows=tuple(
            (row, *(scores.mean(row, angle) for angle in ("yaw", "pitch", "roll"))) for row in scores.rows
        ),
    )
