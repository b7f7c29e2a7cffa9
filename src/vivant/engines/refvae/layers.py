"""Causal convolutions and the residual resampling of the video VAE (arXiv 2606.01620, Fig. III).

Nothing here looks ahead in time: a stream cut into chunks gives what the whole clip gives. What a chunk must know of
the past is in a `TemporalCache`, an argument of every forward. Legend: B batch, C channels, T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.ops import fused
from vivant.ops.fused import pictures_of, rows_of
from vivant.ops.measured import convolve, takes

Padding = Literal["replicate", "zeros"]
MIN_LENGTH = 1e-12


@dataclass(eq=False)
class TemporalCache:
    """The past of one stream: what each causal convolution saw last, in the order in which they run."""

    tails: list[Tensor] = field(default_factory=list)
    """Per convolution its last input frames (B, C, kernel - 1, H, W)."""
    started: bool = False
    """Whether the first chunk is done. The first frame of a stream, and only it, is not paired in time."""
    _cursor: int = field(default=0, init=False)

    def begin(self) -> None:
        """A chunk enters the network."""
        self._cursor = 0

    def finish(self) -> None:
        """A chunk has left it."""
        self.started = True

    def extend(self, x: Tensor, num_before: int, padding: Padding) -> Tensor:
        """x with the num_before frames that came before it; remembers the last ones for the next chunk."""
        head = self.tails[self._cursor] if self.started else before_first(x, num_before, padding)
        joined = torch.cat([head, x], 2)
        tail = joined[:, :, -num_before:]
        if self.started:
            # In place: the addresses stay, which a captured CUDA graph needs. A clone first, for it may overlap.
            self.tails[self._cursor].copy_(tail.clone())
        else:
            self.tails.append(tail.clone())
        self._cursor += 1
        return joined

    def surround(self, joined: Tensor, num_before: int, padding: Padding) -> None:
        """As `extend`, for frames that stand behind num_before free ones already: fills these."""
        head, tail = joined[:, :, :num_before], joined[:, :, -num_before:]
        if self.started:
            head.copy_(self.tails[self._cursor])
            self.tails[self._cursor].copy_(tail)
        else:
            head.copy_(before_first(joined[:, :, num_before:], num_before, padding))
            self.tails.append(tail.clone())
        self._cursor += 1


def before_first(x: Tensor, num_before: int, padding: Padding) -> Tensor:
    """What stands before the first frame: the frame again (so that a picture looks like a still clip), or zeros."""
    first = x[:, :, :1] if padding == "replicate" else torch.zeros_like(x[:, :, :1])
    return first.expand(-1, -1, num_before, -1, -1)


class CausalConv3d(nn.Module):
    """Stride 1; space padded with zeros on all sides, time on the left only."""

    def __init__(self, num_in: int, num_out: int, kernel: tuple[int, int, int], padding: Padding):
        super().__init__()
        self.num_before, self.padding = kernel[0] - 1, padding
        self.conv = nn.Conv3d(num_in, num_out, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        if cache is None and x.shape[2] == 1 and self.padding == "replicate":
            return self._of_still(x)
        if self.num_before:
            if cache is None:
                x = torch.cat([before_first(x, self.num_before, self.padding), x], 2)
            else:
                x = cache.extend(x, self.num_before, self.padding)
        if len(x) == 1 and takes(x, self.conv):
            return pictures_of(convolve(rows_of(x)[0], self.conv.weight, self.conv.bias)[None])
        return self.conv(x)

    def behind(
        self, norm: RmsNorm, x: Tensor, cache: TemporalCache | None = None, added: Tensor | None = None
    ) -> Tensor:
        """conv(silu(norm(x))), and `added` to that."""
        if cache is None or len(x) > 1 or not (takes(x, self.conv) and fused.usable(x, norm)):
            y = self(F.silu(norm(x)), cache)
            return y if added is None else added + y
        # The norm writes where the convolution reads: behind the frames that came before.
        frames = rows_of(x)[0]
        joined = frames.new_empty(self.num_before + len(frames), *frames.shape[1:])
        fused.length_norm(frames, norm.gamma, MIN_LENGTH, silu=True, out=joined[self.num_before :])
        if self.num_before:
            cache.surround(pictures_of(joined[None]), self.num_before, self.padding)
        other = None if added is None else rows_of(added)[0]
        return pictures_of(convolve(joined, self.conv.weight, self.conv.bias, other)[None])

    def _of_still(self, x: Tensor) -> Tensor:
        """A still clip of one frame: what stands before it is that frame, so the kernel's sum over time does, once."""
        conv = self.conv
        space = conv.padding[1:]
        assert not isinstance(space, str)
        return F.conv2d(x[:, :, 0], conv.weight.sum(2), conv.bias, padding=space)[:, :, None]


