"""Does a refvae checkpoint speak? Held-out people of the studio, drawn from one picture and their own voice.

    python benchmarks/refvae_voice.py --data CLIPS --preset FOLDER [--people 4] [-o PICTURES]
    ... --guidance                          # the paper's Table II: scales of sound and references
    ... --num-steps 4 --audio-guidance 1 --reference-guidance 1       # a student
    ... --minute                            # 60 s of speech in one stream: does it drift?
    ... --live                              # 60 s of speech at their own pace through a Speaker: does it keep up?

Reference: the first frame of each clip. Reported per person: correlation of the drawn lips' opening with the truth of
the renderer and with the same reading of the true frames (the face mesh on pictures of 256 px; the truth's own reading
is the ceiling, and so is what the VAE alone keeps of it), how far they open (5th to 95th percentile), confidence and
distance of our lip-sync expert for drawn and true frames, and how much faster than real time it was drawn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch

import vivant
from vivant.engines.refvae.config import Options
from vivant.engines.refvae.config_vae import TIME_FACTOR
from vivant.engines.refvae.data import Cut, as_video, cropped
from vivant.engines.refvae.engine import RefVae
from vivant.engines.refvae.layers import TemporalCache
from vivant.engines.refvae.networks import Networks
from vivant.evaluation.faces import FaceFinder, mouth_opening
from vivant.evaluation.gauges.drift import DriftGauge
from vivant.evaluation.gauges.sync import SyncGauge
from vivant.evaluation.judges.given import load_judges
from vivant.evaluation.shown import Shown
from vivant.face.points import Landmarks
from vivant.live.speaker import Speaker
from vivant.media.image import save_image
from vivant.ops.fetching import as_pixels
from vivant.runtime import precision
from vivant.studio.talking import list_clips, read_clip
from vivant.training.data.sessions import NUM_HELD_OUT

READ_PX = 256
RATE_HZ = 25
SECONDS = 60
WINDOW_SECONDS = 5
SCALES = ((1, 1), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3))
UPPER, LOWER, LEFT, RIGHT = 62, 66, 60, 64
"""Of 68 landmarks: the middle of the inner lips, and their corners."""


@dataclass(frozen=True)
class Scene:
    """A held-out person."""

    name: str
    frames: np.ndarray
    """uint8 (T, S, S, 3), as the truth."""
    opening: np.ndarray
    """(T,) inner lips over the mouth's width, of the renderer's landmarks."""
    samples: torch.Tensor


def scenes(folder: Path, cut: Cut, count: int) -> list[Scene]:
    found = []
    for index, path in enumerate(list_clips(folder)[:NUM_HELD_OUT][:count]):
        clip = read_clip(path)
        frames, points = cropped(clip, len(clip.frames) // 2, cut, np.random.default_rng([index, 73]))
        gap = np.linalg.norm(points[:, UPPER] - points[:, LOWER], axis=1)
        width = np.linalg.norm(points[:, LEFT] - points[:, RIGHT], axis=1)
        name = f"{clip.identity} ({clip.voice})"
        found.append(Scene(name, frames.numpy(), gap / width, torch.from_numpy(clip.samples)))
    return found


def drawn(engine: RefVae, reference: np.ndarray, samples: torch.Tensor, options: Options) -> np.ndarray:
    """uint8 (T, S, S, 3), a frame for every 640 samples."""
    portrait = engine.encode_reference(torch.from_numpy(reference)[None].permute(0, 3, 1, 2) / 255)
    state = engine.start(portrait, options, seed=0)
    chunk = engine.stream.chunk_frames * engine.stream.samples_per_frame
    count = len(samples) // engine.stream.samples_per_frame
    padded = torch.nn.functional.pad(samples, (0, -len(samples) % chunk))
    parts = [engine.step(state, piece) for piece in padded.split(chunk)]
    frames = torch.cat([*parts, engine.flush(state)])[:count]
    return as_pixels(frames).numpy()


@torch.no_grad()
def encoded(engine: RefVae, scene: Scene) -> np.ndarray:
    """uint8 (T, S, S, 3): the true frames through the VAE alone, with the same reference."""
    networks, device = cast("Networks", engine.networks), engine.device
    portrait = engine.encode_reference(torch.from_numpy(scene.frames[:1]).permute(0, 3, 1, 2) / 255)
    count = (len(scene.frames) - 1) // TIME_FACTOR * TIME_FACTOR + 1
    video = as_video(torch.from_numpy(scene.frames[None, :count])).to(device)
    with precision.computing(device, engine.dtype):
        mean, _ = networks.vae.encode(video, TemporalCache())
        made = networks.vae.decode(mean, portrait.details, TemporalCache())
    return as_pixels(made[0].movedim(1, 0).float() / 2 + 0.5).cpu().numpy()


def large(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [cv2.resize(frame, (READ_PX, READ_PX), interpolation=cv2.INTER_CUBIC) for frame in frames]


def openings_of(faces: Sequence[Landmarks | None]) -> np.ndarray:
    return np.array([np.nan if face is None else mouth_opening(face) for face in faces])


def openings(frames: np.ndarray) -> np.ndarray:
    """As the face mesh has them, (T,)."""
    finder = FaceFinder()
    return openings_of([finder.find(picture) for picture in large(frames)])


class Reading:
    """What outside judges see in a clip."""

    def __init__(self, frames: np.ndarray, samples: torch.Tensor, source: np.ndarray):
        pictures, finder = large(frames), FaceFinder()
        faces = [finder.find(picture) for picture in pictures]
        self.opening = openings_of(faces)
        judges = load_judges({})
        sync = SyncGauge(judges, samples.numpy(), RATE_HZ)
        drift = DriftGauge(judges, WINDOW_SECONDS * RATE_HZ)
        still = large([source])[0]
        for index, (picture, face) in enumerate(zip(pictures, faces, strict=True)):
            shown = Shown(
                index, picture, picture, still, face, face, finder.find(still) if index == 0 else None
            )
            sync.update(shown)
            drift.update(shown)
        self.numbers = sync.numbers() | drift.numbers()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[known], b[known])[0, 1]) if known.sum() > 2 else float("nan")


def span(opening: np.ndarray) -> str:
    low, high = np.nanpercentile(opening, (5, 95))
    return f"{low:.2f} to {high:.2f}"


def sync_of(reading: Reading) -> str:
    numbers = reading.numbers
    return f"{numbers['sync_expert_confidence']:.2f}, {numbers['sync_expert_distance']:.2f}"


def speak(engine: RefVae, people: list[Scene], options: Options, output: Path | None) -> None:
    print(
        "| person | lips, truth | lips, same reading | ceiling | VAE alone | opens | VAE opens | truth opens | sync "
        "| truth's sync | speed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    kept = []
    for scene in people:
        began = time.monotonic()
        frames = drawn(engine, scene.frames[0], scene.samples, options)
        speed = len(frames) / RATE_HZ / (time.monotonic() - began)
        mine, true = (
            Reading(part, scene.samples, scene.frames[0]) for part in (frames, scene.frames[: len(frames)])
        )
        coded = openings(encoded(engine, scene))
        kept.append(
            [correlation(part, scene.opening[: len(part)]) for part in (mine.opening, true.opening, coded)]
        )
        cells = [
            f"{kept[-1][0]:.2f}",
            f"{correlation(mine.opening, true.opening):.2f}",
            f"{kept[-1][1]:.2f}",
            f"{kept[-1][2]:.2f}",
            span(mine.opening),
            span(coded),
            span(true.opening),
            sync_of(mine),
            sync_of(true),
            f"{speed:.2f}x",
        ]
        print(f"| {scene.name} | {' | '.join(cells)} |", flush=True)
        if output is not None:
            rows = [np.concatenate([scene.frames[i], frames[i]], 0) for i in range(12, len(frames), 12)]
            output.mkdir(parents=True, exist_ok=True)
            save_image(output / f"{scene.name.split()[0]}.png", np.concatenate(rows[:10], 1))
    mean, true_mean, coded_mean = np.nanmean(kept, 0)
    print(f"lips on average {mean:.3f}; ceiling {true_mean:.3f}, VAE alone {coded_mean:.3f}")


def guidance_table(engine: RefVae, people: list[Scene], options: Options) -> None:
    print("| sound | references | lips, truth | sync confidence | sync distance |")
    print("| --- | --- | --- | --- | --- |")
    for audio, references in SCALES:
        chosen = Options(
            audio_guidance=audio,
            reference_guidance=references,
            num_steps=options.num_steps,
            step_shift=options.step_shift,
        )
        rows = []
        for scene in people:
            frames = drawn(engine, scene.frames[0], scene.samples, chosen)
            reading = Reading(frames, scene.samples, scene.frames[0])
            rows.append(
                (
                    correlation(reading.opening, scene.opening[: len(frames)]),
                    reading.numbers["sync_expert_confidence"],
                    reading.numbers["sync_expert_distance"],
                )
            )
        lips, confidence, distance = np.nanmean(rows, 0)
        print(f"| {audio} | {references} | {lips:.2f} | {confidence:.3f} | {distance:.3f} |", flush=True)


def minute(engine: RefVae, people: list[Scene], options: Options) -> None:
    print("| person | identity | sharpness | colour, Delta E | lips, truth |")
    print("| --- | --- | --- | --- | --- |")
    speech = torch.cat([scene.samples for scene in people])
    opening = np.concatenate([scene.opening for scene in people])
    repeats = -(-SECONDS * RATE_HZ // len(opening))
    speech = speech.repeat(repeats)[: SECONDS * engine.stream.sample_rate_hz]
    opening = np.tile(opening, repeats)[: SECONDS * RATE_HZ]
    for scene in people:
        frames = drawn(engine, scene.frames[0], speech, options)
        reading = Reading(frames, speech, scene.frames[0])
        cells = [f"{100 * reading.numbers[f'{name}_drift']:+.1f} %" for name in ("identity", "sharpness")]
        cells.append(f"{reading.numbers['colour_drift']:.2f}")
        cells.append(f"{correlation(reading.opening, opening):.2f}")
        print(f"| {scene.name} | {' | '.join(cells)} |", flush=True)


def live(engine: RefVae, people: list[Scene], options: Options) -> None:
    """A Speaker in real time. Late: from when the sound of a frame has been said to when its picture is given."""
    speech = torch.cat([scene.samples for scene in people]).numpy()
    length = engine.stream.samples_per_frame
    speech = np.tile(speech, -(-SECONDS * RATE_HZ * length // len(speech)))[: SECONDS * RATE_HZ * length]
    portrait = engine.encode_reference(torch.from_numpy(people[0].frames[:1]).permute(0, 3, 1, 2) / 255)
    speaker, late, left_out = Speaker(engine, portrait, None, options, watermark=None), [], 0
    began, number = time.monotonic(), 0
    for index, piece in enumerate(speech.reshape(-1, length)):
        time.sleep(max(0.0, began + (index + 1) / RATE_HZ - time.monotonic()))
        speaker.say(piece)
        spoken = speaker.step()
        if spoken is not None:
            number += 1
            left_out += spoken.image is None
            late.append(time.monotonic() - began - number / RATE_HZ)
    speaker.close()
    first, p95, most = 1000 * late[0], 1000 * np.quantile(late, 0.95), 1000 * np.max(late)
    print(
        f"{number} frames of {SECONDS} s, {left_out} of them without a picture; late {first:.0f} ms at first, "
        f"p95 {p95:.0f}, most {most:.0f}, last {1000 * late[-1]:.0f}"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--preset", required=True)
    arguments.add_argument("--people", type=int, default=4)
    arguments.add_argument("--guidance", action="store_true")
    arguments.add_argument("--minute", action="store_true")
    arguments.add_argument("--live", action="store_true")
    arguments.add_argument("--audio-guidance", type=float, default=3.0)
    arguments.add_argument("--reference-guidance", type=float, default=3.0)
    arguments.add_argument("--num-steps", type=int, default=12)
    arguments.add_argument("--step-shift", type=float, default=5.0)
    arguments.add_argument("-o", "--output", type=Path)
    given = arguments.parse_args()
    engine = vivant.load(given.preset, device="cpu")
    assert isinstance(engine, RefVae)
    people = scenes(given.data, Cut.of(engine.config), given.people)
    options = Options(
        audio_guidance=given.audio_guidance,
        reference_guidance=given.reference_guidance,
        num_steps=given.num_steps,
        step_shift=given.step_shift,
    )
    if given.guidance:
        guidance_table(engine, people, options)
    elif given.live:
        live(engine, people, options)
    elif given.minute:
        minute(engine, people, options)
    else:
        speak(engine, people, options, given.output)


if __name__ == "__main__":
    main()
