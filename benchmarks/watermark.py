"""How often the watermark is seen where there is none, and how well it is found after harm: on pictures of your choice.

    python benchmarks/watermark.py alarms FOLDER [--crops 240] [--scales 100]
    python benchmarks/watermark.py survival FOLDER

alarms: random crops of the pictures, resized, mirrored and compressed at random, each searched at random scales. A
trial is the best score over all 16 384 shifts at one scale, which is what the threshold is compared with. The tail is
fitted above LEVEL as exp(-b z^2 / 2), what a normal distribution has with b = 1 (maximum likelihood: b is one over the
mean of (z^2 - LEVEL^2) / 2), and summed over all scales and looks.

Choose on one folder, measure on another: docs/marks.md says which pictures these were.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from vivant.marks import watermark
from vivant.marks.watermark import MISTAKES, THRESHOLD, Marker, find, scales
from vivant.media.image import read_image
from vivant.media.reader import read_clip
from vivant.media.sequence import sequence_files
from vivant.media.writer import VideoWriter

LEVEL = 4.4
NUM_SEARCHES = watermark.NUM_LOOKS * len(scales())
LARGEST_PX, SMALLEST_PX = 512, 96


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = [max(SMALLEST_PX, round(side * scale)) for side in (image.shape[1], image.shape[0])]
    return np.array(Image.fromarray(image).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def cropped(image: np.ndarray) -> np.ndarray:
    """Without a tenth of its height and of its width."""
    height, width = image.shape[:2]
    rows, columns = (
        slice(round(0.07 * height), round(0.97 * height)),
        slice(round(0.03 * width), round(0.93 * width)),
    )
    return np.ascontiguousarray(image[rows, columns])


def filmed(image: np.ndarray) -> np.ndarray:
    """The only frame of a video at CRF 28."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, Fraction(25), image.shape[1], image.shape[0], crf=28) as writer:
            writer.write(image)
        return next(iter(read_clip(path))).image[: image.shape[0], : image.shape[1]]


HARMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda image: image,
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 50": lambda image: jpeg(image, 50),
    "resized 0.75": lambda image: resized(image, 0.75),
    "resized 1.33": lambda image: resized(image, 1.33),
    "10 % cropped": cropped,
    "cropped, resized 1.1, JPEG 80": lambda image: jpeg(resized(cropped(image), 1.1), 80),
    "H.264 CRF 28, one frame": filmed,
}


def random_view(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A crop, resized, perhaps mirrored, perhaps compressed."""
    height, width = (
        int(random.integers(min(160, side), min(side, LARGEST_PX) + 1)) for side in image.shape[:2]
    )
    top, left = (
        int(random.integers(0, side - part + 1))
        for side, part in zip(image.shape[:2], (height, width), strict=True)
    )
    scale = min(float(np.exp(random.uniform(np.log(0.6), np.log(1.4)))), LARGEST_PX / max(height, width))
    view = resized(np.ascontiguousarray(image[top : top + height, left : left + width]), scale)
    if random.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    return jpeg(view, int(random.integers(50, 96))) if random.random() < 0.5 else view


def alarms(pictures: list[np.ndarray], num_crops: int, num_scales: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = []
    for number in range(num_crops):
        residual = watermark._residual(random_view(pictures[number % len(pictures)], random))
        for scale in random.choice(scales(), num_scales, replace=False):
            folded = watermark._folded(residual, float(scale))
            if folded is not None:
                scores.append(watermark._best_shift(folded)[0])
    best = np.array(scores)
    tail = best[best >= LEVEL]
    share, decay = len(tail) / len(best), 1 / np.mean((tail**2 - LEVEL**2) / 2)
    lowest = decay * (1 - 2 / np.sqrt(len(tail)))
    print(
        f"{len(best)} trials of {num_crops} crops; largest score {best.max():.2f}; {len(tail)} above {LEVEL}"
    )
    for name, b in (("fitted", decay), ("two standard errors heavier", lowest)):
        rate = NUM_SEARCHES * share * np.exp(-b * (THRESHOLD**2 - LEVEL**2) / 2)
        enough = np.sqrt(LEVEL**2 + 2 * np.log(NUM_SEARCHES * share / MISTAKES) / b)
        print(f"{name}: b {b:.3f}; wrong alarms at {THRESHOLD:.2f}: {rate:.1e}; {MISTAKES:g} at {enough:.2f}")


def survival(pictures: list[np.ndarray], seed: int) -> None:
    random = np.random.default_rng(seed)
    payloads = [int(random.integers(2**32)) for _ in pictures]
    marked = [Marker(payload).mark(picture) for payload, picture in zip(payloads, pictures, strict=True)]
    for name, harm in HARMS.items():
        found = [find([harm(picture)]) for picture in marked]
        right = sum(one.payload == payload for one, payload in zip(found, payloads, strict=True))
        scores = [one.score for one in found]
        print(
            f"{name:30} payload right {right} of {len(found)}, found {sum(one.is_marked for one in found)}; "
            f"z {min(scores):.1f} to {max(scores):.1f}, median {np.median(scores):.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("alarms", "survival"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crops", type=int, default=240)
    parser.add_argument("--scales", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    pictures = [read_image(file) for file in sequence_files(given.folder)]
    if given.what == "alarms":
        alarms(pictures, given.crops, given.scales, given.seed)
    else:
        survival(pictures, given.seed)


if __name__ == "__main__":
    main()
