"""One step of one window: asking the transformer, or predicting what it would have said.

Letters: B guidance branches, Z latent channels, n latents of the window, h w cells, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from vivant.diffusion.multistep import History
from vivant.engines.flashportrait.config import Level, Options, Prediction
from vivant.engines.flashportrait.prediction import (
    Anchors,
    Layers,
    extrapolated,
    lagrange,
    mixed,
    relative_error,
)
from vivant.engines.flashportrait.sampling import NUM_TRAINING_TIMES, Branch, Guidance

if TYPE_CHECKING:
    from vivant.engines.flashportrait.networks.stream import Conditions, Outputs, Stream
    from vivant.engines.flashportrait.networks.transformer import Block, PortraitTransformer

RATIO_FLOOR = 0.5
"""`controlled`: how much of an earlier, larger ratio of errors is kept when a smaller one is seen."""


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """Which steps of a window are predicted, and how; see Options."""

    method: Prediction
    horizon: int
    order: int
    level: Level
    bound: float

    @classmethod
    def of(cls, options: Options) -> PredictionSettings:
        """What a user asked for."""
        return cls(
            method=options.prediction,
            horizon=options.prediction_horizon,
            order=options.prediction_order,
            level=options.prediction_level,
            bound=options.prediction_bound,
        )


@dataclass(kw_only=True)
class Memory:
    """What prediction keeps of one window; rows of its tensors are guidance branches. Windows never share one."""

    num_branches: int = 0
    """Of the questions that were asked; another number forgets everything."""
    anchors: Anchors = field(default_factory=Anchors)
    probes: Anchors = field(default_factory=Anchors)
    """Controlled: what the first block adds, at the anchors."""
    last_seen: Tensor | None = None
    """Threshold: what the first block read at the last step."""
    accumulated: float = 0.0
    """Threshold: how much that changed since the last computed step."""
    error_ratio: float = 1.0
    """Controlled: error of a predicted velocity over that of its probe, as seen at computed steps."""
    history: History = field(default_factory=History)
    """What a multistep sampler remembers: like all of this, of one window."""
    num_computed: int = 0
    """Steps that went through the whole transformer."""

    def num_bytes(self) -> int:
        """What prediction keeps, without the history of the sampler."""
        seen = self.last_seen
        seen_bytes = 0 if seen is None else seen.numel() * seen.element_size()
        return self.anchors.num_bytes() + self.probes.num_bytes() + seen_bytes


@dataclass(frozen=True)
class Inputs:
    """What is constant over the steps of a window."""

    reference: Tensor
    """(1, 4 + Z, n, h, w): mask and reference latents."""
    image: Tensor
    """(1, tokens, channels)."""
    text: Tensor
    """(1, tokens, channels) for the scene."""
    negative: Tensor
    """(1, tokens, channels)."""
    expression: Tensor
    """(n, P, channels)."""


class Question:
    """The transformer at one step of one window, computed as far as somebody asks."""

    def __init__(
        self, transformer: PortraitTransformer, latents: Tensor, time: float, conditions: Conditions
    ) -> None:
        """latents (B, 2Z + 4, n, h, w), time in [0, 1]."""
        self.transformer = transformer
        self.latents = latents
        self.time = time
        self.conditions = conditions

    @cached_property
    def stream(self) -> Stream:
        """Patches, time and conditions, ready for the blocks."""
        timestep = self.latents.new_full((len(self.latents),), self.time * NUM_TRAINING_TIMES)
        return self.transformer.enter(self.latents, timestep, self.conditions)

    @cached_property
    def first_block(self) -> tuple[Tensor, Outputs]:
        """The first block's output (B, L, D) and its parts."""
        kept: list[Outputs] = []
        return self.transformer.run(self.stream, blocks=slice(1), kept=kept), kept[0]

    @property
    def probe(self) -> Tensor:
        """What the first block adds (B, L, D)."""
        return self.first_block[0] - self.stream.hidden

    @property
    def seen(self) -> Tensor:
        """What the first block reads (B, L, D)."""
        block, stream = cast("Block", self.transformer.blocks[0]), self.stream
        shift, scale = block.gates(stream.modulation, stream.hidden.shape[1])[:2]
        return block.norm1(stream.hidden.float()) * (1 + scale) + shift

    def computed(self, level: Level) -> tuple[Tensor, Layers]:
        """The velocity (B, Z, n, h, w) by the whole transformer, and the features of a level."""
        kept: list[Outputs] | None = [] if level == "module" else None
        if "first_block" in self.__dict__:
            first, parts = self.first_block
            hidden = self.transformer.run(self.stream, first, slice(1, None), kept)
            kept = None if kept is None else [parts, *kept]
        else:
            hidden = self.transformer.run(self.stream, kept=kept)
        velocity = self.transformer.leave(hidden, self.stream)
        if level == "velocity":
            return velocity, [velocity]
        if kept is None:
            return velocity, [hidden - self.stream.hidden]
        return velocity, [part for parts in kept for part in parts]

    def finished(self, level: Level, features: Layers) -> Tensor:
        """The velocity that such features lead to."""
        if level == "velocity":
            return features[0]
        if level == "hidden":
            return self.transformer.leave(self.stream.hidden + features[0], self.stream)
        parts = iter(features)
        given = list(zip(parts, parts, parts, strict=True))
        return self.transformer.leave(self.transformer.rebuild(self.stream, given), self.stream)


