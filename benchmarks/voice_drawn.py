"""Does a portrait's drawn mouth follow the speech? The face mesh against the voice network, and against the truth.

    python benchmarks/voice_drawn.py PICTURE...                     # held-out sentences; needs espeak-ng, flite
    python benchmarks/voice_drawn.py PICTURE... --speech A.wav ...  # recordings, of which no truth is known
    ... -o FOLDER                                                   # every 10th frame, to look at

Lip opening: of the network, the gap of the inner lips of its keypoints; of the truth, that of the studio's curves; of a
drawn frame, lip distance over mouth width by the face mesh. Reported: correlations, how far the drawn mouth opens (5th
to 95th percentile), and how far the drawn head turns (yaw, pitch).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor

import vivant
from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.motion import Motion
from vivant.engines.liveportrait.voice_training import CONTROLS, HELD_OUT_VOICES, PAD_SECONDS, spoken
from vivant.evaluation.faces import FaceFinder
from vivant.face.points import head_angles, lip_openness
from vivant.media.audio import read_audio
from vivant.media.image import save_image
from vivant.ops.fetching import as_pixels
from vivant.presets import load_voice
from vivant.session import Session
from vivant.studio.speech import VisemeSpan, speech_curves

PRESET = "liveportrait-mini"
RATE_HZ, FRAME_RATE_HZ = 16000, 25
SEED = 77


def lip_gap(expression: Tensor) -> np.ndarray:
    """(T,) of keypoints or their offsets (T, K, 3), crop units."""
    return (expression[:, points.LIP_BOTTOM_INNER, 1] - expression[:, points.LIP_TOP_INNER, 1]).numpy()


def sentences(basis: Tensor) -> Iterator[tuple[str, Tensor, np.ndarray]]:
    """Name, samples and the true lip gap (T,) of a sentence by each voice that was not trained on."""
    for index, voice in enumerate(HELD_OUT_VOICES):
        speech = spoken(voice, np.random.default_rng([SEED, index]))
        samples = resample_poly(speech.samples.astype(np.float32) / 32768, RATE_HZ, speech.sample_rate)
        pad = round(PAD_SECONDS * RATE_HZ)
        samples = np.pad(samples, pad)
        spans = [VisemeSpan(s.start + PAD_SECONDS, s.end + PAD_SECONDS, s.viseme) for s in speech.visemes]
        count = len(samples) * FRAME_RATE_HZ // RATE_HZ
        curves = speech_curves(spans, (count + 0.5) / FRAME_RATE_HZ, CONTROLS, FRAME_RATE_HZ)[:count]
        offsets = torch.einsum("tc,ckd->tkd", torch.from_numpy(curves), basis[: len(CONTROLS)])
        yield voice, torch.from_numpy(samples).float(), lip_gap(offsets)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[known], b[known])[0, 1])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("pictures", nargs="+", type=Path)
    arguments.add_argument("--speech", nargs="*", type=Path, default=[])
    arguments.add_argument("-o", "--output", type=Path)
    given = arguments.parse_args()
    engine = vivant.load(PRESET, device="cpu", dtype="float32")
    voice = load_voice(PRESET)
    said: list[tuple[str, Tensor, np.ndarray | None]] = [
        (path.stem, torch.cat([torch.from_numpy(c.samples) for c in read_audio(path, RATE_HZ, 1)]), None)
        for path in given.speech
    ]
    said = said or list(sentences(voice.network.basis))
    print(
        "| portrait | speech | drawn and predicted | drawn and true | predicted and true | drawn opens | turns |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for picture in given.pictures:
        portrait = engine.prepare(picture)
        for name, samples, truth in said:
            motion: Motion = voice.motions(samples, SEED)
            session = Session(engine, portrait, frame_rate_hz=FRAME_RATE_HZ)
            frames = [session.push_motion(motion[index])[0] for index in range(len(motion))]
            drawn = [as_pixels(frame).numpy() for frame in frames]
            faces = FaceFinder().faces(drawn).landmarks
            opened = np.array([np.nan if face is None else lip_openness(face) for face in faces])
            turned = np.array([head_angles(face)[:2] for face in faces if face is not None])
            predicted = lip_gap(motion.expression)
            numbers = [correlation(opened, predicted)]
            if truth is not None:
                numbers += [
                    correlation(opened[: len(truth)], truth),
                    correlation(predicted[: len(truth)], truth),
                ]
            cells = [f"{number:.2f}" for number in numbers] + ["-"] * (3 - len(numbers))
            low, high = np.nanpercentile(opened, (5, 95))
            yaw, pitch = np.ptp(turned, axis=0)
            cells += [f"{low:.2f} to {high:.2f}", f"{yaw:.0f}, {pitch:.0f} deg"]
            print(f"| {picture.stem} | {name} | {' | '.join(cells)} |", flush=True)
            if given.output is not None:
                given.output.mkdir(parents=True, exist_ok=True)
                for index in range(0, len(drawn), 10):
                    save_image(given.output / f"{picture.stem}-{name}-{index:04}.png", drawn[index])


if __name__ == "__main__":
    main()
