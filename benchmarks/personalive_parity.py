"""PersonaLive's UNets at published size against the official code: largest differences, and seconds on this machine.

    python benchmarks/personalive_parity.py

Weights are made from key names (tests/seeded_weights.py), 2.5 G of them: minutes on one core, and 11 GB of memory.
Compares with every golden tensor of the reference UNet and of the denoiser; exits with 1 where one is off.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

TESTS = Path(__file__).resolve().parents[1] / "tests"
for folder in (TESTS, TESTS / "assets", TESTS / "engines" / "personalive"):
    sys.path.insert(0, str(folder))

from golden_inputs import fill, given, official  # noqa: E402
from make_personalive_golden import sampled  # noqa: E402

from vivant.engines.personalive.config import published  # noqa: E402
from vivant.engines.personalive.networks.unet import (  # noqa: E402
    Conditions,
    Denoiser,
    ReferenceUnet,
    joined,
)

NAMES = [
    "d00",
    "d01",
    "d10",
    "d11",
    "d20",
    "d21",
    "m",
    "u10",
    "u11",
    "u12",
    "u20",
    "u21",
    "u22",
    "u30",
    "u31",
    "u32",
]
MIDDLE = {"down_blocks.3": "down3", "mid_block": "mid", "up_blocks.0": "up0", "up_blocks.3": "up3"}


def compare(name: str, ours: Tensor, golden: dict[str, Tensor], tolerance: float) -> bool:
    difference = float((sampled(name, ours.float()) - golden[name]).abs().max())
    fine = difference <= tolerance
    print(f"{name:45} {difference:.2e} of {tolerance:.0e} {'' if fine else 'OFF'}", flush=True)
    return fine


def references(golden: dict[str, Tensor]) -> tuple[bool, list[list[Tensor]]]:
    """R on the reference and on a keyframe."""
    with torch.device("meta"):
        network = ReferenceUnet(published().unet).eval().requires_grad_(False)
    fill(network)
    clip = golden["reference_unet.clip"]
    fine, banks = True, []
    for latent, bank in (("latent", "bank"), ("latent_keyframe", "bank_keyframe")):
        banks.append(network(golden[f"reference_unet.{latent}"], clip))
        for name, tokens in zip(NAMES, banks[-1], strict=True):
            fine &= compare(f"reference_unet.{bank}.{name}", tokens, golden, 1e-4)
    return fine, banks


def main() -> None:
    torch.set_grad_enabled(False)
    golden = load_file(TESTS / "assets" / "personalive_golden.safetensors")
    fine, banks = references(golden)
    with torch.device("meta"):
        denoiser = Denoiser(published().unet).eval().requires_grad_(False)
    fill(denoiser)
    sets = [denoiser.project_references(bank) for bank in banks]
    identity = denoiser.embed_identity(golden["reference_unet.clip"])
    latents, pose = (given(name).transpose(1, 2) for name in ("denoise.sample", "denoise.pose_fea"))
    timesteps, motion = golden["denoise.timesteps"][None], given("denoise.motion")
    seen: dict[str, Tensor] = {}
    for part, name in MIDDLE.items():
        # Stages are not called as modules; what ends them is.
        stage = denoiser.get_submodule(part)
        last = {
            "down3": "temporal_modules.1",
            "mid": "resnets.1",
            "up0": "upsamplers.0",
            "up3": "temporal_modules.2",
        }
        stage.get_submodule(last[name]).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, output)
        )
    whole = {"identity": identity, "motion": motion, "pose": pose}
    plain = {"identity": identity, "motion": None, "pose": None, "temporal": False}
    for name, conditions in (
        ("denoise.eps", Conditions(references=sets[0], **whole)),
        ("denoise.eps_with_keyframe", Conditions(references=joined(sets), **whole)),
        ("denoise.eps_with_keyframe_skip_mm_no_pose", Conditions(references=joined(sets), **plain)),
    ):
        begin = time.perf_counter()
        noise = denoiser(latents, timesteps, conditions)
        print(f"{time.perf_counter() - begin:.1f} s")
        fine &= compare(name, noise.transpose(1, 2), golden, 1e-4)
        if name == "denoise.eps":
            for part, output in seen.items():
                step = 8 if output.shape[1] <= 640 else 32
                step = 1 if part in ("down3", "mid") else step
                fine &= compare(f"denoise.mid.{part}", official(output, 16)[:, ::step], golden, 2e-3)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
