"""The video diffusion transformer: Wan2.1's, and in each cross-attention the Normalized Facial Expression Block.

Sizes, weights and layers are those of `diffusers.WanTransformer3DModel`; what we add are two matrices per block, the
processor that uses them, and a forward pass in three parts (`enter`, the blocks, `leave`) that prediction can step
into. Paper: arXiv 2512.16900, section 3.2; where code and paper differ, as in the published code (see README).

Letters: B samples, F latents (time), h w cells, L = F h w / 4 tokens, D width, P expression tokens per latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import (
    WanAttention,
    WanTransformer3DModel,
    WanTransformerBlock,
)
from torch import Tensor, nn

from vivant.engines.flashportrait.config_networks import TransformerConfig
from vivant.engines.flashportrait.networks.stream import Conditions, Context, Outputs, Stream
from vivant.engines.flashportrait.networks.together import (
    Work,
    follow,
    lead,
    pooled_mean_and_std,
    ulysses,
)
from vivant.engines.flashportrait.sampling import NUM_TRAINING_TIMES
from vivant.runtime.parallel import Team

PATCH = (1, 2, 2)
LEAST_TIME = 0.05
"""Where clean latents are answered: time is no less in the velocity, whose errors would else be without bound."""
MOTION_CHANNELS = 24
"""Of a token, as modulation by motion reads it."""
NORM_EPS = 1e-6
SPREAD_EPS = 1e-5
"""Keeps the spread of an expression that says nothing from being divided by."""


class ExpressionProcessor:
    """Normalized Facial Expression Block: text, image and expression are attended by the same queries.

        a = Attn(q, text) + Attn(q, image)      p = Attn(q of a latent, its expression tokens)
        out = o(a + scale * ((p - mean p) * std a / std p + mean a))

    Mean and spread are over all tokens and channels of a sample, in float32; where a team shares the tokens, over those
    of all its processes.
    """

    _attention_backend = None
    _parallel_config = None
    team: Team | None = None

    def __call__(
        self,
        attn: ExpressionAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
        context: Context | None = None,
    ) -> Tensor:
        assert context is not None
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        text = self._attend(query, attn.norm_k(attn.to_k(context.text)), attn.to_v(context.text))
        image_keys = attn.norm_added_k(attn.add_k_proj(context.image))
        base = text + self._attend(query, image_keys, attn.add_v_proj(context.image))
        expression = self._attend_per_latent(attn, query, context.expression)
        scale = context.expression_scale.to(base.dtype).view(-1, 1, 1)
        base = base + scale * aligned(expression, base, self.team)
        return attn.to_out[1](attn.to_out[0](base))

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Queries (B, L, heads, C), keys and values (B, n, D) -> (B, L, D)."""
        heads = query.shape[2]
        keys, values = keys.unflatten(2, (heads, -1)), values.unflatten(2, (heads, -1))
        out = dispatch_attention_fn(
            query, keys.type_as(query), values.type_as(query), backend=self._attention_backend
        )
        return out.flatten(2, 3).type_as(query)

    def _attend_per_latent(self, attn: ExpressionAttention, query: Tensor, tokens: Tensor) -> Tensor:
        """Tokens (B, F, P, E): the queries of a latent see its own P. (B, P, E): every query sees all."""
        if tokens.dim() == 3:
            return self._attend(query, attn.emo_k_proj(tokens), attn.emo_v_proj(tokens))
        batch, num_latents = tokens.shape[:2]
        grouped = query.reshape(batch * num_latents, -1, *query.shape[2:])
        tokens = tokens.flatten(0, 1)
        out = self._attend(grouped, attn.emo_k_proj(tokens), attn.emo_v_proj(tokens))
        return out.reshape(batch, -1, out.shape[-1])


def aligned(expression: Tensor, base: Tensor, team: Team | None = None) -> Tensor:
    """The expression branch with the mean and the spread of the other branches; both (B, L, D)."""
    expression_mean, expression_std = mean_and_std(expression, team)
    base_mean, base_std = mean_and_std(base, team)
    out = (expression.float() - expression_mean) * (base_std / (expression_std + SPREAD_EPS)) + base_mean
    return out.type_as(base)


def mean_and_std(x: Tensor, team: Team | None = None) -> tuple[Tensor, Tensor]:
    """Over all tokens and channels of a sample, float32, each (B, 1, 1); the unbiased spread."""
    if team is not None:
        return pooled_mean_and_std(x, team)
    std, mean = torch.std_mean(x.float(), (1, 2), keepdim=True)
    return mean, std


