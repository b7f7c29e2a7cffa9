"""Each shape of 3 x 3 convolutions in the decoders, each way to compute it: ms, TFLOP/s, and how far from plain.

    python benchmarks/gpu/conv_speed.py --json convolutions.json
    python benchmarks/gpu/conv_speed.py --size tiny --device cpu    the shapes, and what of it a CPU can do

Shapes are those that the networks ask for, on tensors without contents; of one that comes several times the times count
as often. The last rows add up what a decoder would take with one way for all, and with the best for each.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from report import Report
from timing import milliseconds, tuned
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refvae_parts import new_stream

from vivant.engines.personalive import config as personalive
from vivant.engines.personalive.networks import Networks as PersonaLive
from vivant.engines.personalive.networks.unet import Conditions
from vivant.engines.refvae import config as refvae
from vivant.engines.refvae.networks import Networks as RefVae
from vivant.ops import measured

TERA = 1e12


class Shape(NamedTuple):
    """Frames that come out, picture, channels in and out, frames that the kernel sees."""

    frames: int
    height: int
    width: int
    few: int
    many: int
    times: int

    @property
    def flops(self) -> float:
        return 2.0 * self.frames * self.height * self.width * self.few * self.many * 9 * self.times


def asked_for(work: Callable[[], object], networks: nn.Module) -> Counter[Shape]:
    """How often a piece of work asks for which convolutions of stride 1."""
    found: Counter[Shape] = Counter()

    def note(conv: Any, given: tuple[Tensor]) -> None:
        if conv.kernel_size[-2:] == (3, 3) and set(conv.stride) == {1}:
            x, is_clip = given[0], len(conv.kernel_size) == 3
            times = conv.kernel_size[0] if is_clip else 1
            frames = x.shape[2] - times + 1 if is_clip else len(x)
            found[Shape(frames, *x.shape[-2:], conv.in_channels, conv.out_channels, times)] += 1

    hooks = [
        layer.register_forward_pre_hook(note)
        for layer in networks.modules()
        if isinstance(layer, (nn.Conv2d, nn.Conv3d))
    ]
    work()
    for hook in hooks:
        hook.remove()
    return found


def shapes(size: str) -> dict[str, Counter[Shape]]:
    """Of refvae's decoder, and of personalive's SD VAE and denoiser."""
    is_tiny = size == "tiny"
    with FakeTensorMode():
        config = refvae.tiny() if is_tiny else refvae.full()
        networks = RefVae(config).eval()
        stream = new_stream(networks, config, 1, (1.0, 0.0))
        stream.decode(stream.noise)
        found = {"refvae decoder": asked_for(lambda: stream.decode(stream.noise), networks)}
        sizes = personalive.tiny() if is_tiny else personalive.published()
        drawing = PersonaLive(sizes).eval()
        cells, frames = sizes.image_size // 8, sizes.window_frames
        clean = torch.zeros(sizes.chunk_frames, 4, cells, cells)
        found["SD VAE"] = asked_for(lambda: drawing.decode(clean), drawing)
        token = torch.zeros(1, 1, sizes.unet.identity_channels)
        given = Conditions(
            identity=drawing.denoiser.embed_identity(token), references=None, motion=None, pose=None
        )
        window, steps = torch.zeros(1, frames, 4, cells, cells), torch.zeros(1, frames)
        found["denoiser"] = asked_for(lambda: drawing.denoise(window, steps, given), drawing)
    return found


def plainly(x: Tensor, weight: Tensor, bias: Tensor, layout: torch.memory_format) -> Callable[[], Tensor]:
    """torch's own, x (T + k - 1, H, W, I) laid out beforehand."""
    clip = x.permute(3, 0, 1, 2)[None].contiguous(memory_format=layout)
    weight = weight.contiguous(memory_format=layout)
    return lambda: F.conv3d(clip, weight, bias, padding=(0, 1, 1))[0].permute(1, 2, 3, 0)


