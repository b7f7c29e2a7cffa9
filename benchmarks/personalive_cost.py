"""What PersonaLive costs at published size, counted without weights or a GPU: GFLOP per part and call, and latency.

    python benchmarks/personalive_cost.py [--fps 25] [--tflops 400]

Counted by counting.py, 2 per multiply-add. The last table shows what smaller chunks and fewer levels would cost and
gain; the published weights were trained for 4 frames and 4 levels only. Floors are printed by floor.py.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from counting import GIGA, Cost, counted
from torch._subclasses.fake_tensor import FakeTensorMode

from vivant.engine import StreamSpec
from vivant.engines.personalive.config import Config, published, published_tiny_decoder
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.unet import Conditions, joined


def denoising(networks: Networks, config: Config, num_sets: int) -> Cost:
    """One call with that many reference sets, their keys and values made beforehand."""
    cells, frames = config.image_size // 8, config.window_frames
    token = torch.zeros(1, 1, config.unet.identity_channels)
    one = networks.references(torch.zeros(1, 4, cells, cells), token)
    conditions = Conditions(
        identity=networks.denoiser.embed_identity(token),
        references=joined([one] * num_sets),
        motion=torch.zeros(1, frames, config.motion_encoder.num_tokens, config.unet.motion_channels),
        pose=torch.zeros(1, frames, config.unet.channels[0], cells, cells),
    )
    latents, steps = torch.zeros(1, frames, 4, cells, cells), torch.zeros(1, frames)
    return counted(lambda: networks.denoise(latents, steps, conditions))


def parts(networks: Networks, config: Config) -> dict[str, Cost]:
    """Everything beside the denoiser, for one chunk."""
    count, side = config.chunk_frames, config.image_size
    face, cells = config.motion_encoder.image_size, side // 8
    latents = torch.zeros(count, 4, cells, cells)
    return {
        "motion extractor": counted(lambda: networks.head(torch.zeros(count, 3, 256, 256))),
        "motion encoder": counted(lambda: networks.motion_tokens(torch.zeros(count, 3, face, face))),
        "pose guider": counted(lambda: networks.pose_features(torch.zeros(count, 3, side, side))),
        "decoder": counted(lambda: networks.decode(latents)),
        "tiny decoder": counted(lambda: networks.decode_tiny(latents)),
    }


def parts_once(networks: Networks, config: Config) -> dict[str, Cost]:
    """Once per reference."""
    side, cells = config.image_size, config.image_size // 8
    latent, token = torch.zeros(1, 4, cells, cells), torch.zeros(1, 1, config.unet.identity_channels)
    return {
        "once: encoder": counted(lambda: networks.encode(torch.zeros(1, 3, side, side))),
        "once: reference UNet, keys, values": counted(lambda: networks.references(latent, token)),
    }


@torch.no_grad()
def costs(config: Config) -> dict[str, Cost]:
    """Per call with one reference set and no keyframes; of the two decoders one is used."""
    with FakeTensorMode():
        networks = Networks(config).eval()
        return {"denoiser": denoising(networks, config, 1), **parts(networks, config)}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--tflops", type=float, default=400.0, help="What the device sustains.")
    arguments = parser.parse_args()
    with FakeTensorMode():
        config = replace(published(), tiny_decoder=published_tiny_decoder())
        networks = Networks(config).eval()
        others = parts(networks, config)
        sets = {f"denoiser, {n} reference sets": denoising(networks, config, n) for n in (1, 2, 3, 4)}
        print(f"{'per call of 4 frames':36} GFLOP   per frame")
        for name, cost in (sets | others | parts_once(networks, config)).items():
            gflop = cost.flops / GIGA
            print(f"{name:36} {gflop:7.0f} {gflop / config.chunk_frames:9.0f}")
        chunk = sum(cost.flops for name, cost in others.items() if name != "tiny decoder") / GIGA
        print(
            f"\n{'window':28} GFLOP per frame   latency at {arguments.fps:g} fps, {arguments.tflops:g} TFLOP/s"
        )
        for frames, steps in ((4, (0, 333, 666, 999)), (2, (0, 333, 666, 999)), (1, (0, 333, 666, 999)),
                              (4, (333, 666, 999)), (2, (333, 666, 999))):  # fmt: skip
            other = replace(config, chunk_frames=frames, timesteps=steps)
            gflop = denoising(networks, other, 1).flops / GIGA + chunk / config.chunk_frames * frames
            stream = StreamSpec(
                driving="video", chunk_frames=frames, delay_frames=other.delay_frames, frame_rate_hz=None
            )
            late = stream.latency_seconds(arguments.fps, gflop / 1000 / arguments.tflops)
            print(f"{frames} frames, {len(steps)} levels {steps!s:22} {gflop / frames:7.0f}   {late:.2f} s")


if __name__ == "__main__":
    main()
