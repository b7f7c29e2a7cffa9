"""R and D: the reference UNet reads a picture, the denoiser draws a window of frames that looks at it.

Both have the layout of Stable Diffusion 1.5. D has 21 motion modules and 21 temporal modules besides. What D looks at
is in `Conditions`; keys and values of references are made once (`project_references`) and used in every call.

Legend: B pictures, F frames of a window, N = B F, C channels, h w latent cells, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vivant.engines.personalive.config_networks import NUM_SCALES, UnetConfig
from vivant.engines.personalive.networks.layers import (
    RESNET_EPS,
    Downsampler,
    KeysValues,
    MotionBlock,
    ResnetBlock,
    Slot,
    SpatialTransformer,
    TemporalBlock,
    TokenTransformer,
    Upsampler,
    sinusoids,
)
from vivant.ops import fused

LAYERS_DOWN, LAYERS_UP = 2, 3
NUM_ATTENTIONS = 16
"""Spatial transformers, in order: two per down block but the last, the middle, three per up block but the first."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a window of frames is drawn from."""

    identity: Sequence[Tensor]
    """Per attention (B, 1, C): what the image encoder's token adds (`embed_identity`)."""
    references: Sequence[KeysValues] | None
    """Per attention: keys and values of the reference and of keyframes; None: only the frame itself."""
    motion: Tensor | None
    """(B, F, tokens, channels): motion tokens of each frame; None: motion modules are passed by."""
    pose: Tensor | None
    """(B, F, C, h, w): features of the drawn keypoints, added to the first convolution."""
    known: Tensor | None = None
    """(B, F, Z, h, w): latents of the bent portrait, where differences to it are drawn."""
    temporal: bool = True
    """False: temporal modules are passed by, as while training single pictures."""
    recompute: bool = False
    """Training: keep no activations inside a layer and compute them again going back."""


@dataclass(frozen=True)
class _Inside:
    """What travels with x through the layers."""

    time: Tensor  # (N, D), after its SiLU; and what motion says besides
    conditions: Conditions
    motion: Tensor | None  # (N, tokens, channels)
    num_frames: int
    seen: list[Tensor] | None  # per attention (N, L, C): norm1's outputs, where they are wanted


class Stage(nn.Module):
    """Layers at one size: each a resnet, then what there is of transformer, motion and temporal modules."""

    def __init__(self, widths: Sequence[tuple[int, int]], config: UnetConfig, attends_from: int | None):
        """widths: in and out of each layer. attends_from: number of the first attention; None: there are none."""
        super().__init__()
        time_channels = 4 * config.channels[0]
        self.attends_from = attends_from
        self.widths = [width for _, width in widths]
        self.resnets = nn.ModuleList(
            ResnetBlock(num_in, num_out, time_channels, config.norm_groups) for num_in, num_out in widths
        )
        self.attentions = nn.ModuleList()
        if attends_from is not None:
            self.attentions.extend(
                SpatialTransformer(width, config.num_heads, config.identity_channels, config.norm_groups)
                for _, width in widths
            )
        self.motion_modules = nn.ModuleList()
        self.temporal_modules = nn.ModuleList()
        self.downsamplers = nn.ModuleList()
        self.upsamplers = nn.ModuleList()

    def add_modules(self, config: UnetConfig) -> None:
        """Motion and temporal modules behind every layer."""
        heads, groups = config.num_heads, config.norm_groups
        for width in self.widths:
            motion = MotionBlock(width, heads, config.motion_channels)
            temporal = TemporalBlock(width, heads, config.max_frames)
            self.motion_modules.append(Slot(TokenTransformer(motion, width, groups)))
            self.temporal_modules.append(Slot(TokenTransformer(temporal, width, groups)))

    def layer(self, index: int, x: Tensor, inside: _Inside) -> Tensor:
        """(N, C, h, w) -> (N, C', h, w)."""
        if inside.conditions.recompute and torch.is_grad_enabled():
            out, tokens = checkpoint(self._layer, index, x, inside, use_reentrant=False)
        else:
            out, tokens = self._layer(index, x, inside)
        if tokens is not None and inside.seen is not None:
            inside.seen.append(tokens)
        return out

    def _layer(self, index: int, x: Tensor, inside: _Inside) -> tuple[Tensor, Tensor | None]:
        given = inside.conditions
        x = self.resnets[index](x, inside.time)
        tokens = None
        if self.attends_from is not None:
            number = self.attends_from + index
            reference = given.references[number] if given.references is not None else None
            x, tokens = self.attentions[index](x, given.identity[number], reference)
        if self.motion_modules and inside.motion is not None:
            x = self.motion_modules[index](x, inside.motion)
        if self.temporal_modules and given.temporal:
            x = self.temporal_modules[index](x, inside.num_frames)
        return x, tokens