def summed(x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """One convolution of pictures for each frame that the kernel sees."""
    kernels = [tap.contiguous(memory_format=torch.channels_last) for tap in weight.unbind(2)]
    count = len(x) - len(kernels) + 1

    def work() -> Tensor:
        y = F.conv2d(x[:count].permute(0, 3, 1, 2), kernels[0], bias, padding=1)
        for tap, kernel in enumerate(kernels[1:], 1):
            y += F.conv2d(x[tap : tap + count].permute(0, 3, 1, 2), kernel, None, padding=1)
        return y.permute(0, 2, 3, 1)

    return work


def ways_of(shape: Shape, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """By name, the same numbers in all."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    x = torch.randn(
        shape.frames + shape.times - 1, shape.height, shape.width, shape.few, device=device, dtype=dtype
    )
    weight = torch.randn(shape.many, shape.few, shape.times, 3, 3, device=device, dtype=dtype)
    weight = (weight / (shape.few * shape.times * 9) ** 0.5).contiguous(memory_format=torch.channels_last_3d)
    bias = torch.randn(shape.many, device=device, dtype=dtype)
    ways: dict[str, Callable[[], Tensor]] = {
        "channels_last_3d": plainly(x, weight, bias, torch.channels_last_3d)
    }
    if shape.times > 1:
        ways["sum of pictures"] = summed(x, weight, bias)
    if device.type == "cuda":
        for name, way in measured.ways_for(x, weight).items():
            ways[name] = lambda way=way: way(x, weight, bias, None)
        ways["pictures, tuned"] = _tuned(ways["pictures"])
    # Last, for it is slow and is known.
    ways["NCDHW"] = plainly(x, weight, bias, torch.contiguous_format)
    return ways


def _tuned(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def tried() -> Tensor:
        with tuned():
            return work()

    return tried


def ceilings(device: torch.device) -> dict[str, float]:
    """What this card does: a large product in bfloat16, a large copy."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(1 << 29, device=device)
    target = torch.empty_like(source)
    return {
        "tflops": 2 * 8192**3 / TERA / (milliseconds(lambda: a @ b, device) / 1000),
        "tbytes_per_s": 2
        * source.numel()
        * 4
        / TERA
        / (milliseconds(lambda: target.copy_(source), device) / 1000),
    }


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    report = Report(arguments.json, device, size=arguments.size)
    if device.type == "cuda":
        with report.attempt(what="ceilings") as row:
            row |= ceilings(device)
    for network, found in shapes(arguments.size).items():
        totals: dict[str, float] = Counter()
        for shape, count in sorted(found.items(), key=lambda item: -item[0].flops * item[1]):
            best = measure(report, network, shape, count, device)
            for name, ms in best.items():
                totals[name] += count * ms
        report.add({"what": f"{network}, all of them", "ms": totals})
    report.finish()


def measure(report: Report, network: str, shape: Shape, count: int, device: torch.device) -> dict[str, float]:
    """A row; milliseconds of what is tried everywhere, and of the best."""
    took: dict[str, float] = {}
    with report.attempt(what=network, shape=" ".join(map(str, shape)), times=count) as row:
        row |= {"tflop": shape.flops / TERA, "tflops": {}, "differs_by": {}}
        wanted: Tensor | None = None
        for name, work in ways_of(shape, device).items():
            try:
                made = work()
                wanted = made if wanted is None else wanted
                row["differs_by"][name] = float((made - wanted).float().norm() / wanted.float().norm())
                took[name] = milliseconds(work, device, repeats=8, warm_up=1, seconds=0.15)
                row["tflops"][name] = shape.flops / TERA / (took[name] / 1000)
            except Exception as error:  # noqa: BLE001 - the next way may work
                row["differs_by"][name] = str(error)[:200]
        row["best"] = min(took, key=lambda name: took[name])
    if not took:
        return {}
    everywhere = ("NCDHW", "channels_last_3d", "pictures")
    return {name: took[name] for name in everywhere if name in took} | {"best": min(took.values())}


if __name__ == "__main__":
    main()
