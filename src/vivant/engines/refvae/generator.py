"""The autoregressive generator: a transformer that turns noise and sound into the next block of latents.

    tokens:  references | context (clean past) | noisy block (with its sound)
    each token has its own diffusion time: 0, the context's noise level, the block's time

Training sees a whole window at once (teacher forcing); inference keeps keys and values. Both give the
same numbers (tested to 1e-12). arXiv 2606.01620, section 4, Algorithms 1 and 2.
Legend: B batch, N tokens, L latents, M references, h w cells, D width, Z latent channels, A audio channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.refvae.config_generator import GeneratorConfig
from vivant.engines.refvae.forcing import TeacherForcing
from vivant.engines.refvae.places import ROPE_BASE, angles_of, places_of, reference_places
from vivant.ops import fused
from vivant.ops.rotary import Turn, turn_of, turned_by

NORM_EPS = HEAD_NORM_EPS = 1e-6
TIME_CHANNELS = 256
TIME_SCALE = 1000.0
"""Times in [0, 1] are stretched to this before the sinusoids."""

KeysValues = list[tuple[Tensor, Tensor]]
"""Per block: keys (after norm and rotation) and values, (B, heads, N, head channels)."""


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query, key, value, (B, heads, N, C) each -> what the queries see of the values."""


class Segment(NamedTuple):
    """Tokens that share a diffusion time."""

    tokens: Tensor  # (B, N, D)
    places: Tensor  # (N, 3): time, row, column
    time: Tensor  # (B,)


class Room(NamedTuple):
    """Keys and values that came before, with places at their end for those of the tokens at hand."""

    keys: Tensor  # (B, heads, past + N, head channels)
    values: Tensor


class Modulation(NamedTuple):
    """What diffusion times do to tokens (AdaLN)."""

    blocks: Sequence[Tensor]  # per block (B, N or 1, 6 D): shift, scale and gate, twice
    leave: Tensor  # (B, N or 1, 2 D): shift and scale


