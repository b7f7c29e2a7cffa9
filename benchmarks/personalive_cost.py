"""What PersonaLive costs at published size, counted without weights or a GPU: GFLOP per part and call, and latency.

    python benchmarks/personalive_cost.py [--fps 25] [--tflops 400]

Runs the networks on torch's fake tensors under its FLOP counter (2 per multiply-add). The last table shows what smaller
chunks and fewer levels would cost and gain; the published weights were trained for 4 frames and 4 levels only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vivant.engine import StreamSpec
from vivant.engines.personalive.config import Config, published, published_tiny_decoder
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.unet import Conditions, joined


def gflop(call: Callable[[], object]) -> float:
    # As plain products: the counter does not know the fused attention of a CPU.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops() / 1e9


def denoising(networks: Networks, config: Config, num_sets: int) -> float:
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
    return gflop(lambda: networks.denoise(latents, steps, conditions))


def parts(networks: Networks, config: Config) -> dict[str, float]:
    """GFLOP of everything beside the denoiser, for one chunk, or once per reference."""
    count, side = config.chunk_frames, config.image_size
    face, cells = config.motion_encoder.image_size, side // 8
    picture, latent = torch.zeros(1, 3, side, side), torch.zeros(1, 4, cells, cells)
    token = torch.zeros(1, 1, config.unet.identity_channels)
    return {
        "motion extractor": gflop(lambda: networks.head(torch.zeros(count, 3, 256, 256))),
        "motion encoder": gflop(lambda: networks.motion_tokens(torch.zeros(count, 3, face, face))),
        "pose guider": gflop(lambda: networks.pose_features(torch.zeros(count, 3, side, side))),
        "decoder": gflop(lambda: networks.decode(latent.expand(count, -1, -1, -1))),
        "tiny decoder": gflop(lambda: networks.decode_tiny(latent.expand(count, -1, -1, -1))),
        "once: encoder": gflop(lambda: networks.encode(picture)),
        "once: reference UNet, keys, values": gflop(lambda: networks.references(latent, token)),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--tflops", type=float, default=400.0, help="What the device sustains.")
    arguments = parser.parse_args()
    with FakeTensorMode():
        config = replace(published(), tiny_decoder=published_tiny_decoder())
        networks = Networks(config).eval()
        costs = parts(networks, config)
        sets = [denoising(networks, config, number) for number in (1, 2, 3, 4)]
        print(f"{'per call of 4 frames':36} GFLOP   per frame")
        rows = {f"denoiser, {n} reference sets": cost for n, cost in enumerate(sets, 1)} | costs
        for name, cost in rows.items():
            print(f"{name:36} {cost:7.0f} {cost / config.chunk_frames:9.0f}")
        small = costs["motion extractor"] + costs["motion encoder"] + costs["pose guider"]
        print(
            f"\n{'window':28} GFLOP per frame   latency at {arguments.fps:g} fps, {arguments.tflops:g} TFLOP/s"
        )
        for frames, steps in ((4, (0, 333, 666, 999)), (2, (0, 333, 666, 999)), (1, (0, 333, 666, 999)),
                              (4, (333, 666, 999)), (2, (333, 666, 999))):  # fmt: skip
            other = replace(config, chunk_frames=frames, timesteps=steps)
            cost = denoising(networks, other, 1) + (small + costs["decoder"]) / 4 * frames
            stream = StreamSpec(
                driving="video", chunk_frames=frames, delay_frames=other.delay_frames, frame_rate_hz=None
            )
            late = stream.latency_seconds(arguments.fps, cost / 1000 / arguments.tflops)
            print(f"{frames} frames, {len(steps)} levels {steps!s:22} {cost / frames:7.0f}   {late:.2f} s")


if __name__ == "__main__":
    main()
