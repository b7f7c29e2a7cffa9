"""Published-size PersonaLive: eager, CUDA graphs, compiled; ms per call of 4 frames in parts, and frames/s.

    python benchmarks/gpu/personalive_speed.py --json personalive.json [--size published]
    python benchmarks/gpu/personalive_speed.py --size tiny --device cpu    what of it a CPU can do

Weights are random: speed does not depend on them. Parts are timed one by one on fixed inputs, so nothing here counts
host work or overlap; frames/s are of the sum of the parts. The floor is counted (benchmarks/floor.py). Each way says
how far what it gives is from what the first way gives.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch._dynamo
from report import Report
from timing import CUDNN_FIRST, backend, compile_parts, forget_compiled, kernels, milliseconds, shown, tuned
from torch import Tensor
from torch.nn.attention import sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import personalive_cost
from counting import Peak, total_ms

import vivant
from vivant.engines.personalive.config import Config, Options, published, published_tiny_decoder, tiny
from vivant.engines.personalive.engine import PersonaLive, PersonaLiveState
from vivant.engines.personalive.motion import cut_faces, draw, face_boxes, pose_of
from vivant.engines.personalive.networks import LATENT_SCALE, Networks
from vivant.engines.personalive.networks.layers import ResnetBlock, SpatialTransformer, TokenTransformer
from vivant.engines.personalive.networks.unet import Conditions, joined
from vivant.ops import fused, measured
from vivant.runtime import precision
from vivant.runtime.graphs import recorded
from vivant.session import Session

Part = Callable[[], Tensor]
COMPILED_PARTS = (ResnetBlock, SpatialTransformer, TokenTransformer)
COMPILED_WHOLE = ("motion_encoder", "pose_guider", "tiny_decoder")


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a call is made."""

    half: bool = True
    graphs: bool = False
    compiled: bool = False
    cudnn_attention: bool = False
    own: bool = False
    """Kernels of our own."""


WAYS = {
    "bf16 eager": Way(),
    "bf16 graph": Way(graphs=True),
    "bf16 kernels": Way(own=True),
    "bf16 kernels, graph": Way(graphs=True, own=True),
    "bf16 kernels, graph, cudnn attention": Way(graphs=True, own=True, cudnn_attention=True),
    "bf16 graph, cudnn attention": Way(graphs=True, cudnn_attention=True),
    "bf16 compiled graph": Way(graphs=True, compiled=True),
    "bf16 compiled graph, cudnn attention": Way(graphs=True, compiled=True, cudnn_attention=True),
    "bf16 compiled": Way(compiled=True),
    "fp32 eager": Way(half=False),
}
"""The first is what the others are compared with; the last changes the weights."""


def parts_of(
    networks: Networks, config: Config, device: torch.device, num_sets: Sequence[int], *, own: bool
) -> dict[str, Part]:
    """Every part of a call on fixed inputs; without our own kernels the VAE's library decodes."""
    torch.manual_seed(1)
    length, frames, cells = config.chunk_frames, config.window_frames, config.image_size // 8
    driving = torch.rand(length, 3, config.image_size, config.image_size, device=device)
    latent = torch.randn(1, 4, cells, cells, device=device)
    token = networks.identity_token(driving[:1])
    one = networks.references(latent, token)
    identity = networks.denoiser.embed_identity(token)
    window = torch.randn(1, frames, 4, cells, cells, device=device)
    steps = torch.tensor(config.timesteps, device=device).repeat_interleave(length)[None]
    sizes = config.unet
    tokens = torch.randn(1, frames, config.motion_encoder.num_tokens, sizes.motion_channels, device=device)
    pose = torch.randn(1, frames, sizes.channels[0], cells, cells, device=device)

    def see() -> Tensor:
        keypoints = pose_of(networks.head(driving)).keypoints
        boxes = face_boxes(keypoints, config.image_size, config.image_size)
        faces = cut_faces(driving, boxes, config.motion_encoder.image_size)
        features = networks.pose_features(draw(keypoints, config.image_size, config.image_size))
        return torch.cat([networks.motion_tokens(faces).float().flatten(), features.float().flatten()])

    def denoise(sets: int) -> Part:
        conditions = Conditions(identity=identity, references=joined([one] * sets), motion=tokens, pose=pose)
        return lambda: networks.denoise(window, steps, conditions)

    clean = torch.randn(length, 4, cells, cells, device=device)
    return {
        "see": see,
        **{f"denoise, {sets} sets": denoise(sets) for sets in num_sets},
        "decode": lambda: (
            networks.decode(clean) if own else networks.vae.decode(clean / LATENT_SCALE).sample / 2 + 0.5
        ),
        "decode, tiny": lambda: networks.decode_tiny(clean),
    }


