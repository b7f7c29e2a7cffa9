"""Pictures on their way from the device to the host.

A GPU works through what it was told while the host goes on. Asking for a picture's pixels ends that: the host waits,
and then the GPU waits for the host. So pixels set out as soon as a picture is drawn, and are asked for later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor


def as_pixels(frames: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] -> uint8 (..., H, W, 3), where they are."""
    return (frames.clamp(0, 1) * 255).round().byte().movedim(-3, -1).contiguous()


def set_out(frames: Sequence[Tensor]) -> list[Callable[[], Tensor]]:
    """Frames (3, H, W) of one size on one CUDA device -> calls that wait for their pixels, uint8 (H, W, 3) on the host.

    All are converted and copied together, behind the work that draws them and before any that is asked for later.
    """
    if not frames:
        return []
    pixels = as_pixels(torch.stack(list(frames)))
    # Pinned, or the copying would wait. The allocator keeps the memory until the copy is done, and then for the next.
    place = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
    place.copy_(pixels, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def taken(index: int) -> Tensor:
        arrived.synchronize()
        return place[index]

    return [partial(taken, index) for index in range(len(frames))]