class RmsNorm(nn.Module):
    """Over the channels of each place alone, in float32: no statistic crosses time or space."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        if fused.usable(x, self):
            return pictures_of(fused.length_norm(rows_of(x), self.gamma, MIN_LENGTH, silu=False))
        wide = x if x.dtype == torch.float64 else x.float()
        gain = self.gamma.to(wide.dtype).view(-1, *[1] * (x.dim() - 2)) * x.shape[1] ** 0.5
        # As F.normalize, whose norm over a dimension that is not the last takes three times as long on a CPU.
        length = wide.square().sum(1, keepdim=True).clamp(min=MIN_LENGTH**2).sqrt()
        return (wide / length * gain).to(x.dtype)


class CausalResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), width unchanged."""

    def __init__(self, channels: int, padding: Padding, kernel_frames: int = 3):
        super().__init__()
        self.norm1, self.norm2 = RmsNorm(channels), RmsNorm(channels)
        self.conv1 = CausalConv3d(channels, channels, (kernel_frames, 3, 3), padding)
        self.conv2 = CausalConv3d(channels, channels, (kernel_frames, 3, 3), padding)
        # Starts as the identity, so that pictures pass along the shortcuts from the first step.
        nn.init.zeros_(self.conv2.conv.weight)

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        return self.conv2.behind(self.norm2, self.conv1.behind(self.norm1, x, cache), cache, added=x)


def unshuffle(x: Tensor, time: int, space: int) -> Tensor:
    """(B, C, T, H, W) -> (B, C * time * space^2, T / time, H / space, W / space), the channel outermost."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // time, time, h // space, space, w // space, space)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(
        b, c * time * space**2, t // time, h // space, w // space
    )


def shuffle(x: Tensor, time: int, space: int) -> Tensor:
    """The inverse of `unshuffle`."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c // (time * space**2), time, space, space, t, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        b, c // (time * space**2), t * time, h * space, w * space
    )


def _grouped_mean(x: Tensor, num_out: int) -> Tensor:
    """(B, n * num_out, ...) -> (B, num_out, ...): means over n neighbouring channels."""
    return x.unflatten(1, (num_out, -1)).mean(2)


def _num_alone(cache: TemporalCache | None) -> int:
    """Frames of a chunk that are not paired in time: the first of its stream."""
    return 1 if cache is None or not cache.started else 0