@contextmanager
def made(networks: Networks, way: Way, device: torch.device) -> Iterator[None]:
    """Networks and torch as this way has them; afterwards as before."""
    with ExitStack() as undoing:
        if not way.own:
            undoing.enter_context(fused.plainly())
        if way.compiled:
            undoing.enter_context(tuned())
        if way.cudnn_attention:
            undoing.enter_context(sdpa_kernel(CUDNN_FIRST, set_priority=True))
        if way.compiled:
            torch._dynamo.reset()  # what was compiled says which attention it uses
            undoing.callback(forget_compiled, networks)
            compile_parts(networks, device, COMPILED_PARTS)
            for part in (*(getattr(networks, name) for name in COMPILED_WHOLE), networks.vae.decoder):
                part.compile(dynamic=False, backend=backend(device))
        undoing.enter_context(precision.computing(device, torch.bfloat16 if way.half else torch.float32))
        yield


def measure(
    networks: Networks,
    config: Config,
    device: torch.device,
    num_sets: Sequence[int],
    way: Way,
    wanted: dict[str, Tensor],
) -> tuple[dict[str, float], dict[str, float]]:
    """Per part: milliseconds, and how far it is from what is wanted, which is filled where it is empty."""
    times, errors = {}, {}
    with made(networks, way, device):
        for name, part in parts_of(networks, config, device, num_sets, own=way.own).items():
            made_by: list[Tensor] = []

            def work(part: Part = part, made_by: list[Tensor] = made_by) -> None:
                made_by[:] = [part()]

            call = recorded(work) if way.graphs and device.type == "cuda" else work
            call()
            got = made_by[0].float()
            wanted.setdefault(name, got)
            errors[name] = float((got - wanted[name]).norm() / wanted[name].norm())
            times[name] = milliseconds(call, device)
            print(f"    {name}: {times[name]:.2f} ms", flush=True)
    return times, errors


def timed_engine(
    networks: Networks, config: Config, device: torch.device, num_calls: int = 10
) -> dict[str, float]:
    """The package itself with `--runtime graphs`, on the clock on the wall: `fps` of a session that waits for each
    chunk, 8-bit frames in and out; `fps_rendered` of `vivant.animate`, which asks for the next chunk before it waits;
    `fps_floats`: frames go in as floats and straight to the engine, as in rows until 27 November."""
    engine = PersonaLive(config, networks, torch.bfloat16)
    if device.type == "cuda":
        engine.record()
    torch.manual_seed(3)
    side, found = config.image_size, {}
    frames = torch.randint(256, (config.chunk_frames, side, side, 3), dtype=torch.uint8).numpy()
    floats = torch.from_numpy(frames).movedim(-1, 1).float() / 255
    portrait = engine.prepare(torch.rand(3, side, side), face=None)
    for decoder, words in (("full", ""), ("tiny", "_tiny_decoder")):
        if decoder == "tiny" and not config.has_tiny_decoder:
            continue
        options = Options(decoder=decoder, keyframes="off")
        session, state = Session(engine, portrait, options), engine.start(portrait, options)

        def as_used(session: Session = session) -> None:
            drawn = [frame for own in frames for frame in session.push(own)]
            shown(torch.stack(drawn) if drawn else floats[:0])

        def as_floats(state: PersonaLiveState = state) -> None:
            shown(engine.step(state, floats))

        for name, call in (("fps" + words, as_used), ("fps_floats" + words, as_floats)):
            for _ in range(config.num_chunks + 1):
                call()
            begin = perf_counter()
            for _ in range(num_calls):
                call()
            found[name] = num_calls * config.chunk_frames / (perf_counter() - begin)
        found["fps_rendered" + words] = rendered(engine, portrait, options, list(frames), num_calls)
    return found