class TimeEmbedding(nn.Module):
    """Noise levels as vectors."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, timesteps: Tensor) -> Tensor:
        """(N,) -> (N, 4 C): all cosines, then all sines, then two layers."""
        waves = sinusoids(timesteps, self.channels).flip(-1).transpose(1, 2).flatten(1)
        # Not as the matrix: that may rest in 8 bits until the layer is called.
        return self.linear_2(F.silu(self.linear_1(waves.to(self.linear_1.bias.dtype))))


class MotionModulation(nn.Module):
    """What a frame's motion tokens say to every layer beside the noise level; nothing, to begin with. Not published.

    A head that turns shifts every cell by an amount that depends on its place; attention to tokens is slow to learn it.
    """

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.enter = nn.Linear(num_in, num_out)
        self.leave = nn.Linear(num_out, num_out)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, motion: Tensor) -> Tensor:
        """Tokens (N, L, C) -> (N, D)."""
        return self.leave(F.silu(self.enter(motion.flatten(1))))


class Trunk(nn.Module):
    """What both UNets share: everything but the output head and the modules between frames."""

    def __init__(self, config: UnetConfig, num_in: int):
        super().__init__()
        c = config.channels
        self.conv_in = nn.Conv2d(num_in, c[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(c[0])
        self.down_blocks = nn.ModuleList()
        last = NUM_SCALES - 1
        for scale, (num_in, width) in enumerate(pairwise((c[0], *c))):
            widths = [(num_in, width)] + [(width, width)] * (LAYERS_DOWN - 1)
            stage = Stage(widths, config, LAYERS_DOWN * scale if scale < last else None)
            if scale < last:
                stage.downsamplers.append(Downsampler(width))
            self.down_blocks.append(stage)
        attentions = LAYERS_DOWN * last
        self.mid_block = Middle(config, attentions)
        self.up_blocks = nn.ModuleList()
        skips = [c[0]]
        for scale, width in enumerate(c):
            skips += [width] * (LAYERS_DOWN + (scale < last))
        below = c[-1]
        for position, width in enumerate(reversed(c)):
            widths = []
            for _ in range(LAYERS_UP):
                widths.append((below + skips.pop(), width))
                below = width
            first = attentions + 1 + LAYERS_UP * (position - 1) if position > 0 else None
            stage = Stage(widths, config, first)
            if position < last:
                stage.upsamplers.append(Upsampler(width))
            self.up_blocks.append(stage)

    def stages(self) -> list[Stage]:
        """In order of x."""
        found = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return [stage for stage in found if isinstance(stage, Stage)]

    def transformers(self) -> list[SpatialTransformer]:
        """In order of x: NUM_ATTENTIONS of them."""
        found = [layer for stage in self.stages() for layer in stage.attentions]
        return [layer for layer in found if isinstance(layer, SpatialTransformer)]

    def embed_identity(self, token: Tensor) -> list[Tensor]:
        """The image encoder's token (B, 1, D) -> what each attention adds to every cell, (B, 1, C). Exact."""
        return [layer.block.attn2.constant(token) for layer in self.transformers()]

    def through(self, x: Tensor, inside: _Inside) -> Tensor:
        """(N, C, h, w) after the first convolution -> before the output head."""
        skips = [x]
        for block in self.down_blocks:
            assert isinstance(block, Stage)
            for index in range(LAYERS_DOWN):
                x = block.layer(index, x, inside)
                skips.append(x)
            for downsampler in block.downsamplers:
                x = downsampler(x)
                skips.append(x)
        x = self.mid_block(x, inside)
        for block in self.up_blocks:
            assert isinstance(block, Stage)
            for index in range(LAYERS_UP):
                x = block.layer(index, torch.cat([x, skips.pop()], 1), inside)
            for upsampler in block.upsamplers:
                x = upsampler(x)
        return x


