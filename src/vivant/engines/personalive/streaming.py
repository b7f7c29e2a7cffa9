"""Drawing one micro-chunk after another: the window, its noise levels, and the keyframes that are remembered.

The state machine of Algorithm 3 (arXiv 2512.11253, supplement). M = 4 frames enter as noise and leave clean N = 4
steps later; in between, chunks of four noise levels are denoised together:

    before:   C1 (t=0)   C2 (333)   C3 (666)            + C4: the reference, noised at 999
    D:        x0(C1) -> frames      x0(C2..C4) go down one level
    after:               C1 (t=0)   C2 (333)   C3 (666)

Latents stay float32. Legend: F frames of the window, M of a chunk, h w latent cells, L motion tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from vivant.diffusion import ddim
from vivant.engines.personalive.config import NUM_TRAINING_STEPS, Config, Options
from vivant.engines.personalive.networks.layers import KeysValues
from vivant.engines.personalive.networks.unet import Conditions, joined

Noise = Callable[[tuple[int, ...]], Tensor]
"""A shape -> standard normal noise of it, from the stream's own generator."""


class Drawing(Protocol):
    """What drawing asks of the networks."""

    def denoise(self, latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """(1, F, Z, h, w), timesteps (1, F) -> epsilon, or what is clean."""

    def references(self, latents: Tensor, identity_token: Tensor) -> list[KeysValues]:
        """A clean latent (1, Z, h, w) -> what the denoiser looks at."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Who is drawn: everything about the reference that does not change."""

    latents: Tensor
    """(1, Z, h, w): z_ref."""
    identity_token: Tensor
    """(1, 1, D)."""
    identity: list[Tensor]
    """Per attention (1, 1, C): what the token adds."""
    references: list[KeysValues]
    """Per attention: keys and values of the reference."""
    tokens: Tensor
    """(1, L, C): motion tokens of the reference."""


@dataclass(kw_only=True)
class Keyframe:
    """A frame of the stream that later ones look at."""

    tokens: Tensor
    """(L, C): its motion."""
    references: list[tuple[Tensor, Tensor]]
    """Per attention: keys and values."""


@dataclass(kw_only=True)
class Window:
    """What is between two chunks, per stream."""

    latents: Tensor
    """(1, F - M, Z, h, w): noisy chunks, the oldest first."""
    tokens: Tensor
    """(1, F - M or 0, L, C): their motion; none before the first chunk."""
    pose: Tensor
    """(1, F - M or 0, C, h, w): features of their drawn keypoints."""
    known: Tensor | None
    """(1, F - M or 0, Z, h, w): latents of the portrait, bent to where they have their heads; None where frames are
    drawn, not differences to it."""
    keyframes: list[Keyframe]
    """At most Options.max_keyframes, the oldest first."""
    num_chunks: int
    """Drawn so far."""


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """What drives the frames that enter: a chunk, or with the first one the whole window."""

    tokens: Tensor
    """(M or F, L, C)."""
    pose: Tensor
    """(M or F, C, h, w)."""
    known: Tensor | None = None
    """(M or F, Z, h, w): where differences are drawn."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a stream goes on."""

    config: Config
    options: Options
    noise: Noise

    def schedule(self, device: torch.device) -> ddim.Schedule:
        return _schedule(self.config.betas, device)

    def steps(self, device: torch.device) -> Tensor:
        """(F,): noise level of each frame of the window."""
        return _steps(self.config.timesteps, self.config.chunk_frames, device)


# Kept, so that no call copies small tables to a GPU again. Nothing writes into them.
@lru_cache
def _schedule(betas: tuple[float, float], device: torch.device) -> ddim.Schedule:
    table = ddim.scaled_linear(*betas, NUM_TRAINING_STEPS).alphas_cumprod
    return ddim.Schedule(table.to(device))


@lru_cache
def _steps(timesteps: tuple[int, ...], chunk_frames: int, device: torch.device) -> Tensor:
    return torch.tensor(timesteps, device=device).repeat_interleave(chunk_frames)


def beginning(scene: Scene, config: Config) -> Tensor:
    """(1, Z, h, w): what frames are before they are drawn: z_ref, or no difference."""
    return torch.zeros_like(scene.latents) if config.draws_differences else scene.latents


def begin(scene: Scene, rules: Rules) -> Window:
    """N - 1 chunks of the noised reference (Eq. 3), not driven yet."""
    config = rules.config
    size = scene.latents.shape[1:]
    shape = (1, config.delay_frames, *size)
    device = scene.latents.device
    steps = rules.steps(device)[: config.delay_frames]
    latents = ddim.noised(
        rules.schedule(device), beginning(scene, config)[:, None], rules.noise(shape), steps
    )
    return Window(
        latents=latents.expand(shape).contiguous(),
        tokens=scene.tokens.new_zeros(1, 0, *scene.tokens.shape[1:]),
        pose=scene.latents.new_zeros(1, 0, config.unet.channels[0], *size[1:]),
        known=scene.latents.new_zeros(1, 0, *size) if config.draws_differences else None,
        keyframes=[],
        num_chunks=0,
    )


def advance(networks: Drawing, scene: Scene, window: Window, incoming: Incoming, rules: Rules) -> Tensor:
    """Take in a chunk, draw the window, move it on: clean latents (M, Z, h, w) of the chunk that leaves."""
    config, options, device = rules.config, rules.options, window.latents.device
    schedule, steps, length = rules.schedule(device), rules.steps(device), config.chunk_frames
    shape = (1, length, *scene.latents.shape[1:])
    entering = ddim.noised(schedule, beginning(scene, config)[:, None], rules.noise(shape), steps[-length:])
    latents = torch.cat([window.latents, entering], 1)
    tokens = torch.cat([window.tokens, incoming.tokens[None]], 1)
    pose = torch.cat([window.pose, incoming.pose[None].to(window.pose)], 1)
    known = None
    if window.known is not None and incoming.known is not None:
        known = torch.cat([window.known, incoming.known[None]], 1)
    forget(window, options)
    remembers = is_new(scene, window, tokens[0, 0], rules)
    conditions = Conditions(
        identity=scene.identity,
        references=joined([scene.references, *(k.references for k in window.keyframes)]),
        motion=tokens,
        pose=pose,
        known=known,
    )
    answers = networks.denoise(latents, steps[None], conditions).float()
    drawn, epsilon = meant(config, schedule, latents, answers, steps)
    leaving = drawn[0, :length] if known is None else drawn[0, :length] + known[0, :length]
    if remembers and drift(leaving[0], scene.latents[0]) <= (options.keyframe_max_drift or float("inf")):
        made = networks.references(leaving[:1], scene.identity_token)
        window.keyframes.append(Keyframe(tokens=tokens[0, 0].clone(), references=made))
        forget(window, options)
    # What stays goes one level down: t_n to t_(n-1).
    rest, lower = drawn[:, length:], steps[:-length]
    fresh = options.renoise == "fresh"
    again = rules.noise(tuple(rest.shape)) if fresh and rest.shape[1] else epsilon[:, length:]
    window.latents = ddim.noised(schedule, rest, again, lower)
    window.tokens, window.pose = tokens[:, length:].clone(), pose[:, length:].clone()
    window.known = None if known is None else known[:, length:].clone()
    window.num_chunks += 1
    return leaving


def meant(
    config: Config, schedule: ddim.Schedule, latents: Tensor, answers: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """What the network's answers about noisy latents (B, F, ...) at steps (F,) say: what is clean, and the noise."""
    if config.unet.answers == "clean":
        return answers, ddim.noise(schedule, latents, answers, steps)
    return ddim.clean(schedule, latents, answers, steps), answers


def is_new(scene: Scene, window: Window, tokens: Tensor, rules: Rules) -> bool:
    """Whether the oldest frame's motion (L, C) is far from all that is remembered, and may be remembered itself."""
    options, threshold = rules.options, rules.options.keyframe_threshold
    if options.keyframes == "off" or window.num_chunks < options.keyframe_warmup_chunks:
        return False
    if options.keyframes == "capped" and len(window.keyframes) >= options.max_keyframes:
        return False
    bank = torch.stack([scene.tokens[0], *(keyframe.tokens for keyframe in window.keyframes)])
    distance = (bank - tokens).flatten(1).norm(dim=1).min()
    return bool(distance > (rules.config.keyframe_threshold if threshold is None else threshold))


def forget(window: Window, options: Options) -> None:
    """Keep no more keyframes than the options say now; of too many, "newest" lets the oldest go."""
    most = 0 if options.keyframes == "off" else options.max_keyframes
    surplus = len(window.keyframes) - most
    if surplus > 0:
        window.keyframes = (
            window.keyframes[surplus:] if options.keyframes == "newest" else window.keyframes[:most]
        )


def drift(latents: Tensor, reference: Tensor) -> float:
    """How far a frame's colours are from the reference's, both (Z, h, w): the largest shift of a channel's mean, in
    standard deviations of the reference."""
    shift = latents.mean((1, 2)) - reference.mean((1, 2))
    return float((shift.abs() / reference.std((1, 2)).clamp(min=1e-6)).max())
