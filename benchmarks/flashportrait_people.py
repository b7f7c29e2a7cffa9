"""Does FlashPortrait follow its driver? Held-out people who talk, drawn from their first frame, next to copying it.

    python benchmarks/flashportrait_people.py CHECKPOINT FOLDER [--device cuda] [--people 12] [--frames 120]
    python benchmarks/flashportrait_people.py CHECKPOINT FOLDER --people 2 --frames 1900 --drift
    python benchmarks/flashportrait_people.py CHECKPOINT FOLDER --people 4 --compare

FOLDER: talking clips of `vivant studio talk`; people below 12 are held out. Pictures are compared at the side of the
checkpoint; landmarks are those of the face mesh, in drawn and true frames alike, at twice that side; `found` is the
share of drawn faces that the mesh finds. --drift: the clip is played to and fro, and the same driving frames are
compared around frame 100 and around frame 1800, in identity, sharpness and colour (Delta E) too. --compare: computing
all steps against predicting most of them, for the same people, seed and noise; time is from pictures of the driver to
finished pictures.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

import vivant
from vivant.engines.flashportrait.config import Options
from vivant.evaluation import metrics
from vivant.evaluation.faces import FaceFinder
from vivant.evaluation.gauges.drift import DriftGauge
from vivant.evaluation.judges.given import load_judges
from vivant.evaluation.judges.recognition import embed_own
from vivant.evaluation.shown import Shown
from vivant.ops.fetching import as_pixels
from vivant.runtime import precision
from vivant.studio.talking import list_clips, read_clip
from vivant.training.data.fit import fitted
from vivant.training.data.sessions import NUM_HELD_OUT

EARLY, LATE, SPAN = 100, 1800, 50
WAYS: dict[str, dict[str, Any]] = {
    "all steps": {},
    "taylor, n=3": {"prediction": "taylor"},
    "adaptive (the paper's), n=3": {"prediction": "adaptive"},
    "newton, n=3": {"prediction": "newton"},
    "newton, n=1": {"prediction": "newton", "prediction_order": 1},
    "threshold 0.1": {"prediction": "threshold", "prediction_bound": 0.1},
    "controlled 0.05": {"prediction": "controlled", "prediction_bound": 0.05},
}
"""What --compare compares, all at the level `hidden`."""


def to_and_fro(length: int, count: int) -> np.ndarray:
    """Numbers (count,) of frames: 0 to length - 1, back to 0, and so on."""
    along = np.arange(count) % max(1, 2 * (length - 1))
    return np.minimum(along, 2 * (length - 1) - along) if length > 1 else along


def as_frames(pictures: Tensor) -> Tensor:
    """(T, n, n, 3) uint8 -> (T, 3, n, n) in [0, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def as_bytes(frames: Tensor) -> np.ndarray:
    """The inverse, rounded."""
    return as_pixels(frames).cpu().numpy()


def meshes(finder: FaceFinder, frames: Tensor) -> tuple[np.ndarray, float]:
    """(T, 468, 2) and the eye distance of the first, both in pixels of the enlarged pictures."""
    large = [cv2.resize(p, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for p in as_bytes(frames)]
    found = finder.faces(large)
    return found.meshes, float(found.eye_distance[0])


def decibels(ours: Tensor, truth: Tensor) -> float:
    """Of the mean error: a mean of decibels would be of the frames that stand still."""
    return float(-10 * (ours - truth).square().mean().log10())


def mean_distance(ours: np.ndarray, truth: np.ndarray, eyes: float) -> float:
    distances = np.linalg.norm(ours - truth, axis=-1)
    return float(np.nanmean(distances) / eyes) if np.isfinite(distances).any() else float("nan")


@dataclass(frozen=True)
class Played:
    """One person, drawn."""

    truth: Tensor
    """(N, 3, n, n) in [0, 1]: the clip."""
    order: np.ndarray
    """(T,): which of its frames drove."""
    frames: Tensor
    """(T, 3, n, n)."""
    seconds: float


@torch.no_grad()
def played(engine: Any, clip: Path, options: Options, num_frames: int, again: bool) -> Played:
    """From the clip's pictures to ours; `again`: where the clip is shorter it is played to and fro."""
    truth = as_frames(fitted(torch.from_numpy(read_clip(clip).frames), engine.config.image_size))
    order = to_and_fro(len(truth), num_frames if again else min(num_frames, len(truth)))
    state = engine.start(engine.encode_reference(truth[:1].to(engine.device)), options, seed=0)
    began = time.perf_counter()
    drawn = [
        engine.render(state, engine.encode_motion(state, truth[[i]].to(engine.device))).cpu() for i in order
    ]
    frames = torch.cat([*drawn, engine.flush(state).cpu()])[: len(order)]
    return Played(truth, order, frames, time.perf_counter() - began)


def compared(engine: Any, clips: list[Path], arguments: argparse.Namespace, finder: FaceFinder) -> None:
    """A table of ways to come to the same pictures."""
    print("| way | faster by | frames/s | landmarks, of a copy's | identity | frames, to all computed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    judge = load_judges({}).identity
    assert judge is not None
    whole: list[Played] = []
    for name, changes in WAYS.items():
        options = Options(
            expression_guidance=arguments.guidance,
            num_steps=arguments.steps,
            prediction_horizon=arguments.horizon,
            **changes,
        )
        runs = [played(engine, clip, options, arguments.frames, False) for clip in clips]
        whole = whole or runs
        ours, copies, alike, errors = [], [], [], []
        for run, full in zip(runs, whole, strict=True):
            rows = np.arange(len(run.order))[:: arguments.every]
            numbers = followed(run, rows, finder, "")
            ours.append(numbers["landmarks"])
            copies.append(numbers["landmarks of a copy"])
            errors.append(float((run.frames - full.frames).norm() / full.frames.norm()))
            source = embed_own(judge, as_bytes(run.truth[:1])[0])
            alike += [
                float(metrics.cosine(embed_own(judge, p), source)[0]) for p in as_bytes(run.frames[rows])
            ]
        seconds = sum(run.seconds for run in runs)
        cells = (
            f"{sum(run.seconds for run in whole) / seconds:.2f}x",
            f"{sum(len(run.order) for run in runs) / seconds:.1f}",
            f"{np.sum(ours) / np.sum(copies):.4f}",
            f"{np.mean(alike):.4f}",
            f"{np.mean(errors):.4f}",
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def followed(run: Played, rows: np.ndarray, finder: FaceFinder, name: str) -> dict[str, float]:
    """How well some frames follow."""
    wanted, got = run.truth[run.order[rows]], run.frames[rows]
    at, _ = meshes(finder, wanted)
    source, eyes = meshes(finder, run.truth[:1])
    seen, _ = meshes(finder, got)
    return {
        f"found{name}": float(np.isfinite(seen[:, 0, 0]).mean()),
        f"landmarks{name}": mean_distance(seen, at, eyes),
        f"landmarks of a copy{name}": mean_distance(np.broadcast_to(source, at.shape), at, eyes),
        f"psnr{name}": decibels(got, wanted),
        f"psnr of a copy{name}": decibels(run.truth[:1], wanted),
    }


@torch.no_grad()
def measured(engine: Any, clip: Path, arguments: argparse.Namespace, finder: FaceFinder) -> dict[str, float]:
    """One person."""
    options = Options(
        expression_guidance=arguments.guidance,
        num_steps=arguments.steps,
        prediction=arguments.prediction,
        prediction_horizon=arguments.horizon,
    )
    run = played(engine, clip, options, arguments.frames, arguments.drift)
    order, frames, truth, seconds = run.order, run.frames, run.truth, run.seconds
    numbers = {"seconds_per_frame": seconds / len(order)}
    spans = {"": np.arange(len(order))[:: arguments.every]}
    if arguments.drift:
        # As many frames later the driver is where it was.
        later = EARLY + round((LATE - EARLY) / (2 * (len(truth) - 1))) * 2 * (len(truth) - 1)
        spans = {" early": np.arange(EARLY, EARLY + SPAN), " late": np.arange(later, later + SPAN)}
    for name, rows in spans.items():
        numbers |= followed(run, rows, finder, name)
    if arguments.drift:
        numbers |= drift(frames, truth, order, spans)
    length = 4 * ((min(len(truth), 33) - 1) // 4) + 1
    video = (truth[:length] * 2 - 1).movedim(0, 1)[None].to(engine.device)
    with precision.computing(engine.device, engine.dtype):
        again = engine.networks.vae.decode_clips(engine.networks.vae.encode_clips(video)).clamp(-1, 1)
    numbers["vae psnr"] = float(metrics.psnr(again[0].movedim(1, 0).cpu() / 2 + 0.5, truth[:length]).mean())
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        some = np.linspace(0, len(order) - 1, 6).astype(int)
        sheet = torch.cat([torch.cat([*truth[order[some]]], 2), torch.cat([*frames[some]], 2)], 1)
        pixels = (sheet.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        cv2.imwrite(str(arguments.pictures / f"{clip.name.split('.')[0]}.png"), pixels[..., ::-1])
    return numbers


def drift(frames: Tensor, truth: Tensor, order: np.ndarray, spans: dict[str, np.ndarray]) -> dict[str, float]:
    """The late span against the early one."""
    gauge = DriftGauge(load_judges({}), SPAN)
    pixels, true_pixels = as_bytes(frames), as_bytes(truth)
    for row in np.concatenate([*spans.values()]):
        gauge.update(Shown(int(row), pixels[row], true_pixels[order[row]], true_pixels[0], None, None, None))
    return {f"{name} late": value for name, value in gauge.numbers().items() if name != "texture_drift"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--people", type=int, default=NUM_HELD_OUT)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--every", type=int, default=4, help="each how manieth frame is compared")
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--prediction", default="none")
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--pictures", type=Path, help="folder for sheets: true frames above drawn ones")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engine, finder = vivant.load(arguments.checkpoint, arguments.device, arguments.dtype), FaceFinder()
    held_out = [p for p in list_clips(arguments.folder) if int(p.name.split(".")[0]) < NUM_HELD_OUT]
    if arguments.compare:
        compared(engine, held_out[: arguments.people], arguments, finder)
        return
    rows = []
    for clip in held_out[: arguments.people]:
        rows.append(measured(engine, clip, arguments, finder))
        print(clip.name, {name: round(value, 4) for name, value in rows[-1].items()}, flush=True)
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    for name in ("", " early", " late"):
        if f"landmarks{name}" in means:
            means[f"landmark ratio{name}"] = means[f"landmarks{name}"] / max(
                1e-9, means[f"landmarks of a copy{name}"]
            )
    print(json.dumps(means, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"means": means, "people": rows}, indent=1))


if __name__ == "__main__":
    main()
