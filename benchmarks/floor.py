"""How fast the large families could be at the very most: FLOPs and bytes per call, counted, and what follows at a peak.

    python benchmarks/floor.py [refvae] [personalive] [--tflops 800] [--tbytes-per-s 3.35]

`make bench` runs it after measuring. No weights, no GPU: the real networks run on tensors without contents (see
counting.py). A part takes the longer of its computing and of its reading; parts do not overlap.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import personalive_cost
import refvae_parts
from counting import GIGA, TERA, Cost, Peak, total_ms

from vivant.engines.personalive.config import published, published_tiny_decoder
from vivant.engines.refvae.config import CHUNK_FRAMES, full
from vivant.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one call of a family costs."""

    title: str
    num_frames: int
    costs: Mapping[str, Cost]


def refvae() -> list[Call]:
    """At the paper's size."""
    config = full()
    title = f"refvae, full size, {config.image_size} px, 1 reference, a block of {CHUNK_FRAMES} frames"
    return [Call(title=title, num_frames=CHUNK_FRAMES, costs=refvae_parts.costs(config))]


def personalive() -> list[Call]:
    """At published size, with the decoder of Stable Diffusion and with the tiny one."""
    config = replace(published(), tiny_decoder=published_tiny_decoder())
    costs = personalive_cost.costs(config)
    calls = []
    for decoder, other in (("decoder", "tiny decoder"), ("tiny decoder", "decoder")):
        title = f"personalive, published size, {config.image_size} px, 1 reference, 4 frames, {decoder}"
        kept = {name: cost for name, cost in costs.items() if name != other}
        calls.append(Call(title=title, num_frames=config.chunk_frames, costs=kept))
    return calls


FAMILIES: dict[str, Callable[[], list[Call]]] = {"refvae": refvae, "personalive": personalive}


def table(call: Call, peak: Peak) -> str:
    """As Markdown."""
    lines = [
        f"### {call.title}",
        "",
        "| part | times | TFLOP | GB read | compute ms | memory ms | floor ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, cost in call.costs.items():
        flops, read = cost.times * cost.flops / TERA, cost.times * cost.read_bytes / GIGA
        lines.append(
            f"| {name} | {cost.times} | {flops:.3f} | {read:.2f} | {cost.compute_ms(peak):.2f} "
            f"| {cost.memory_ms(peak):.2f} | {cost.floor_ms(peak):.2f} |"
        )
    flops = sum(cost.times * cost.flops for cost in call.costs.values()) / TERA
    read = sum(cost.times * cost.read_bytes for cost in call.costs.values()) / GIGA
    ms = total_ms(call.costs, peak)
    lines.append(f"| **all** | | {flops:.2f} | {read:.2f} | | | **{ms:.1f}** |")
    return "\n".join([*lines, "", f"At most {1000 * call.num_frames / ms:.0f} frames per second.", ""])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=" or ".join(FAMILIES))
    parser.add_argument("--tflops", type=float, default=Peak.tflops, help="What the device computes.")
    parser.add_argument("--tbytes-per-s", type=float, default=Peak.tbytes_per_s, help="And reads.")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.families) - set(FAMILIES))
    if unknown:
        parser.error(f"no floor is counted for {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    if arguments.tflops <= 0 or arguments.tbytes_per_s <= 0:
        parser.error("--tflops and --tbytes-per-s are positive")
    peak = Peak(tflops=arguments.tflops, tbytes_per_s=arguments.tbytes_per_s)
    print("## The floor: what no kernels can beat\n")
    for family in arguments.families or FAMILIES:
        try:
            calls = FAMILIES[family]()
        except InputError as error:  # an extra is not installed; the others are counted all the same
            print(f"{family} is not counted. {error}\n")
            continue
        print("\n".join(table(call, peak) for call in calls))
    print(
        f"At {peak}, which is an assumption and not a measurement; without options, what an H100 may sustain in\n"
        "dense bfloat16 and from its memory. Two bytes a number. Read are weights, caches and tables, each as often\n"
        "as they are used; activations are not counted, so real memory traffic is higher."
    )


if __name__ == "__main__":
    main()
