"""Adaptive Latent Prediction: the formulas on smooth trajectories, and the rules on a tiny transformer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step
from vivant.engines.flashportrait.config import Level, Options, Prediction, tiny
from vivant.engines.flashportrait.denoising import Denoiser, Inputs, Memory, PredictionSettings
from vivant.engines.flashportrait.networks.transformer import PortraitTransformer
from vivant.engines.flashportrait.prediction import (
    Anchors,
    differences,
    extrapolated,
    lagrange,
    layer_factors,
    mixed,
    speed_factor,
)
from vivant.engines.flashportrait.rehearsal import predicted_bytes
from vivant.engines.flashportrait.sampling import Guidance, step_times

Golden = dict[str, Tensor]
NUM_STEPS = 16
TIMES = step_times(NUM_STEPS, 5.0)
SETTINGS = PredictionSettings(method="none", horizon=4, order=2, level="hidden", bound=0.05)
METHODS: tuple[Prediction, ...] = ("taylor", "adaptive", "newton", "threshold", "controlled")
LEVELS: tuple[Level, ...] = ("velocity", "hidden", "module")


@pytest.mark.parametrize("horizon", [2, 5, 8])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "method"), [("taylorseer", "taylor"), ("newton", "newton"), ("adaptive", "adaptive")]
)
def test_formulas(golden: Golden, horizon: int, order: int, name: str, method: str) -> None:
    anchors, out, speeds, factors = Anchors(), [], [], []
    for step, features in enumerate(golden["alp.features"]):
        if step % horizon:
            u = (step - anchors.steps[-1]) / horizon
            out.append(torch.cat(extrapolated(anchors, method, u, order)))
            continue
        anchors.record(step, float(step), [layer[None] for layer in features], order)
        out.append(features)
        speeds.append(float(speed_factor(anchors)))
        found = differences(anchors, order)[1:]
        known = [torch.cat(layer_factors(layers)) for layers in found]
        factors.append(torch.stack(known + [torch.ones(4)] * (order - len(found))))
    expected = golden[f"alp.K{horizon}_n{order}.{name}"]
    torch.testing.assert_close(torch.stack(out), expected, atol=1e-5, rtol=1e-5)
    if method == "adaptive":
        key = f"alp.K{horizon}_n{order}"
        torch.testing.assert_close(torch.tensor(speeds), golden[f"{key}.s"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(torch.stack(factors), golden[f"{key}.w"], atol=1e-5, rtol=1e-5)


def test_lagrange_is_newton_on_an_even_grid(golden: Golden) -> None:
    anchors = Anchors()
    for step in (0, 5, 10, 15):
        anchors.record(step, float(step), [layer[None] for layer in golden["alp.features"][step]], 3)
    ours = mixed(anchors.features, lagrange(anchors, 18.0, 3))
    torch.testing.assert_close(ours, extrapolated(anchors, "newton", 3 / 5, 3), atol=1e-5, rtol=1e-5)


def test_branches_do_not_meet() -> None:
    """A row is predicted as if it were alone, whatever its neighbours do."""
    trajectory = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(1))
    together, alone = Anchors(), Anchors()
    for step, (first, second, third) in enumerate(trajectory):
        together.record(step, float(step), [first, 100 * second, third], 3)
        alone.record(step, float(step), [first[:1], 100 * second[:1], third[:1]], 3)
    for method in ("taylor", "adaptive", "newton"):
        both, one = (extrapolated(anchors, method, 0.4, 3) for anchors in (together, alone))
        for ours, expected in zip(both, one, strict=True):
            torch.testing.assert_close(ours[:1], expected)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(3)
    sizes = tiny().transformer
    network = PortraitTransformer(sizes).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    inputs = Inputs(
        reference=torch.randn(1, 4 + sizes.latent_channels, 4, 4, 4),
        image=torch.randn(1, 5, sizes.image_channels),
        text=torch.randn(1, 3, sizes.text_channels),
        negative=torch.randn(1, 3, sizes.text_channels),
        expression=torch.randn(4, 29, sizes.expression_channels),
    )
    return Denoiser(
        transformer=network, inputs=inputs, guidance=Guidance(expression=2.0, text=1.0), settings=SETTINGS
    )


def drawn(denoiser: Denoiser, settings: PredictionSettings, seed: int = 0) -> tuple[Tensor, Memory]:
    """A window from noise to latents."""
    denoiser, memory = replace(denoiser, settings=settings), Memory()
    x = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    for step, (time, following) in enumerate(pairwise(TIMES)):
        x = euler_step(x, denoiser.velocity(x, step, time, memory), time, following)
    return x, memory


def error_of(denoiser: Denoiser, settings: PredictionSettings) -> tuple[float, int]:
    full, _ = drawn(denoiser, SETTINGS)
    ours, memory = drawn(denoiser, settings)
    return float((ours - full).norm() / full.norm()), memory.num_computed


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", ["taylor", "adaptive", "newton"])
def test_every_fourth_step_is_computed(denoiser: Denoiser, method: Prediction, level: Level) -> None:
    settings = replace(SETTINGS, method=method, level=level)
    error, computed = error_of(denoiser, settings)
    assert computed == NUM_STEPS // 4
    assert 0 < error < 0.5
    exact, every = error_of(denoiser, replace(settings, horizon=1))
    assert (exact, every) == (0, NUM_STEPS)


def test_modules_keep_more_than_velocities(denoiser: Denoiser) -> None:
    sizes = []
    for level in LEVELS:
        _, memory = drawn(denoiser, replace(SETTINGS, method="newton", level=level))
        sizes.append(memory.anchors.num_bytes())
        assert len(memory.anchors) == SETTINGS.order + 1
    velocity, hidden, module = sizes
    assert module == 3 * len(denoiser.transformer.blocks) * hidden
    assert hidden > velocity


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_memory_is_what_plans_count(denoiser: Denoiser, method: Prediction, level: Level) -> None:
    settings = replace(SETTINGS, method=method, level=level)
    _, memory = drawn(denoiser, settings)
    options = Options(
        expression_guidance=2.0,
        prediction=method,
        prediction_horizon=settings.horizon,
        prediction_order=settings.order,
        prediction_level=level,
    )
    assert memory.num_bytes() == predicted_bytes(tiny(), options, value_bytes=4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("method", METHODS)
def test_a_predicted_step_computes_no_block(denoiser: Denoiser, method: Prediction, level: Level) -> None:
    """But for the first, where it is the probe."""
    calls: list[int] = []
    hooks = [
        part.register_forward_hook(lambda *_, index=index: calls.append(index))
        for index, block in enumerate(denoiser.transformer.blocks)
        for part in (block.attn1, block.attn2, block.ffn)  # type: ignore[union-attr]
    ]
    settings = replace(SETTINGS, method=method, level=level, horizon=2, bound=1e9)
    made, memory, counts = replace(denoiser, settings=settings), Memory(), []
    x = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for step in range(3):
        made.velocity(x, step, TIMES[step], memory)
        counts.append(sorted(calls))
        calls.clear()
    for hook in hooks:
        hook.remove()
    assert counts[0] == counts[2] == [0, 0, 0, 1, 1, 1]
    assert counts[1] == ([0, 0, 0] if method == "controlled" else [])


@pytest.mark.parametrize("method", ["threshold", "controlled"])
def test_a_tighter_bound_computes_more_and_errs_less(denoiser: Denoiser, method: Prediction) -> None:
    settings = replace(SETTINGS, method=method, horizon=NUM_STEPS)
    results = [error_of(denoiser, replace(settings, bound=bound)) for bound in (1e-9, 0.05, 0.5)]
    errors, computed = zip(*results, strict=True)
    assert errors[0] == 0
    assert computed[0] == NUM_STEPS > computed[1] > computed[2]
    assert errors[1] < errors[2]


def test_the_probe_knows_when_not_to_predict(denoiser: Denoiser) -> None:
    """With fewer computed steps than every second one, choosing them by the probe errs little more."""
    error, computed = error_of(denoiser, replace(SETTINGS, method="controlled", horizon=NUM_STEPS))
    fixed, of_fixed = error_of(denoiser, replace(SETTINGS, method="taylor", horizon=2))
    assert computed <= of_fixed
    assert error < 0.02
    assert error < 2 * fixed


@pytest.mark.parametrize("method", ["taylor", "threshold", "controlled"])
def test_windows_share_nothing(denoiser: Denoiser, method: Prediction) -> None:
    """Two windows worked off in turns come out as one after the other."""
    settings = replace(SETTINGS, method=method)
    alone = [drawn(denoiser, settings, seed)[0] for seed in (1, 2)]
    made = replace(denoiser, settings=settings)
    xs = [torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    memories = [Memory(), Memory()]
    for step, (time, following) in enumerate(pairwise(TIMES)):
        for index, memory in enumerate(memories):
            velocity = made.velocity(xs[index], step, time, memory)
            xs[index] = euler_step(xs[index], velocity, time, following)
    assert all(torch.equal(ours, expected) for ours, expected in zip(xs, alone, strict=True))


def test_another_guidance_forgets(denoiser: Denoiser) -> None:
    """The number of branches changes: rows of the memory would mean something else."""
    memory = Memory()
    x = torch.randn(1, 4, 4, 4, 4)
    settings = replace(SETTINGS, method="newton", horizon=8)
    replace(denoiser, settings=settings).velocity(x, 0, TIMES[0], memory)
    three = replace(denoiser, settings=settings, guidance=Guidance(expression=2.0, text=3.0))
    ours = three.velocity(x, 1, TIMES[1], memory)
    expected = replace(three, settings=SETTINGS).velocity(x, 1, TIMES[1], Memory())
    assert torch.equal(ours, expected)
