"""The video diffusion transformer: Wan2.1's, and in each cross-attention the Normalized Facial Expression Block.

Sizes, weights and layers are those of `diffusers.WanTransformer3DModel`; what we add are two matrices per block, the
processor that uses them, and a forward pass in three parts (`enter`, the blocks, `leave`) that prediction can step
into. Paper: arXiv 2512.16900, section 3.2; where code and paper differ, as in the published code (see README).

Letters: B samples, F latents (time), h w cells, L = F h w / 4 tokens, D width, P expression tokens per latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

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

PATCH = (1, 2, 2)
NORM_EPS = 1e-6
SPREAD_EPS = 1e-5
"""Keeps the spread of an expression that says nothing from being divided by."""

Outputs: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""What self-attention, cross-attention and feed-forward of one block gave, each (B, L, D), before their gates."""


@dataclass(frozen=True)
class Conditions:
    """What the transformer is told, one row per sample."""

    text: Tensor
    """(B, tokens, text channels), zero-padded; padding is not masked, as published."""
    image: Tensor
    """(B, tokens, image channels): the reference as the image encoder sees it."""
    expression: Tensor
    """(B, F, P, expression channels): for each latent, the tokens of its frames."""
    expression_scale: Tensor
    """(B,): weight of the expression branch; 1 as trained, 0 without the driver."""


@dataclass(frozen=True)
class Context:
    """Conditions at the width of the blocks."""

    text: Tensor
    image: Tensor
    expression: Tensor
    expression_scale: Tensor


@dataclass(frozen=True)
class Stream:
    """Everything the blocks need, made by `enter`."""

    hidden: Tensor
    """(B, L, D)."""
    time: Tensor
    """(B, D): the embedded time."""
    modulation: Tensor
    """(B, 6, D): what it says to every block."""
    rotary: tuple[Tensor, Tensor]
    context: Context
    grid: tuple[int, int, int]
    """Patches along time, rows, columns."""


class ExpressionProcessor:
    """Normalized Facial Expression Block: text, image and expression are attended by the same queries.

        a = Attn(q, text) + Attn(q, image)      p = Attn(q of a latent, its expression tokens)
        out = o(a + scale * ((p - mean p) * std a / std p + mean a))

    Mean and spread are over all tokens and channels of a sample, in float32.
    """

    _attention_backend = None
    _parallel_config = None

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
        if bool((context.expression_scale != 0).any()):
            expression = self._attend_per_latent(attn, query, context.expression)
            scale = context.expression_scale.to(base.dtype).view(-1, 1, 1)
            base = base + scale * aligned(expression, base)
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


def aligned(expression: Tensor, base: Tensor) -> Tensor:
    """The expression branch with the mean and the spread of the other branches; both (B, L, D)."""
    expression_mean, expression_std = mean_and_std(expression)
    base_mean, base_std = mean_and_std(base)
    out = (expression.float() - expression_mean) * (base_std / (expression_std + SPREAD_EPS)) + base_mean
    return out.type_as(base)


def mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Over all tokens and channels of a sample, float32, each (B, 1, 1); the unbiased spread."""
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
        gates = (self.scale_shift_table + modulation.float()).chunk(6, dim=1)
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

    @staticmethod
    def _modulated(norm: nn.Module, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return (norm(x.float()) * (1 + scale) + shift).type_as(x)


class PortraitTransformer(WanTransformer3DModel):
    """Velocity of the noisy latents, given time, reference, words and expression."""

    narrow_linear = True
    """Read by vivant.checkpoint and vivant.runtime.precision: 17 G parameters stay in half precision."""

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
        for part in (self.condition_embedder.time_embedder, self.condition_embedder.time_proj):
            part.keep_float32 = True

    def forward(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Noisy latents, mask and reference (B, 2Z + 4, F, h, w), timestep (B,) in [0, 1000] -> (B, Z, F, h, w)."""
        stream = self.enter(latents, timestep, conditions)
        return self.leave(self.run(stream)[0], stream)

    def enter(self, latents: Tensor, timestep: Tensor, conditions: Conditions) -> Stream:
        """Patches, place, time and conditions, ready for the blocks."""
        rotary = self.rope(latents)
        patches = self.patch_embedding(latents)
        hidden = patches.flatten(2).transpose(1, 2).contiguous()
        embedder = self.condition_embedder
        with torch.autocast(latents.device.type, enabled=False):
            # A 16-bit time embedding would blur neighbouring steps.
            time = embedder.time_embedder(embedder.timesteps_proj(timestep.float()))
            modulation = embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1))
        context = Context(
            embedder.text_embedder(conditions.text.type_as(hidden)),
            embedder.image_embedder(conditions.image.type_as(hidden)),
            conditions.expression.type_as(hidden),
            conditions.expression_scale,
        )
        grid = patches.shape[2], patches.shape[3], patches.shape[4]
        return Stream(hidden, time, modulation, rotary, context, grid)

    def run(
        self,
        stream: Stream,
        given: Sequence[Outputs] | None = None,
        first: int = 0,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, list[Outputs]]:
        """The blocks from number `first` on, from `hidden` (by default the stream's), and what their parts gave."""
        x = stream.hidden if hidden is None else hidden
        outputs: list[Outputs] = []
        for index, block in enumerate(self.blocks[first:]):
            known = None if given is None else given[index]
            arguments = (x, stream.context, stream.modulation, stream.rotary, known)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x, _ = self._gradient_checkpointing_func(block, *arguments)
            else:
                x, parts = block(*arguments)
                outputs.append(parts)
        return x, outputs

    def leave(self, hidden: Tensor, stream: Stream) -> Tensor:
        """(B, L, D) after the last block -> velocity (B, Z, F, h, w) in float32."""
        shift, scale = (self.scale_shift_table.float() + stream.time.float().unsqueeze(1)).chunk(2, dim=1)
        x = (self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        x = self.proj_out(x).float()
        frames, rows, columns = stream.grid
        x = x.reshape(len(x), frames, rows, columns, *PATCH, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