class Middle(Stage):
    """The smallest size: one layer and a second resnet."""

    def __init__(self, config: UnetConfig, attends_from: int):
        width = config.channels[-1]
        super().__init__([(width, width)], config, attends_from)
        time_channels = 4 * config.channels[0]
        self.resnets.append(ResnetBlock(width, width, time_channels, config.norm_groups))

    def forward(self, x: Tensor, inside: _Inside) -> Tensor:
        return self.resnets[1](self.layer(0, x, inside), inside.time)


class ReferenceUnet(Trunk):
    """R: a clean picture's latent -> the tokens of its sixteen attentions."""

    def __init__(self, config: UnetConfig):
        super().__init__(config, config.latent_channels)

    def forward(self, latents: Tensor, identity_token: Tensor, *, recompute: bool = False) -> list[Tensor]:
        """(B, Z, h, w) and (B, 1, D) -> per attention (B, L, C). The time is 0: there is no noise."""
        time = self.time_embedding(torch.zeros(len(latents), device=latents.device))
        given = Conditions(
            identity=self.embed_identity(identity_token),
            references=None,
            motion=None,
            pose=None,
            recompute=recompute,
        )
        seen: list[Tensor] = []
        self.through(self.conv_in(latents), _Inside(F.silu(time), given, None, 1, seen))
        return seen


class Denoiser(Trunk):
    """D: noisy latents of a window -> the noise in them, or what is clean. Every frame has its own noise level."""

    def __init__(self, config: UnetConfig):
        super().__init__(config, config.latent_channels + config.known_channels)
        for stage in self.stages():
            stage.add_modules(config)
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, config.channels[0], RESNET_EPS)
        self.conv_out = nn.Conv2d(config.channels[0], config.latent_channels, 3, padding=1)
        if config.answers == "clean":
            nn.init.zeros_(self.conv_out.weight)
            nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]
        self.modulation: MotionModulation | None = None
        if config.motion_tokens is not None:
            numbers = config.motion_tokens * config.motion_channels
            self.modulation = MotionModulation(numbers, 4 * config.channels[0])
        self.places: nn.Parameter | None = None
        if config.learned_places is not None:
            self.places = nn.Parameter(
                torch.zeros(config.channels[0], config.learned_places, config.learned_places)
            )

    def project_references(self, tokens: Sequence[Tensor]) -> list[KeysValues]:
        """R's tokens, per attention (B, L, C) -> keys and values. D's own projections, made once."""
        pairs = zip(self.transformers(), tokens, strict=True)
        return [layer.block.attn1.keys_values(seen) for layer, seen in pairs]

    def forward(self, latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """(B, F, Z, h, w) and what is known of each frame beside it, timesteps (B, F) -> answers (B, F, Z, h, w)."""
        batch, frames = latents.shape[:2]
        motion = None if conditions.motion is None else conditions.motion.flatten(0, 1)
        time = self.time_embedding(timesteps.flatten())
        if self.modulation is not None and motion is not None:
            time = time + self.modulation(motion.to(time.dtype))
        time = F.silu(time)
        x = self.conv_in(latents.flatten(0, 1))
        if self.places is not None:
            x = x + self.places
        if conditions.pose is not None:
            x = x + conditions.pose.flatten(0, 1)
        if fused.usable(x):
            x = x.to(fused.working_dtype(x))  # poses are float32, and half of the last layers would be too
        x = self.through(x, _Inside(time, conditions, motion, frames, None))
        answers = self.conv_out(fused.group_norm(x, self.conv_norm_out, silu=True))
        return answers.unflatten(0, (batch, frames))


def joined(sets: Sequence[Sequence[KeysValues]]) -> list[KeysValues]:
    """Several references beside each other, per attention; one as it is, so that nothing is copied."""
    if len(sets) == 1:
        return list(sets[0])
    return [
        (torch.cat([keys for keys, _ in per], 2), torch.cat([values for _, values in per], 2))
        for per in zip(*sets, strict=True)
    ]