class ExpressionAttention(WanAttention):
    """Cross-attention with keys and values for expression tokens, zero at first so that training starts from Wan."""

    def __init__(self, config: TransformerConfig):
        super().__init__(
            dim=config.width,
            heads=config.num_heads,
            dim_head=config.head_channels,
            eps=NORM_EPS,
            added_kv_proj_dim=config.width,
            cross_attention_dim_head=config.head_channels,
            processor=ExpressionProcessor(),
        )
        self.emo_k_proj = nn.Linear(config.expression_channels, config.width, bias=False)
        self.emo_v_proj = nn.Linear(config.expression_channels, config.width, bias=False)
        nn.init.zeros_(self.emo_k_proj.weight)
        nn.init.zeros_(self.emo_v_proj.weight)


class FloatNorm(nn.RMSNorm):
    """Root mean square norm in float32 whatever it is given: with 16-bit input torch would take a slow path."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).type_as(x)


class Block(WanTransformerBlock):
    """Self-attention, cross-attention, feed-forward; each can be given instead of computed."""

    def __init__(self, config: TransformerConfig):
        super().__init__(
            dim=config.width,
            ffn_dim=config.feed_forward_channels,
            num_heads=config.num_heads,
            cross_attn_norm=True,
            eps=NORM_EPS,
            added_kv_proj_dim=config.width,
        )
        self.attn2 = ExpressionAttention(config)
        for attention in (self.attn1, self.attn2):
            for name, part in list(attention.named_children()):
                if isinstance(part, nn.RMSNorm):
                    setattr(attention, name, FloatNorm(config.width, eps=NORM_EPS))

    def forward(
        self,
        hidden_states: Tensor,
        context: Context,
        modulation: Tensor,
        rotary: tuple[Tensor, Tensor],
        given: Outputs | None = None,
    ) -> tuple[Tensor, Outputs]:
        """(B, L, D) -> the same shape, and the outputs of the three parts (`given`, where they were)."""
        gates = self.gates(modulation, hidden_states.shape[1])
        x = hidden_states
        if given is None:
            attended = self.attn1(self._modulated(self.norm1, x, gates[0], gates[1]), None, None, rotary)
        else:
            attended = given[0]
        x = (x.float() + attended * gates[2]).type_as(x)
        if given is None:
            crossed = self.attn2(self.norm2(x.float()).type_as(x), context=context)
        else:
            crossed = given[1]
        x = x + crossed.type_as(x)
        fed = self.ffn(self._modulated(self.norm3, x, gates[3], gates[4])) if given is None else given[2]
        x = (x.float() + fed.float() * gates[5]).type_as(x)
        return x, (attended, crossed, fed)

    def gates(self, modulation: Tensor, num_tokens: int) -> tuple[Tensor, ...]:
        """Six of (B, 1 or L, D): shift, scale and gate of self-attention, and of the feed-forward part."""
        all_six = self.scale_shift_table + modulation.float()
        if all_six.shape[1] > 1:
            all_six = all_six.repeat_interleave(num_tokens // all_six.shape[1], 1)
        return all_six.unbind(2)

    @staticmethod
    def _modulated(norm: nn.Module, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return (norm(x.float()) * (1 + scale) + shift).type_as(x)


class MotionModulation(nn.Module):
    """What the tokens of a latent say to every block beside the time: six vectors per latent, none at first.

    Not published. A head that turns shifts every patch by an amount that depends on its place; attention to tokens is
    slow to learn such products, scaling a patch's channels is one.
    """

    def __init__(self, config: TransformerConfig, num_tokens: int):
        super().__init__()
        self.narrow = nn.Linear(config.expression_channels, MOTION_CHANNELS)
        self.join = nn.Linear(num_tokens * MOTION_CHANNELS, config.width)
        self.leave = nn.Linear(config.width, 6 * config.width)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, expression: Tensor) -> Tensor:
        """(B, F, P, E) -> (B, F, 6, D)."""
        joined = self.join(self.narrow(expression).flatten(2))
        return self.leave(F.silu(joined)).unflatten(2, (6, -1))


class PortraitTransformer(WanTransformer3DModel):
    """Velocity of the noisy latents, given time, reference, words and expression."""

    narrow_linear = True
    """Read by vivant.checkpoint and vivant.runtime.precision: 17 G parameters stay in half precision."""
    shard_blocks = "blocks"
    """Read by vivant.training.distributed: each of these is gathered by itself; all together are 34 GB."""
    team: Team | None = None
    """The processes that compute the blocks together; None: this one alone."""

    def __init__(self, config: TransformerConfig):
        super().__init__(
            patch_size=PATCH,
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_channels,
            in_channels=2 * config.latent_channels + 4,
            out_channels=config.latent_channels,
            text_dim=config.text_channels,
            freq_dim=config.frequency_channels,
            ffn_dim=config.feed_forward_channels,
            num_layers=0,
            cross_attn_norm=True,
            eps=NORM_EPS,
            image_dim=config.image_channels,
            added_kv_proj_dim=config.width,
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.answers = config.answers
        if config.answers == "clean":
            # Nothing, to begin with: where differences are drawn, the reference.
            nn.init.zeros_(self.proj_out.weight)
            nn.init.zeros_(self.proj_out.bias)
        self.motion = None if config.motion_tokens is None else MotionModulation(config, config.motion_tokens)
        self.places: nn.Parameter | None = None
        if config.learned_places is not None:
            self.places = nn.Parameter(
                torch.zeros(config.width, 1, config.learned_places, config.learned_places)
            )
        for part in (self.condition_embedder.time_embedder, self.condition_embedder.time_proj):
            part.keep_float32 = True

    def forward(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Noisy latents, mask and reference (B, 2Z + 4, F, h, w), timestep (B,) in [0, 1000] -> (B, Z, F, h, w)."""
        stream = self.enter(latents, timestep, conditions)
        return self.leave(self.run(stream), stream)

    def enter(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Stream:
        """Patches, place, time and conditions, ready for the blocks."""
        rotary = self.rope(latents)
        patches = self.patch_embedding(latents)
        if self.places is not None:
            patches = patches + self.places
        hidden = patches.flatten(2).transpose(1, 2).contiguous()
        embedder = self.condition_embedder
        with torch.autocast(latents.device.type, enabled=False):
            # A 16-bit time embedding would blur neighbouring steps.
            time = embedder.time_embedder(embedder.timesteps_proj(timestep.float()))
            modulation = embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1)).unsqueeze(1)
        if self.motion is not None:
            scale = conditions.expression_scale.view(-1, 1, 1, 1)
            modulation = modulation + scale * self.motion(conditions.expression).float()
        context = Context(
            embedder.text_embedder(conditions.text.type_as(hidden)),
            embedder.image_embedder(conditions.image.type_as(hidden)),
            conditions.expression.type_as(hidden),
            conditions.expression_scale,
        )
        grid = patches.shape[2], patches.shape[3], patches.shape[4]
        noisy = latents[:, : self.config.out_channels].float(), timestep.float() / NUM_TRAINING_TIMES
        return Stream(
            hidden, time, modulation, rotary, context, grid, noisy if self.answers == "clean" else None
        )

    def run(
        self,
        stream: Stream,
        hidden: Tensor | None = None,
        blocks: slice = slice(None),
        kept: list[Outputs] | None = None,
    ) -> Tensor:
        """These blocks one after another, from `hidden` (by default the stream's); `kept` gets what their parts gave.

        With a team, all of its processes do it together, each with its share of the tokens.
        """
        hidden = stream.hidden if hidden is None else hidden
        if self.team is None:
            return self._run(stream, hidden, blocks, kept)
        return lead(self.team, Work(stream, hidden, blocks, kept), self._run)

    def follow(self) -> None:
        """Do this process's share of every `run` of process 0, until it ends."""
        assert self.team is not None
        follow(self.team, self._run)

    def rebuild(self, stream: Stream, given: Sequence[Outputs]) -> Tensor:
        """The last block's output (B, L, D), where what the parts of every block give is known."""
        x = stream.hidden
        for block, known in zip(self.blocks, given, strict=True):
            x, _ = block(x, stream.context, stream.modulation, stream.rotary, known)
        return x

    def work_together(self, team: Team) -> None:
        """From now on, compute blocks together. Self-attention exchanges heads for tokens (diffusers' Ulysses)."""
        self.team = team
        exchange = ulysses(team)
        for block in cast("Sequence[Block]", self.blocks):
            block.attn1.processor._parallel_config = exchange
            block.attn2.processor.team = team

    def _run(self, stream: Stream, x: Tensor, blocks: slice, kept: list[Outputs] | None) -> Tensor:
        for block in self.blocks[blocks]:
            arguments = (x, stream.context, stream.modulation, stream.rotary)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x, _ = self._gradient_checkpointing_func(block, *arguments)
            else:
                x, parts = block(*arguments)
                if kept is not None:
                    kept.append(parts)
        return x

    def leave(self, hidden: Tensor, stream: Stream) -> Tensor:
        """(B, L, D) after the last block -> velocity (B, Z, F, h, w) in float32."""
        shift, scale = (self.scale_shift_table.float() + stream.time.float().unsqueeze(1)).chunk(2, dim=1)
        x = (self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        x = self.proj_out(x).float()
        frames, rows, columns = stream.grid
        x = x.reshape(len(x), frames, rows, columns, *PATCH, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
        if stream.noisy is None:
            return x
        latents, moment = stream.noisy
        return (latents - x) / moment.clamp(min=LEAST_TIME).view(-1, 1, 1, 1, 1)
