"""What references and residual resampling are worth: the shape of the paper's Table 2 at a size that a CPU trains.

    python benchmarks/refvae_ablations.py train --data CLIPS -o RUNS [--images 12000] [--size-px 64] [--seed 0]
    python benchmarks/refvae_ablations.py table --data CLIPS -o RUNS
    python benchmarks/refvae_ablations.py table --data CLIPS --preset FOLDER      # one checkpoint, M = 0..3

`train` makes four models of the same size on the same pictures: residual or interpolated resampling, each with 1 to 3
references and, as a model of its own, with none; it goes on where it stopped. `table` measures on the people who are
held out of all training (identities below 12). Protocol of the paper: references are the first frame of a clip, then
also the last, then also the middle one; peak signal to noise over pictures on their own, and over clips of 17 frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vivant import checkpoint
from vivant.engines.refvae.config import Config, mini
from vivant.engines.refvae.config_vae import TIME_FACTOR
from vivant.engines.refvae.data import Cut, as_references, as_video, cropped
from vivant.engines.refvae.losses import KL_WEIGHT
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.recipes import mini_vae_1
from vivant.engines.refvae.stages import VaeStage
from vivant.runtime.precision import choose_device
from vivant.studio.talking import list_clips, read_clip
from vivant.training.config import ParameterGroup
from vivant.training.data.sessions import NUM_HELD_OUT, find_talking_clips
from vivant.training.trainer import Trainer

RATE = 1e-3
CLIP_FRAMES = 17
NUM_PICTURES = 8
"""Measured per clip."""


def variants(size_px: int) -> dict[str, tuple[Config, int]]:
    """Config and most references of each model."""
    out = {}
    for resampling in ("interpolation", "residual"):
        config = mini()
        config = replace(config, image_size=size_px, vae=replace(config.vae, resampling=resampling))
        out |= {f"{resampling}-{most}": (config, most) for most in (0, 3)}
    return out


def train(given: argparse.Namespace) -> None:
    clips = find_talking_clips(given.data)
    for name, (config, most) in variants(given.size_px).items():
        recipe = mini_vae_1().train
        plain = {"part_weight": 1.0, "without_references": 0.0, "divergence_weight": KL_WEIGHT}
        extra = {**recipe.extra, "size_px": given.size_px, "max_references": most, **plain}
        settings = replace(
            recipe,
            name=name,
            num_images=given.images,
            seed=given.seed,
            groups=(ParameterGroup(modules=("networks.vae",), learning_rate=RATE),),
            warmup_images=1000,
            extra=extra,
        )
        torch.manual_seed(given.seed)
        stage = VaeStage(config, Networks(config), clips, settings)
        folder = given.output / name
        folder.mkdir(parents=True, exist_ok=True)
        device = choose_device("auto")
        Trainer(stage, settings, folder, device, lambda row, name=name: print(name, row, flush=True)).run()


def scenes(clips: Sequence[Path], cut: Cut) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Per clip: references (1, 3, 3, S, S), pictures (N, 3, 1, S, S) and a clip (1, 3, 17, S, S), all in [-1, 1]."""
    for index, path in enumerate(clips):
        clip = read_clip(path)
        count, rng = len(clip.frames), np.random.default_rng([index, 71])
        frames, _ = cropped(clip, count // 2, cut, rng)
        places = [0, count - 1, count // 2]
        others = rng.choice(np.setdiff1d(np.arange(count), places), NUM_PICTURES, replace=False)
        first = int(rng.integers(1, count - CLIP_FRAMES))
        yield (
            as_references(frames[places][None]),
            as_video(frames[others][:, None]),
            as_video(frames[None, first : first + CLIP_FRAMES]),
        )


def decibels(drawn: Tensor, truth: Tensor) -> float:
    """Of values in [-1, 1]."""
    error = ((drawn.float().clamp(-1, 1) - truth) / 2).square().mean()
    return float(-10 * torch.log10(error))


def movement(drawn: Tensor, truth: Tensor) -> float:
    """Of what tells the frames of a latent apart, the share that is drawn: 1 where all is, 0 where they are alike."""

    def fast(video: Tensor) -> Tensor:
        frames = video[:, :, 1:].float().unflatten(2, (-1, TIME_FACTOR))
        return frames - frames.mean(3, keepdim=True)

    return float((fast(drawn) * fast(truth)).sum() / fast(truth).square().sum())


@torch.no_grad()
def measure(networks: Networks, cut: Cut, clips: Sequence[Path], counts: Sequence[int]) -> dict[int, tuple]:
    """Per number of references: mean decibels of pictures, of clips, and of the best copied reference, and the share of
    what moves within the frames of a latent that is drawn."""
    vae, rows = networks.vae.eval(), {count: [] for count in counts}
    for references, pictures, video in scenes(clips, cut):
        for count in counts:
            with torch.autocast("cpu", torch.bfloat16):
                seen = vae.encode_references(references[:, :count])
                drawn = vae.decode(vae.encode(video)[0], seen)
                stills = []
                for picture in pictures.split(1):
                    stills.append(decibels(vae.decode(vae.encode(picture)[0], seen), picture))
            copies = [decibels(references[0, i][None, :, None], pictures) for i in range(count)]
            best = max(copies, default=np.nan)
            rows[count].append((np.mean(stills), decibels(drawn, video), best, movement(drawn, video)))
    return {count: tuple(np.mean(values, 0)) for count, values in rows.items()}


def table(given: argparse.Namespace) -> None:
    clips = list_clips(given.data)[:NUM_HELD_OUT]
    print("| model | M | pictures, dB | gain | clips, dB | a reference copied, dB | fast movement drawn |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    if given.preset:
        config, networks = checkpoint.load(given.preset, Config, Networks)
        show(given.preset.name, measure(networks, Cut.of(config), clips, range(4)), None)
        return
    for resampling in ("interpolation", "residual"):
        found = {}
        for most in (0, 3):
            folder = given.output / f"{resampling}-{most}" / "export"
            config, networks = checkpoint.load(folder, Config, Networks)
            found |= measure(networks, Cut.of(config), clips, range(1, 4) if most else [0])
        show(resampling, found, found[0][0])


def show(name: str, found: dict[int, tuple], zero: float | None) -> None:
    for count, (pictures, video, copied, moved) in sorted(found.items()):
        gain = "" if zero is None else f"{pictures - zero:+.2f}"
        cells = (name, count, f"{pictures:.2f}", gain, f"{video:.2f}", f"{copied:.2f}", f"{moved:.2f}")
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("command", choices=["train", "table"])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("-o", "--output", type=Path)
    arguments.add_argument("--preset", type=Path)
    arguments.add_argument("--images", type=int, default=12_000)
    arguments.add_argument("--size-px", type=int, default=64)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    {"train": train, "table": table}[given.command](given)


if __name__ == "__main__":
    main()
