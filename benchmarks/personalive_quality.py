"""What a trained checkpoint of personalive is worth on synthetic people that nothing was trained on.

    python benchmarks/personalive_quality.py CHECKPOINT DATA [--identities 12] [--seconds 120] [--streams 1]
        [--renoise fresh] [--device auto]

DATA holds talking clips (`vivant studio talk DATA --identities 0-11 --size 160`; with `--moods` some portraits smile);
identities below 12 are held out. The first frame of each is the portrait, the clip drives it, size and place included
(`--placement paper`); chunks go down a level with fresh noise, as stages 2 and 3 train it, or `--renoise ddim`. Four
questions:

    landmarks  468 mesh points of output and driver apart, in outer eye distances; and of copying the portrait
    PSNR       of all pictures' mean error, and of what lies around the driver's mouth; and of copying the portrait
    borders    change where a chunk begins over change inside chunks; the driver's own ratio beside it
    identity   a stream of --seconds, the clip forth and back: how much closer the portrait's own embedding was in
               the first five seconds than in the last; 0 leaves it out; of --streams people
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from flashportrait_people import decibels
from torch import Tensor

import vivant
from vivant.engines.personalive.config import Options
from vivant.engines.personalive.engine import PersonaLive
from vivant.evaluation import metrics
from vivant.evaluation.faces import FaceFinder
from vivant.evaluation.judges.given import load_judges
from vivant.evaluation.judges.recognition import embed_own
from vivant.studio.talking import FPS, list_clips, read_clip, read_landmarks
from vivant.training.data.sessions import NUM_HELD_OUT

EVERY = 5
"""Every fifth frame is looked at by the mesh."""
EDGE_FRAMES = 5 * FPS
MOUTH = slice(48, 68)
"""Of the 68 points."""
MOUTH_MARGIN = 0.02
"""Of the picture."""


def frames_of(path: Path, side: int) -> Tensor:
    """(T, 3, S, S) in [0, 1]."""
    frames = torch.from_numpy(read_clip(path).frames).movedim(-1, 1).float() / 255
    return torch.nn.functional.interpolate(
        frames, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )


def animated(engine: PersonaLive, source: Tensor, driving: Tensor, options: Options) -> Tensor:
    """As many frames (T, 3, S, S) as drive, T a multiple of the chunk."""
    state = engine.start(engine.encode_reference(source[None]), options)
    chunks = driving.split(engine.stream.chunk_frames)
    drawn = [engine.render(state, engine.encode_motion(state, chunk)).cpu() for chunk in chunks]
    return torch.cat([*drawn, engine.flush(state).cpu()])[: len(driving)]


def around_mouths(path: Path, count: int, side: int) -> Tensor:
    """(T, 1, S, S): where the first `count` frames of a clip have their mouths."""
    landmarks, size = read_landmarks(path)
    points = torch.from_numpy(landmarks[:count, MOUTH]) * (side / size)
    low, high = (points.amin(1) - MOUTH_MARGIN * side, points.amax(1) + MOUTH_MARGIN * side)
    line = torch.arange(side) + 0.5
    across, down = (((line >= low[:, k : k + 1]) & (line <= high[:, k : k + 1])) for k in (0, 1))
    return (down[:, :, None] & across[:, None])[:, None]


def mouth_decibels(ours: Tensor, truth: Tensor, mouths: Tensor) -> float:
    """PSNR of the mean error where mouths are."""
    square = (ours - truth).square().mean(1, keepdim=True)
    return float(-10 * square[mouths].mean().log10())


def pictures(frames: Tensor) -> list[np.ndarray]:
    return list((frames.movedim(1, -1) * 255 + 0.5).clamp(0, 255).byte().numpy())


def landmark_errors(
    finder: FaceFinder, source: Tensor, drawn: Tensor, driving: Tensor
) -> tuple[float, float]:
    """Of the output, and of copying the source; frames where the driver or the output shows no face left out."""
    truth, output = (finder.faces(pictures(frames[::EVERY])) for frames in (driving, drawn))
    portrait = finder.faces(pictures(source[None]))
    eyes = float(portrait.eye_distance[0])
    wanted = torch.from_numpy(truth.meshes)
    errors = [
        metrics.landmark_error(torch.from_numpy(np.broadcast_to(at, truth.meshes.shape).copy()), wanted, eyes)
        for at in (output.meshes, portrait.meshes)
    ]
    seen = errors[0].isfinite() & errors[1].isfinite()
    return float(errors[0][seen].mean()), float(errors[1][seen].mean())


def borders(frames: Tensor, chunk: int) -> float:
    changes = frames.diff(dim=0).abs().mean((1, 2, 3)).numpy()
    return metrics.border_ratio(changes, np.arange(1, len(frames)), chunk)


def there_and_back(frames: Tensor, count: int) -> Tensor:
    """`count` frames of a clip that is played forth and back."""
    rows = torch.arange(count) % (2 * len(frames) - 2)
    return frames[torch.where(rows < len(frames), rows, 2 * len(frames) - 2 - rows)]


def identity_drift(engine: PersonaLive, frames: Tensor, seconds: float, options: Options) -> float:
    """Relative loss of likeness to the portrait, last five seconds against the first."""
    network = load_judges({}).identity
    if network is None:
        return float("nan")
    count = int(seconds * FPS) // engine.stream.chunk_frames * engine.stream.chunk_frames
    drawn = animated(engine, frames[0], there_and_back(frames, count), options)
    own = embed_own(network, pictures(frames[:1])[0])
    ends = (drawn[:EDGE_FRAMES:EVERY], drawn[-EDGE_FRAMES::EVERY])
    first, last = (
        float(np.mean([metrics.cosine(embed_own(network, picture), own)[0] for picture in pictures(end)]))
        for end in ends
    )
    return (first - last) / abs(first)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("data", type=Path)
    parser.add_argument("--identities", type=int, default=NUM_HELD_OUT)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--renoise", choices=("fresh", "ddim"), default="fresh")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    engine = vivant.load(given.checkpoint, given.device, "float32")
    assert isinstance(engine, PersonaLive)
    options = Options(placement="paper", renoise=given.renoise)
    chunk, finder = engine.stream.chunk_frames, FaceFinder()
    paths = [path for path in list_clips(given.data) if int(path.name.split(".")[0]) < NUM_HELD_OUT]
    rows = []
    print(
        "| person | landmarks | copying | ratio | PSNR dB | copying | mouth dB | copying | borders | driver's |"
    )
    print("|" + " --- |" * 10)
    for path in paths[: given.identities]:
        frames = frames_of(path, engine.crop_size_px)
        driving = frames[: len(frames) // chunk * chunk]
        drawn = animated(engine, frames[0], driving, options)
        ours, copied = landmark_errors(finder, frames[0], drawn, driving)
        mouths, copy = around_mouths(path, len(driving), engine.crop_size_px), frames[:1].expand_as(driving)
        quality = [decibels(shown, driving) for shown in (drawn, copy)]
        quality += [mouth_decibels(shown, driving, mouths) for shown in (drawn, copy)]
        rows.append([ours, copied, ours / copied, *quality, borders(drawn, chunk), borders(driving, chunk)])
        print(f"| {path.name[:4]} | " + " | ".join(f"{value:.4f}" for value in rows[-1]) + " |", flush=True)
    mean = np.nanmean(np.array(rows), 0)
    mean[2] = mean[0] / mean[1]
    print("| all | " + " | ".join(f"{value:.4f}" for value in mean) + " |")
    print()
    for path in paths[: given.streams] if given.seconds else ():
        drift = identity_drift(engine, frames_of(path, engine.crop_size_px), given.seconds, options)
        print(
            f"{path.name[:4]} over {given.seconds:g} s: {100 * drift:.2f} % less like the portrait at the end",
            flush=True,
        )


if __name__ == "__main__":
    main()