def ask(
    transformer: PortraitTransformer, x: Tensor, time: float, inputs: Inputs, branches: Sequence[Branch]
) -> Question:
    """The question for noisy latents x (1, Z, n, h, w): all branches as one batch, whose rows never meet."""
    from vivant.engines.flashportrait.networks.stream import Conditions

    count = len(branches)
    latents = torch.cat([x, inputs.reference], 1).expand(count, -1, -1, -1, -1)
    conditions = Conditions(
        text=torch.cat([inputs.negative if branch.negative else inputs.text for branch in branches]),
        image=inputs.image.expand(count, -1, -1),
        expression=inputs.expression.expand(count, -1, -1, -1),
        expression_scale=x.new_tensor([branch.expression for branch in branches]),
    )
    return Question(transformer, latents, time, conditions)


def answer(question: Question, step: int, memory: Memory, settings: PredictionSettings) -> Tensor:
    """Velocities (B, Z, n, h, w) of a step: computed, or predicted from the window's memory."""
    if settings.method == "none":
        memory.num_computed += 1
        return question.computed("velocity")[0]
    if memory.num_branches != len(question.latents):
        memory.num_branches = len(question.latents)
        memory.anchors, memory.probes, memory.last_seen = Anchors(), Anchors(), None
    if settings.method == "threshold":
        return _while_unchanged(question, step, memory, settings)
    if settings.method == "controlled":
        return _while_certain(question, step, memory, settings)
    waited = _steps_since(memory.anchors, step)
    if waited is not None and waited < settings.horizon:
        features = extrapolated(memory.anchors, settings.method, waited / settings.horizon, settings.order)
        return question.finished(settings.level, features)
    velocity, features = question.computed(settings.level)
    _record(memory, question, step, features, settings.order)
    return velocity


def _while_unchanged(question: Question, step: int, memory: Memory, settings: PredictionSettings) -> Tensor:
    """TeaCache's rule (arXiv 2411.19108): reuse what the blocks added while what they read changed little."""
    seen, last = question.seen, memory.last_seen
    memory.last_seen = seen
    waited = _steps_since(memory.anchors, step)
    if last is not None and waited is not None:
        memory.accumulated += float((seen - last).abs().mean() / last.abs().mean())
        if memory.accumulated < settings.bound and waited < settings.horizon:
            return question.finished("hidden", memory.anchors.features[-1])
    velocity, features = question.computed("hidden")
    memory.accumulated = 0.0
    _record(memory, question, step, features, 0)
    return velocity


def _while_certain(question: Question, step: int, memory: Memory, settings: PredictionSettings) -> Tensor:
    """Ours: predict while the first block, which is computed, says that the prediction is good.

    The order is the one whose prediction of the first block comes closest. Its error, times the ratio of both errors
    seen at computed steps, is the error that is expected.
    """
    probe = question.probe  # before all else: the other blocks go on from there
    waited = _steps_since(memory.anchors, step)
    weights, probe_error = None, 0.0
    if waited is not None:
        weights, probe_error = _best_weights(question, memory, settings.order)
        if waited < settings.horizon and memory.error_ratio * probe_error < settings.bound:
            return question.finished(settings.level, mixed(memory.anchors.features, weights))
    velocity, features = question.computed(settings.level)
    if weights is not None:
        guess = question.finished(settings.level, mixed(memory.anchors.features, weights))
        ratio = relative_error(guess, velocity) / max(probe_error, 1e-12)
        memory.error_ratio = max(ratio, RATIO_FLOOR * memory.error_ratio)
    _record(memory, question, step, features, settings.order)
    memory.probes.record(step, question.time, [probe], settings.order)
    return velocity


def _best_weights(question: Question, memory: Memory, order: int) -> tuple[list[float], float]:
    """Weights of the anchors, and the error with which they predict the probe."""
    tried = []
    for candidate in range(min(order + 1, len(memory.anchors))):
        weights = lagrange(memory.anchors, question.time, candidate)
        guess = mixed(memory.probes.features, weights)[0]
        tried.append((relative_error(guess, question.probe), candidate, weights))
    error, _, weights = min(tried)
    return weights, error


def _steps_since(anchors: Anchors, step: int) -> int | None:
    return step - anchors.steps[-1] if len(anchors) else None


def _record(memory: Memory, question: Question, step: int, features: Layers, order: int) -> None:
    memory.num_computed += 1
    memory.anchors.record(step, question.time, features, order)


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """Everything about a window that stays the same from step to step."""

    transformer: PortraitTransformer
    inputs: Inputs
    guidance: Guidance
    settings: PredictionSettings

    def velocity(self, x: Tensor, step: int, time: float, memory: Memory) -> Tensor:
        """The guided velocity (1, Z, n, h, w) of latents x of that shape, at a step and its time in [0, 1]."""
        question = ask(self.transformer, x, time, self.inputs, self.guidance.branches)
        return self.guidance.combined(answer(question, step, memory, self.settings))