class RmsHeadNorm(nn.Module):
    """Over the channels of each head."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # Autocast on CUDA gives float32, which would double the store of keys and cast all of it in every step.
        return F.rms_norm(x, x.shape[-1:], self.gamma.to(x.dtype), HEAD_NORM_EPS).to(x.dtype)


class Block(nn.Module):
    """Self-attention and an MLP, shifted, scaled and gated by each token's diffusion time (AdaLN)."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.modulation = nn.Linear(width, 6 * width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_query, self.norm_key = RmsHeadNorm(config.head_channels), RmsHeadNorm(config.head_channels)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        turn: Turn,
        past: Room | tuple[Tensor, Tensor] | None,
        attend: Attend = F.scaled_dot_product_attention,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Tokens (B, N, D), modulation (B, N or 1, 6 D), turns of N places -> tokens, own keys and values.

        past: keys and values that come before; own ones are written into a Room.
        """
        if (
            isinstance(past, Room)
            and modulation.shape[:2] == (1, 1)
            and fused.usable(x, self.query_key_value)
        ):
            return self._drawn(x, modulation[0, 0], turn, past, attend)
        query, key, value = self.asked(x, modulation, turn)
        keys, values = _behind(past, key, value)
        return self.answered(x, attend(query, keys, values), modulation), (key, value)

    def _drawn(
        self, x: Tensor, modulation: Tensor, turn: Turn, past: Room, attend: Attend
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The same where all tokens share a time, modulation (6 D), in few passes over memory."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6)
        _, y = fused.modulated(x, scale, shift, NORM_EPS)
        norms = self.norm_query.gamma, self.norm_key.gamma
        query = fused.asked(self.query_key_value(y), norms, turn, *past, HEAD_NORM_EPS)
        seen = self.out(attend(query, *past).transpose(1, 2).flatten(2))
        x, y = fused.modulated(x, scale_mlp, shift_mlp, NORM_EPS, added=seen, gate=gate)
        x = torch.addcmul(x, gate_mlp, self._thought(y))
        own = query.shape[2]
        return x, (past.keys[:, :, -own:], past.values[:, :, -own:])

    def _thought(self, y: Tensor) -> Tensor:
        """The MLP, whose GELU the product's own kernel computes."""
        wide, narrow = cast("nn.Linear", self.mlp[0]), cast("nn.Linear", self.mlp[2])
        rows = y.flatten(0, -2)
        if not (rows.is_cuda and rows.dtype == wide.weight.dtype and fused.usable(rows, wide)):
            return self.mlp(y)
        hidden = torch._addmm_activation(wide.bias, rows, wide.weight.t(), use_gelu=True)
        return narrow(hidden).view(y.shape)

    def asked(self, x: Tensor, modulation: Tensor, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """All before attention: queries, keys and values (B, heads, N, head channels)."""
        shift, scale = modulation.chunk(6, -1)[:2]
        y = _normed(x) * (1 + scale) + shift
        query, key, value = (self._heads(part) for part in self.query_key_value(y).chunk(3, -1))
        return turned_by(self.norm_query(query), turn), turned_by(self.norm_key(key), turn), value

    def answered(self, x: Tensor, seen: Tensor, modulation: Tensor) -> Tensor:
        """All after attention, which gave `seen` (B, heads, N, head channels)."""
        gate, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(6, -1)[2:]
        x = x + gate * self.out(seen.transpose(1, 2).flatten(2))
        return x + gate_mlp * self.mlp(_normed(x) * (1 + scale_mlp) + shift_mlp)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _behind(past: Room | tuple[Tensor, Tensor] | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """All keys and values, (B, heads, past + N, head channels)."""
    if past is None:
        return key, value
    if isinstance(past, Room):
        for store, new in zip(past, (key, value), strict=True):
            store[:, :, -new.shape[2] :] = new
        return past
    return torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


class Generator(nn.Module):
    """See the head of this file.

    Latents here are standardised per channel (`Networks.latent_mean`); those of context and block may be differences
    to the references (`relative`).
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        width, audio = config.width, config.audio_channels
        self.latent = nn.Linear(config.latent_channels, width)
        self.sound = nn.Linear(audio, width, bias=False)
        self.reference: nn.Linear | None = None
        if config.references_beside:
            self.reference = nn.Linear(config.latent_channels, width, bias=False)
            nn.init.zeros_(self.reference.weight)
        self.places: nn.Parameter | None = None
        if (side := config.learned_places) is not None:
            self.places = nn.Parameter(torch.zeros(side, side, width))
        self.audio_norm = nn.LayerNorm(config.audio_features)
        self.audio_first = _mlp(config.audio_features, audio)
        self.audio_shared = _mlp(4 * config.audio_features, audio)
        self.time = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.leave_modulation, self.leave = (
            nn.Linear(width, 2 * width),
            nn.Linear(width, config.latent_channels),
        )
        self.null_reference = nn.Parameter(torch.zeros(config.latent_channels))
        self.null_audio = nn.Parameter(torch.zeros(audio))
        self.first_latent = nn.Parameter(torch.zeros(width))
        nn.init.zeros_(self.leave_modulation.weight)
        nn.init.zeros_(self.leave_modulation.bias)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    # --- what is drawn -------------------------------------------------------------------------------------

    def relative(self, latents: Tensor, references: Tensor) -> Tensor:
        """Latents (B, L, Z, h, w) and those of references (B, M, Z, h, w) -> what is drawn of them."""
        spread = self.config.difference_spread
        return latents if spread is None else (latents - references.mean(1, keepdim=True)) / spread

    def absolute(self, drawn: Tensor, references: Tensor) -> Tensor:
        """Back from `relative`."""
        spread = self.config.difference_spread
        return drawn if spread is None else drawn * spread + references.mean(1, keepdim=True)

    # --- inputs --------------------------------------------------------------------------------------------

    def embed_audio(self, features: Tensor, *, starts: bool) -> Tensor:
        """Features per video frame (B, F, audio_features) -> one sound per latent (B, L, A).

        starts: the first frame is the first of the stream and stands alone (F = 1 + 4n); else F = 4n.
        """
        features = self.audio_norm(features)
        parts = []
        if starts:
            parts.append(self.audio_first(features[:, :1]))
            features = features[:, 1:]
        if features.shape[1]:
            parts.append(self.audio_shared(features.unflatten(1, (-1, 4)).flatten(2)))
        return torch.cat(parts, 1)

    def embed(self, latents: Tensor, *, starts: bool = False) -> Tensor:
        """Latents (B, L, Z, h, w) that are known -> tokens (B, L h w, D).

        starts: the first latent is the first of the stream and is marked as such.
        """
        x = self._placed(latents)
        return (self._marked(x) if starts else x).flatten(1, 3)

    def embed_noisy(self, latents: Tensor, audio: Tensor, references: Tensor, *, starts: bool) -> Tensor:
        """Latents (B, L, Z, h, w) to be drawn, sound (B, L, A), references (B, M, Z, h, w) -> tokens (B, L h w, D)."""
        return self.embed_beside(
            latents, self.beside(audio, starts=starts) + self.beside_references(references)
        )

    def beside_references(self, references: Tensor) -> Tensor:
        """What references (B, M, Z, h, w) lay beside tokens at their places, (B, 1, h, w, D); zeros if nothing."""
        if self.reference is None:
            return references.new_zeros(len(references), 1, 1, 1, self.config.width)
        return self.reference(references.mean(1).movedim(1, -1))[:, None]

    def beside(self, audio: Tensor, *, starts: bool) -> Tensor:
        """What tokens with sound (B, L, A) have in them whatever their latents are, (B, L, 1, 1, D)."""
        x = self.sound(audio)[:, :, None, None]
        return self._marked(x) if starts else x

    def embed_beside(self, latents: Tensor, beside: Tensor) -> Tensor:
        """Latents (B or 1, L, Z, h, w), what is beside them (B, L, h or 1, w or 1, D) -> tokens (B, L h w, D)."""
        return (self._placed(latents) + beside).flatten(1, 3)

    def _placed(self, latents: Tensor) -> Tensor:
        x = self.latent(latents.movedim(2, -1))
        return x if self.places is None else x + self.places.to(x.dtype)

    def _marked(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] + self.first_latent.to(x.dtype), x[:, 1:]], 1)

    # --- the network ---------------------------------------------------------------------------------------

    def run(
        self,
        segments: Sequence[Segment],
        past: KeysValues | None = None,
        attend: Attend = F.scaled_dot_product_attention,
    ) -> tuple[Tensor, Tensor, KeysValues]:
        """Segments one after another -> tokens (B, N, D), the last's time embedding (B, 1, D), own keys and values."""
        x = torch.cat([segment.tokens for segment in segments], 1)
        # Tokens of a segment share their time, so all that follows from it alone is computed once for each segment.
        time = torch.cat([self._embedded(segment.time, x.dtype) for segment in segments], 1)
        places = torch.cat([segment.places for segment in segments])
        active = F.silu(time)
        x, own = self.pass_blocks(
            x,
            (_spread(block.modulation(active), segments) for block in self._blocks),
            turn_of(angles_of(places, self.config.head_channels), x.dtype),
            past,
            attend,
        )
        return x, time[:, -1:], own

    def pass_blocks(
        self,
        x: Tensor,
        modulations: Iterable[Tensor],
        turn: Turn,
        past: Sequence[Room | tuple[Tensor, Tensor]] | None = None,
        attend: Attend = F.scaled_dot_product_attention,
    ) -> tuple[Tensor, KeysValues]:
        """Tokens (B, N, D), per block a modulation, turns of N places -> tokens, own keys and values per block."""
        before = past if past is not None else [None] * len(self.blocks)
        own: KeysValues = []
        for block, modulation, seen in zip(self._blocks, modulations, before, strict=True):
            x, made = block(x, modulation, turn, seen, attend)
            own.append(made)
        return x, own

    def velocity(self, tokens: Tensor, time: Tensor, height: int, width: int) -> Tensor:
        """Last tokens (B, L h w, D) and their time embedding -> velocity (B, L, Z, h, w)."""
        return self.velocity_at(tokens, self.leave_modulation(F.silu(time)), height, width)

    def velocity_at(self, tokens: Tensor, modulation: Tensor, height: int, width: int) -> Tensor:
        """Last tokens (B, L h w, D), `Modulation.leave` -> velocity (B, L, Z, h, w)."""
        shift, scale = modulation.chunk(2, -1)
        out = self.leave(_normed(tokens) * (1 + scale) + shift)
        return out.unflatten(1, (-1, height, width)).movedim(-1, 2)

    def modulation(self, time: Tensor) -> Modulation:
        """Of tokens that share a time, (B,)."""
        active = F.silu(self._embedded(time, self.first_latent.dtype))
        return Modulation([block.modulation(active) for block in self._blocks], self.leave_modulation(active))

    @property
    def _blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def forward(
        self,
        references: Tensor,
        context: Tensor,
        noisy: Tensor,
        audio: Tensor,
        context_time: Tensor,
        time: Tensor,
        *,
        starts: bool,
    ) -> Tensor:
        """Teacher forcing over one window (Algorithm 1): the velocity at every noisy latent, (B, L, Z, h, w).

        references (B, M, Z, h, w); context and noisy (B, L, Z, h, w), the same latents at the noise levels
        context_time and time (B,); audio (B, L, A). Dropped conditions are given as null_reference and null_audio.
        """
        _, num_latents, _, height, width = noisy.shape
        device, cells = noisy.device, height * width
        window = places_of(range(num_latents), height, width, device)
        segments = (
            Segment(
                self.embed(references),
                reference_places(references.shape[1], height, width, device),
                torch.zeros_like(time),
            ),
            Segment(self.embed(context, starts=starts), window, context_time),
            Segment(self.embed_noisy(noisy, audio, references, starts=starts), window, time),
        )
        forcing = TeacherForcing(references.shape[1] * cells, self.config.block_latents * cells)
        tokens, last_time, _ = self.run(segments, attend=forcing)
        return self.velocity(tokens[:, -num_latents * cells :], last_time, height, width)

    def _embedded(self, time: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) -> (B, 1, D)."""
        return self.time(sinusoids(time, TIME_CHANNELS).to(dtype))[:, None]


def _spread(modulation: Tensor, segments: Sequence[Segment]) -> Tensor:
    """(B, segments, 6 D) -> (B, N, 6 D), or as it is where there is one segment."""
    if len(segments) == 1:
        return modulation
    parts = [
        modulation[:, k : k + 1].expand(-1, segment.tokens.shape[1], -1) for k, segment in enumerate(segments)
    ]
    return torch.cat(parts, 1)


def _mlp(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_in, 2 * num_out), nn.SiLU(), nn.Linear(2 * num_out, num_out))


def sinusoids(time: Tensor, channels: int) -> Tensor:
    """(B,) in [0, 1] -> (B, channels)."""
    half = channels // 2
    rates = torch.exp(
        -math.log(ROPE_BASE) * torch.arange(half, device=time.device, dtype=torch.float64) / half
    )
    angles = time.double()[:, None] * TIME_SCALE * rates
    return torch.cat([torch.cos(angles), torch.sin(angles)], 1)
