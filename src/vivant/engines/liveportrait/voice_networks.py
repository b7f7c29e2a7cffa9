"""Speech to mouth: a causal encoder of log-mel bands, then an autoregressive transformer over 25 Hz frames.

After the paper's appendix C (sequential audio features, a transformer that continues its own motion), with our own
features in the place of Whisper's. Every memory is bounded: convolution tails, a look-ahead ring and a window of keys.

Letters: B sequences, T frames, N frames with look-ahead, C controls, D width, H heads, W window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait.config_compact import NUM_POINTS

SAMPLE_RATE_HZ = 16_000
FRAME_RATE_HZ = 25
HOP, WINDOW, FFT_SIZE = 160, 400, 512
COLUMNS = 4
"""Mel columns of one video frame."""
BLOCK = HOP * COLUMNS
"""Samples of one video frame: 640."""
TAIL = WINDOW - HOP
"""Samples before a block that its first column sees."""
MEL_FLOOR = 1e-7


@dataclass(frozen=True, kw_only=True)
class VoiceConfig:
    """Sizes of the voice network; they live beside its weights."""

    num_bands: int
    """Mel bands between 60 and 7600 Hz."""
    controls: tuple[str, ...]
    """Blendshapes that the network moves, in order; both sides of a pair together."""
    lookahead_frames: int
    """Frames of sound heard beyond the one that is spoken."""
    encoder_channels: int
    hidden: int
    num_layers: int
    num_heads: int
    window_frames: int
    """Frames that attention reaches back."""

    def __post_init__(self) -> None:
        if self.hidden % self.num_heads:
            raise ValueError(f"hidden is a multiple of num_heads, got {self.hidden} and {self.num_heads}")
        if self.lookahead_frames < 0 or self.window_frames < 1 or not self.controls:
            raise ValueError(f"look-ahead is 0 or more, window and controls 1 or more, got {self}")


@lru_cache(maxsize=4)
def mel_filters(num_bands: int) -> Tensor:
    """(num_bands, FFT_SIZE / 2 + 1): triangles equally spaced in 1127 ln(1 + f / 700), 60 to 7600 Hz."""
    low, high = (1127 * math.log(1 + hertz / 700) for hertz in (60.0, 7600.0))
    edges = 700 * (torch.exp(torch.linspace(low, high, num_bands + 2, dtype=torch.float64) / 1127) - 1)
    bins = torch.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SIZE // 2 + 1, dtype=torch.float64)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters: Tensor = torch.minimum(rising, falling).clamp(min=0).float()
    return filters


def mel_power(samples: Tensor, num_bands: int) -> Tensor:
    """Samples (TAIL + n HOP,) in [-1, 1] -> power (n, num_bands) of n columns; each ends where its hop ends."""
    frames = samples.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)
    spectrum = torch.fft.rfft(frames, FFT_SIZE)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()) @ mel_filters(num_bands).T / WINDOW
    return power


def log_mel(power: Tensor) -> Tensor:
    """Power of any shape -> about -2 (silence) to 2 (loud)."""
    return (power + MEL_FLOOR).log() / 4 + 2


@dataclass(kw_only=True)
class VoiceMemory:
    """What a stream of one voice remembers; every size is fixed."""

    first_tail: Tensor
    """(1, bands, 2)."""
    second_tail: Tensor
    """(1, channels, 2)."""
    third_tail: Tensor
    """(1, channels, 2)."""
    heard: Tensor
    """(lookahead + 1, channels): encoded frames, newest last."""
    keys: Tensor
    """(layers, H, W, D / H), newest last."""
    values: Tensor
    """(layers, H, W, D / H)."""
    last: Tensor
    """(C,): the controls of the frame before."""
    num_heard: int
    num_spoken: int


class Layer(nn.Module):
    """Attention over a bounded past with a learned bias per distance, then a feed-forward net; both residual."""

    def __init__(self, config: VoiceConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.norm = nn.LayerNorm(config.hidden)
        self.inputs = nn.Linear(config.hidden, 3 * config.hidden)
        self.output = nn.Linear(config.hidden, config.hidden)
        self.distance = nn.Parameter(torch.zeros(config.num_heads, config.window_frames))
        self.feed = nn.Sequential(
            nn.LayerNorm(config.hidden),
            nn.Linear(config.hidden, 2 * config.hidden),
            nn.GELU(),
            nn.Linear(2 * config.hidden, config.hidden),
        )

    def projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) -> queries, keys, values (B, H, T, D / H)."""
        parts = self.inputs(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def mixed(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """x with what attention found added; `bias` (H, T, keys) is -inf where a key must not be seen."""
        found = F.scaled_dot_product_attention(query, key, value, bias[None].to(query.dtype))
        x = x + self.output(found.transpose(1, 2).flatten(2))
        fed: Tensor = x + self.feed(x)
        return fed


class VoiceNetwork(nn.Module):
    """Log-mel columns -> mouth controls."""

    basis: Tensor
    rest: Tensor

    def __init__(self, config: VoiceConfig) -> None:
        super().__init__()
        self.config = config
        bands, width, count = config.num_bands, config.encoder_channels, len(config.controls)
        self.first = nn.Conv1d(bands, width, 3)
        self.second = nn.Conv1d(width, width, 4, stride=2)
        self.third = nn.Conv1d(width, width, 4, stride=2)
        self.listen = nn.Linear(width * (config.lookahead_frames + 1), config.hidden)
        self.recall = nn.Linear(count, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.speak = nn.Linear(config.hidden, count)
        # Head frame, units of 10 cm, x right, y down, z inward: what one unit of each control moves (eyelids and
        # brows last, for idle movement), and the mean neutral face.
        self.register_buffer("basis", torch.zeros(count + 2, NUM_POINTS, 3))
        self.register_buffer("rest", torch.zeros(NUM_POINTS, 3))

    @property
    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def encode(self, mel: Tensor, tails: tuple[Tensor, Tensor, Tensor] | None = None) -> tuple[Tensor, ...]:
        """Columns (B, 4 N, bands) -> frames (B, N, channels), and the three tails that the next columns need."""
        x = mel.transpose(1, 2)
        if tails is None:
            empty = x.new_zeros(len(x), self.config.encoder_channels, 2)
            tails = (x.new_zeros(len(x), x.shape[1], 2), empty, empty)
        kept = []
        for layer, tail in zip((self.first, self.second, self.third), tails, strict=True):
            x = torch.cat([tail.to(x.dtype), x], 2)
            kept.append(x[..., -2:])
            x = F.gelu(layer(x))
        return x.transpose(1, 2), *kept

    def forward(self, mel: Tensor, history: Tensor) -> Tensor:
        """All frames at once: (B, 4 (T + lookahead), bands) and controls one frame late (B, T, C) -> (B, T, C)."""
        heard = self.encode(mel)[0]
        ahead, frames = self.config.lookahead_frames, history.shape[1]
        around = heard.unfold(1, ahead + 1, 1).transpose(2, 3).flatten(2)
        x = self.listen(around) + self.recall(history)
        window = self.config.window_frames
        number = torch.arange(frames, device=history.device)
        distance = number[:, None] - number
        hidden = (distance < 0) | (distance >= window)
        for layer in self._layers:
            bias = layer.distance[:, distance.clamp(0, window - 1)].masked_fill(hidden, -math.inf)
            x = layer.mixed(x, *layer.projected(x), bias)
        spoken: Tensor = self.speak(self.norm(x))
        return spoken

    def begin(self) -> VoiceMemory:
        """The memory of a stream that has heard nothing."""
        c = self.config
        keys = torch.zeros(c.num_layers, c.num_heads, c.window_frames, c.hidden // c.num_heads)
        return VoiceMemory(
            first_tail=torch.zeros(1, c.num_bands, 2),
            second_tail=torch.zeros(1, c.encoder_channels, 2),
            third_tail=torch.zeros(1, c.encoder_channels, 2),
            heard=torch.zeros(c.lookahead_frames + 1, c.encoder_channels),
            keys=keys,
            values=keys.clone(),
            last=torch.zeros(len(c.controls)),
            num_heard=0,
            num_spoken=0,
        )

    @torch.no_grad()
    def step(self, memory: VoiceMemory, mel: Tensor) -> Tensor | None:
        """The next four columns (4, bands) -> controls (C,) in [0, 1] of the frame that is due, None at first.

        Updates the memory. The same numbers as `forward` gives for a history of its own clamped answers.
        """
        tails = (memory.first_tail, memory.second_tail, memory.third_tail)
        heard, memory.first_tail, memory.second_tail, memory.third_tail = self.encode(mel[None], tails)
        memory.heard = torch.cat([memory.heard[1:], heard[0]])
        memory.num_heard += 1
        if memory.num_heard <= self.config.lookahead_frames:
            return None
        # As `forward` orders it: frame by frame, oldest first.
        x = (self.listen(memory.heard.flatten()) + self.recall(memory.last))[None, None]
        memory.num_spoken += 1
        window = self.config.window_frames
        empty = torch.arange(window) < window - memory.num_spoken
        keys, values = [], []
        for layer, old_keys, old_values in zip(self._layers, memory.keys, memory.values, strict=True):
            query, key, value = layer.projected(x)
            keys.append(torch.cat([old_keys[:, 1:], key[0]], 1))
            values.append(torch.cat([old_values[:, 1:], value[0]], 1))
            bias = layer.distance.flip(1)[:, None].masked_fill(empty, -math.inf)
            x = layer.mixed(x, query, keys[-1][None], values[-1][None], bias)
        memory.keys, memory.values = torch.stack(keys), torch.stack(values)
        memory.last = self.speak(self.norm(x))[0, 0].clamp(0, 1)
        return memory.last