class Down(nn.Module):
    """Halves space, and time where `time` is 2: convolutions before unshuffling, plus a shortcut without parameters.

    Time first, for all frames but the first of the stream; then space for all.
    """

    def __init__(self, num_in: int, num_out: int, time: int, padding: Padding, kernel_frames: int = 3):
        super().__init__()
        if num_in % time or num_out % 4 or (num_in * 4) % num_out:
            raise ValueError(f"{num_in} channels cannot become {num_out} at factors {time} and 2")
        self.time, self.num_out = time, num_out
        # The paper's listing also has it where time stays as it is; its text says "if applicable".
        self.conv_time = CausalConv3d(num_in, num_in // time, (1, 3, 3), padding) if time > 1 else None
        self.conv_space = CausalConv3d(num_in, num_out // 4, (kernel_frames, 3, 3), padding)

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H / 2, W / 2), T' = 1 + (T - 1) / time in a first chunk, else T / time."""
        short = x
        if self.conv_time is not None:
            count = _num_alone(cache)
            first, later = x[:, :, :count], x[:, :, count:]
            main, means = [first], [first]
            if later.shape[2]:
                main.append(unshuffle(self.conv_time(later), self.time, 1))
                means.append(_grouped_mean(unshuffle(later, self.time, 1), x.shape[1]))
            x, short = torch.cat(main, 2), torch.cat(means, 2)
        main_space = unshuffle(self.conv_space(x, cache), 1, 2)
        return main_space + _grouped_mean(unshuffle(short, 1, 2), self.num_out)


class Up(nn.Module):
    """Doubles space, and time where `time` is 2; the mirror of `Down`: space first, then time."""

    def __init__(self, num_in: int, num_out: int, time: int, padding: Padding, kernel_frames: int = 3):
        super().__init__()
        if (num_out * 4) % num_in:
            raise ValueError(f"{num_in} channels cannot become {num_out} at factor 2")
        self.time, self.repeats = time, num_out * 4 // num_in
        self.conv_space = CausalConv3d(num_in, num_out * 4, (kernel_frames, 3, 3), padding)
        self.conv_time = CausalConv3d(num_out, num_out * time, (1, 3, 3), padding) if time > 1 else None
        if self.conv_time is not None:
            self._start_by_repeating(self.conv_time.conv)

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', 2 H, 2 W), T' = 1 + (T - 1) time in a first chunk, else T time."""
        if cache is not None and cache.started and len(x) == 1 and takes(x, self.conv_space.conv):
            return self._grown(x, cache)
        short = shuffle(x.repeat_interleave(self.repeats, 1), 1, 2)
        main = shuffle(self.conv_space(x, cache), 1, 2)
        if self.conv_time is None:
            return main + short
        count = _num_alone(cache)
        parts = [main[:, :, :count] + short[:, :, :count]]
        if main.shape[2] > count:
            later = shuffle(self.conv_time(main[:, :, count:]), self.time, 1)
            parts.append(later + short[:, :, count:].repeat_interleave(self.time, 2))
        return torch.cat(parts, 2)

    def _grown(self, x: Tensor, cache: TemporalCache) -> Tensor:
        """The same for what is not the first chunk, by kernels that lay out and add at once."""
        few, many = rows_of(x)[0], rows_of(self.conv_space(x, cache))[0]
        if self.conv_time is None:
            return pictures_of(fused.grown_in_space(many, few)[None])
        main = pictures_of(fused.grown_in_space(many, None)[None])
        return pictures_of(fused.grown_in_time(rows_of(self.conv_time(main))[0], few)[None])

    def _start_by_repeating(self, conv: nn.Conv3d) -> None:
        """Later frames begin as what the network, taught on single pictures, makes of the first."""
        channel = torch.arange(conv.out_channels)
        assert conv.bias is not None
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        with torch.no_grad():
            conv.weight[channel, channel // self.time, 0, 1, 1] = 1.0


class _Interpolated(nn.Module):
    """What the two below share."""

    def __init__(self, num_in: int, num_out: int, time: int, padding: Padding, kernel_frames: int = 3):
        super().__init__()
        self.time = time
        self.conv = CausalConv3d(num_in, num_out, (kernel_frames, 3, 3), padding)


class InterpolatedDown(_Interpolated):
    """`Down` as it is elsewhere: means of neighbouring pixels and frames, then a convolution. For comparison."""

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        """As `Down`."""
        count = _num_alone(cache)
        first, later = x[:, :, :count], x[:, :, count:]
        parts = [F.avg_pool3d(first, (1, 2, 2))] if count else []
        if later.shape[2]:
            parts.append(F.avg_pool3d(later, (self.time, 2, 2)))
        return self.conv(torch.cat(parts, 2), cache)


class InterpolatedUp(_Interpolated):
    """`Up` as it is elsewhere: pixels and frames repeated, then a convolution. For comparison."""

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        """As `Up`."""
        count = _num_alone(cache)
        x = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
        later = x[:, :, count:].repeat_interleave(self.time, 2)
        return self.conv(torch.cat([x[:, :, :count], later], 2), cache)


RESAMPLING = {"residual": (Down, Up), "interpolation": (InterpolatedDown, InterpolatedUp)}
"""Shrinking and growing layers by `VaeConfig.resampling`."""
