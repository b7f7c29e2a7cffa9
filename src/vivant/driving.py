"""What is pushed into a session, as tensors, and what of it waits until a chunk is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vivant.engine import StreamSpec
from vivant.errors import InputError
from vivant.media.types import AudioChunk, Frame

Driving: TypeAlias = Frame | AudioChunk | np.ndarray | Tensor
"""A frame (Frame, uint8 (H, W, 3), float (3, H, W) or (T, 3, H, W) in [0, 1]) or mono samples in [-1, 1]."""


@dataclass(frozen=True)
class Waiting:
    """Driving that does not fill a chunk yet."""

    driving: Tensor
    """Frames (T, 3, H, W) or samples (S,)."""
    windows: Tensor
    """(T or S, 3): see Engine.seen_from."""
    openness: Tensor
    """(T or S, 3): see Engine.seen_with."""

    def __len__(self) -> int:
        return len(self.driving)

    def joined(self, later: Waiting) -> Waiting:
        if not len(self):
            return later
        if later.driving.shape[1:] != self.driving.shape[1:]:
            before, after = (f"{x.driving.shape[-1]}x{x.driving.shape[-2]}" for x in (self, later))
            raise InputError(f"driving changed size from {before} to {after} within a chunk")
        return Waiting(
            torch.cat([self.driving, later.driving]),
            torch.cat([self.windows, later.windows]),
            torch.cat([self.openness, later.openness]),
        )

    def part(self, start: int, stop: int) -> Waiting:
        """A copy, so that a rest does not keep the whole alive."""
        driving, windows, openness = (
            x[start:stop].clone() for x in (self.driving, self.windows, self.openness)
        )
        return Waiting(driving, windows, openness)

    def filled(self, length: int) -> Waiting:
        """Made whole at the end of the stream: video holds its last frame, sound falls silent."""
        missing = length - len(self)
        end = self.driving[-1:].expand(missing, *self.driving.shape[1:])
        if self.driving.dim() == 1:
            end = torch.zeros_like(end)
        windows, openness = (x[-1:].expand(missing, 3) for x in (self.windows, self.openness))
        return self.joined(Waiting(end, windows, openness))


def to_tensor(item: Driving, stream: StreamSpec, family: str, device: torch.device) -> Tensor:
    """Frames (T, 3, H, W) in [0, 1], or samples (S,), on the device: what that stream takes. Raises InputError for
    anything else."""
    if stream.driving == "audio":
        return _samples(item, stream.sample_rate_hz).to(device)
    if isinstance(item, AudioChunk):
        raise InputError(f"{family} is driven by video, got sound")
    pixels = item.image if isinstance(item, Frame) else item
    if isinstance(pixels, np.ndarray):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise InputError(
                f"a driving array is uint8 (height, width, 3), got {pixels.dtype} {pixels.shape}"
            )
        # As 8-bit numbers on their way: a quarter of what floats take.
        moved = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
        return moved.permute(2, 0, 1)[None].float() / 255
    if not pixels.is_floating_point() or pixels.dim() not in (3, 4) or pixels.shape[-3] != 3:
        raise InputError(f"a driving tensor is float (3, H, W) or (T, 3, H, W), got {tuple(pixels.shape)}")
    return pixels.reshape(-1, *pixels.shape[-3:]).to(device, torch.float32)


def _samples(item: Driving, sample_rate_hz: int | None) -> Tensor:
    if isinstance(item, AudioChunk):
        if item.sample_rate_hz != sample_rate_hz:
            raise InputError(
                f"sound at {item.sample_rate_hz} Hz, the engine wants {sample_rate_hz}; resample it"
            )
        return torch.from_numpy(item.samples)
    samples = torch.from_numpy(item) if isinstance(item, np.ndarray) else item
    if not isinstance(samples, Tensor) or not samples.is_floating_point() or samples.dim() != 1:
        raise InputError(f"driving sound is float mono samples (S,), got {type(item).__name__}")
    return samples.float()