def rendered(engine: PersonaLive, portrait: Any, options: Options, chunk: list[Any], num_calls: int) -> float:
    """Frames per second of `vivant.animate` in the middle of a clip of crops."""
    begin, count = 2 * len(chunk), num_calls * len(chunk)
    driving = chunk * (num_calls + 4 + engine.config.num_chunks)
    with vivant.animate(engine, portrait, driving, options=options, driving_face=None) as animation:
        for _ in islice(animation, begin):
            pass
        began = perf_counter()
        for _ in islice(animation, count):
            pass
        return count / (perf_counter() - began)


def forget_recorded(networks: Networks) -> None:
    """Methods are the class's again."""
    for name in (*PersonaLive.network_methods, "head"):
        networks.__dict__.pop(name, None)


def rates(
    times: dict[str, float], config: Config, eager: dict[str, float], floor_ms: float
) -> dict[str, Any]:
    """Frames per second and ratios; empty where a part is missing."""

    def whole(ms: dict[str, float], decoder: str) -> float:
        return ms["see"] + ms["denoise, 1 sets"] + ms[decoder]

    found: dict[str, Any] = {}
    for decoder, words in (("decode", ""), ("decode, tiny", "_tiny_decoder")):
        found[f"fps{words}"] = 1000 * config.chunk_frames / whole(times, decoder)
        found[f"ratio_to_bf16_eager{words}"] = whole(eager, decoder) / whole(times, decoder)
    return found | {"share_of_floor": floor_ms / whole(times, "decode")}


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", choices=("published", "tiny"), default="published")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--side", type=int, help="Of frames, in pixels; a multiple of 64. Published: 512.")
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 4], help="Numbers of reference sets.")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--kernels", action="store_true", help="Say what takes the time of the first way.")
    parser.add_argument("--tflops", type=float, default=Peak.tflops)
    parser.add_argument("--tbytes-per-s", type=float, default=Peak.tbytes_per_s)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --size tiny --device cpu runs what a CPU can, floor.py counts")
    config = tiny()
    if arguments.size == "published":
        config = replace(published(), tiny_decoder=published_tiny_decoder())
    config = replace(config, image_size=arguments.side or config.image_size)
    peak = Peak(tflops=arguments.tflops, tbytes_per_s=arguments.tbytes_per_s)
    costs = personalive_cost.costs(config)
    costs.pop("tiny decoder")
    floor_ms = total_ms(costs, peak)
    report = Report(
        arguments.json,
        device,
        side=config.image_size,
        size=arguments.size,
        floor_ms=floor_ms,
        floor_at=str(peak),
    )
    torch.manual_seed(0)
    with device:
        networks = Networks(config).eval().requires_grad_(False)
    precision.place(networks, device, torch.bfloat16)
    with report.attempt(what="engine, graphs") as row:
        try:
            row |= timed_engine(networks, config, device)
        finally:
            forget_recorded(networks)
    wanted: dict[str, Tensor] = {}
    eager: dict[str, float] = {}
    num_sets = sorted({1, *arguments.sets})
    for name in arguments.ways:
        with report.attempt(what=name) as row:
            if not WAYS[name].half:
                networks.float()
            times, errors = measure(networks, config, device, num_sets, WAYS[name], wanted)
            eager = eager or times
            row |= {"ms": times, **rates(times, config, eager, floor_ms), "differs_by": errors}
            if WAYS[name].own:
                row["convolutions"] = measured.choices()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    tabled = {WAYS[name].own: WAYS[name] for name in arguments.ways if not WAYS[name].compiled}
    for own, way in sorted(tabled.items(), reverse=True) if arguments.kernels else ():
        with report.attempt(what=f"kernels, {'own' if own else 'plain'}") as row, made(networks, way, device):
            parts = parts_of(networks, config, device, [1], own=own)
            row |= {name: kernels(part, device, 25) for name, part in parts.items()}
    report.finish()


if __name__ == "__main__":
    main()
