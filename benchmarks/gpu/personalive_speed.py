"""Published-size PersonaLive on a CUDA device: eager, compiled, CUDA graph; ms per call of 4 frames, and frames/s.

    python benchmarks/gpu/personalive_speed.py --json personalive.json [--size 512]

Weights are random: speed does not depend on them. Parts are timed one by one on fixed inputs, so nothing here counts
host work or overlap; frames/s are 4 over the sum of the parts. The floor is counted (benchmarks/floor.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from timing import Call, graphed, milliseconds
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import personalive_cost
from counting import Peak, total_ms

from vivant.engines.personalive.config import Config, published, published_tiny_decoder
from vivant.engines.personalive.motion import cut_faces, draw, face_boxes, pose_of
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.unet import Conditions, joined
from vivant.runtime import precision

COMPILED = ("denoise", "motion_tokens", "pose_features", "decode", "decode_tiny")


def calls(networks: Networks, config: Config, device: torch.device) -> dict[str, Call]:
    """Every part of a call on fixed inputs."""
    length, frames, cells = config.chunk_frames, config.window_frames, config.image_size // 8
    driving = torch.rand(length, 3, config.image_size, config.image_size, device=device)
    latent = torch.randn(1, 4, cells, cells, device=device)
    token = networks.identity_token(driving[:1])
    one = networks.references(latent, token)
    identity = networks.denoiser.embed_identity(token)
    window = torch.randn(1, frames, 4, cells, cells, device=device)
    steps = torch.tensor(config.timesteps, device=device).repeat_interleave(length)[None]
    tokens = torch.randn(
        1, frames, config.motion_encoder.num_tokens, config.unet.motion_channels, device=device
    )
    pose = torch.randn(1, frames, config.unet.channels[0], cells, cells, device=device)

    def see() -> Tensor:
        keypoints = pose_of(networks.head(driving)).keypoints
        boxes = face_boxes(keypoints, config.image_size, config.image_size)
        faces = cut_faces(driving, boxes, config.motion_encoder.image_size)
        features = networks.pose_features(draw(keypoints, config.image_size, config.image_size))
        return networks.motion_tokens(faces).sum() + features.sum()

    def denoise(num_sets: int) -> Call:
        conditions = Conditions(
            identity=identity, references=joined([one] * num_sets), motion=tokens, pose=pose
        )
        return lambda: networks.denoise(window, steps, conditions)

    clean = latent.expand(length, -1, -1, -1).contiguous()
    return {
        "see": see,
        **{f"denoise, {sets} sets": denoise(sets) for sets in (1, 2, 3, 4)},
        "decode": lambda: networks.decode(clean),
        "decode, tiny": lambda: networks.decode_tiny(clean),
    }


@torch.inference_mode()
def measure(config: Config, dtype: torch.dtype, mode: str) -> dict[str, float]:
    device = torch.device("cuda")
    torch.manual_seed(0)
    with device:
        networks = Networks(config).eval()
    precision.place(networks, device, dtype)
    with precision.computing(device, dtype):
        if mode == "compiled":
            for name in COMPILED:
                setattr(networks, name, torch.compile(getattr(networks, name), dynamic=False))
        parts = calls(networks, config, device)
        if mode == "graph":
            # Capturing under autocast must not keep casts from outside the graph.
            torch.clear_autocast_cache()
            parts = {name: graphed(call) for name, call in parts.items()}
        return {name: milliseconds(call) for name, call in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", type=int, default=512, help="Side in pixels; a multiple of 64.")
    parser.add_argument("--tflops", type=float, default=Peak.tflops)
    parser.add_argument("--tbytes-per-s", type=float, default=Peak.tbytes_per_s)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; benchmarks/personalive_cost.py counts what it would take")
    config = replace(published(), image_size=arguments.size, tiny_decoder=published_tiny_decoder())
    peak = Peak(tflops=arguments.tflops, tbytes_per_s=arguments.tbytes_per_s)
    costs = personalive_cost.costs(config)
    costs.pop("tiny decoder")
    floor_ms = total_ms(costs, peak)
    rows, eager = [], 0.0
    for name, dtype, mode in (
        ("fp32 eager", torch.float32, "eager"),
        ("bf16 eager", torch.bfloat16, "eager"),
        ("bf16 graph", torch.bfloat16, "graph"),
        ("bf16 compiled", torch.bfloat16, "compiled"),
    ):
        parts = measure(config, dtype, mode)
        torch.cuda.empty_cache()
        whole = parts["see"] + parts["denoise, 1 sets"] + parts["decode"]
        eager = whole if name == "bf16 eager" else eager
        tiny = whole - parts["decode"] + parts["decode, tiny"]
        rows.append(
            {
                "what": name,
                "ms": parts,
                "fps": 4000 / whole,
                "fps_tiny_decoder": 4000 / tiny,
                "ratio_to_bf16_eager": eager / whole if eager else None,
                "share_of_floor": floor_ms / whole,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    report = {
        "device": torch.cuda.get_device_name(),
        "size": arguments.size,
        "floor_ms": floor_ms,
        "floor_at": str(peak),
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
