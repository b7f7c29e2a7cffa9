"""Windows: the published loop reproduced while it streams, any length, and memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from flash_golden import LOOP, assert_close, image_tokens, padded
from torch import Tensor

from vivant.diffusion.flow_match import euler_step
from vivant.engines.flashportrait.config import Fusion
from vivant.engines.flashportrait.denoising import Denoiser, Inputs, Memory, PredictionSettings
from vivant.engines.flashportrait.networks.portrait_encoder import PortraitEncoder, group_by_latent
from vivant.engines.flashportrait.networks.transformer import PortraitTransformer
from vivant.engines.flashportrait.sampling import Guidance, step_times
from vivant.engines.flashportrait.windows import (
    Layout,
    arrive,
    fade,
    new_rows,
    oldest_needed,
    read,
    take,
    windows_of,
    work,
    write,
)

Golden = dict[str, Tensor]
Step = Callable[[Tensor, range, int], Tensor]
PLAIN = PredictionSettings(method="none", horizon=1, order=0, level="velocity", bound=1)


def stream(layout: Layout, noise: Tensor, step: Step, per_push: int) -> tuple[Tensor, int, int]:
    """Latents pushed a few at a time; the result, the most latents held at once, and how late the first came."""
    rows = new_rows(layout, (noise.shape[1], *noise.shape[3:]), torch.device("cpu"))
    out: list[Tensor] = []
    most = late = 0
    for piece in [*noise.split(per_push, 2), None]:
        if piece is None:
            rows.ended = True
        else:
            arrive(rows, piece)
        for _, window, index in work(rows, layout):
            write(rows, layout, window, index, step(read(rows, window, index), window, index))
        out.append(take(rows, layout))
        most = max(most, sum(row.shape[2] for row in rows.latents))
        if rows.num_taken == 0:
            late = rows.num_latents
        assert oldest_needed(rows) <= rows.num_latents
    return torch.cat(out, 2), most, late


def whole(layout: Layout, noise: Tensor, step: Step) -> Tensor:
    """The published loop over a whole clip, written down plainly."""
    latents = noise
    for index in range(layout.num_steps):
        new = torch.zeros_like(latents)
        end = 0
        for window in windows_of(noise.shape[2], layout.size, layout.overlap):
            result = step(latents[:, :, window.start : window.stop], window, index)
            shared = max(end - window.start, 0)
            if shared and index > 0:
                weights = fade(shared).view(-1, 1, 1)
                old = new[:, :, window.start : end]
                result = torch.cat(
                    [result[:, :, :shared] * weights + old * (1 - weights), result[:, :, shared:]], 2
                )
            new[:, :, window.start : window.stop] = result
            end = window.stop
        latents = new
    return latents


def mixing(x: Tensor, window: range, index: int) -> Tensor:
    """A step in which every latent of a window depends on all others, its place and the step."""
    place = torch.arange(window.start, window.stop).view(-1, 1, 1)
    return 0.7 * x + 0.3 * torch.tanh(x.mean(2, keepdim=True) + place.cos()) + 0.1 * index


def noise_of(num_latents: int) -> Tensor:
    return torch.randn(1, 2, num_latents, 1, 1, generator=torch.Generator().manual_seed(num_latents))


def test_windows_are_the_published_ones(golden: Golden) -> None:
    names = [name for name in golden if name.startswith("win.queue.")]
    assert len(names) > 5
    for name in names:
        count, size, overlap = (int(part[1:]) for part in name.removeprefix("win.queue.").split("_"))
        assert [list(window) for window in windows_of(count, size, overlap)] == golden[name].tolist()
    for overlap in (2, 5, 10, 30):
        torch.testing.assert_close(fade(overlap), golden[f"win.weight.o{overlap}"], atol=1e-6, rtol=0)


def test_times_are_the_published_ones(golden: Golden) -> None:
    for count in (4, 30, 50):
        times = torch.tensor(step_times(count, 5.0))
        assert_close(times, golden[f"sched.euler.N{count}.sigmas"], 1e-6)
        assert_close(times[:-1] * 1000, golden[f"sched.euler.N{count}.timesteps"], 1e-6)
    distilled = torch.tensor(step_times(4, 5.0, distilled=True))
    assert_close(distilled[:-1] * 1000, golden["sched.distill.timesteps"], 1e-6)
    for name, times in (("euler8", step_times(8, 5.0)), ("distill4", distilled.tolist())):
        x = golden["sched.toy.x0"]
        for index, theirs in enumerate(golden[f"sched.{name}.traj"]):
            velocity = torch.tanh(0.7 * x + times[index])
            x = euler_step(x, velocity, times[index], times[index + 1])
            assert_close(x, theirs)


@pytest.mark.parametrize(("size", "overlap"), [(4, 1), (5, 2), (7, 4), (6, 5), (3, 0)])
def test_streaming_the_published_order_is_the_whole_clip(size: int, overlap: int) -> None:
    layout = Layout(size=size, overlap=overlap, num_steps=3, fusion="published")
    for num_latents in (2, size, size + 1, 3 * size - 1, 4 * size + 2):
        noise = noise_of(num_latents)
        expected = whole(layout, noise, mixing)
        for per_push in (1, num_latents):
            ours, _, _ = stream(layout, noise, mixing, per_push)
            assert torch.equal(ours, expected), (num_latents, per_push)


@pytest.mark.parametrize("fusion", ["causal", "published"])
def test_memory_does_not_grow(fusion: Fusion) -> None:
    layout = Layout(size=5, overlap=2, num_steps=4, fusion=fusion)
    held = []
    for num_latents in (60, 2501):  # 10 000 frames
        ours, most, late = stream(layout, noise_of(num_latents), mixing, 1)
        assert ours.shape[2] == num_latents
        held.append((most, late))
    assert held[0] == held[1]
    assert held[0][1] < 5 if fusion == "causal" else held[0][1] < 5 * 5


def test_causal_what_was_taken_stays(golden: Golden) -> None:
    """A clip that goes on repeats, so far, the clip that ended: what was shown cannot be changed by what follows."""
    layout = Layout(size=5, overlap=2, num_steps=3, fusion="causal")
    long = noise_of(40)
    expected, _, _ = stream(layout, long, mixing, 1)
    for num_latents in range(1, 20):
        ours, _, _ = stream(layout, long[:, :, :num_latents], mixing, 1)
        assert ours.shape[2] == num_latents
        safe = max(num_latents - layout.size, 0)
        assert torch.equal(ours[:, :, :safe], expected[:, :, :safe])
        assert torch.equal(ours, stream(layout, long[:, :, :num_latents], mixing, num_latents)[0])


@pytest.fixture(scope="module")
def steps_of(
    transformer: PortraitTransformer, portrait_encoder: PortraitEncoder, golden: Golden
) -> Callable[[list[float], Guidance], Step]:
    """The steps of the golden pipeline, for given times and guidance."""
    tokens: dict[int, Tensor] = {}

    def make(times: list[float], guidance: Guidance) -> Step:
        def step(x: Tensor, window: range, index: int) -> Tensor:
            frames = slice(4 * window.start, 4 * (window.stop - 1) + 1)
            if window.start not in tokens:
                tokens[window.start] = group_by_latent(portrait_encoder(golden["pipe.in.feat"][0, frames]))
            inputs = Inputs(
                reference=golden["pipe.y"],
                image=image_tokens(),
                text=padded(golden["pipe.in.ctx"]),
                negative=padded(golden["pipe.in.nctx"]),
                expression=tokens[window.start],
            )
            denoiser = Denoiser(transformer=transformer, inputs=inputs, guidance=guidance, settings=PLAIN)
            velocity = denoiser.velocity(x, index, times[index], Memory())
            return euler_step(x, velocity, times[index], times[index + 1])

        return step

    return make


@pytest.mark.parametrize(
    ("name", "num_steps", "text"),
    [("euler2_emo4_text1", 2, 1.0), ("euler4_emo4_text3", 4, 3.0), ("distill4_emo4_text1", 4, 1.0)],
)
def test_the_published_pipeline(
    golden: Golden,
    steps_of: Callable[[list[float], Guidance], Step],
    name: str,
    num_steps: int,
    text: float,
) -> None:
    layout = Layout(size=5, overlap=2, num_steps=num_steps, fusion="published")
    times = step_times(num_steps, 5.0, distilled=name.startswith("distill"))
    step = steps_of(times, Guidance(expression=4.0, text=text))
    ours, _, _ = stream(layout, golden["pipe.in.latents"], step, 1)
    assert_close(ours, golden[f"pipe.{name}.out"], LOOP)
