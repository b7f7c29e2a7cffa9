"""Windows over an endless stream of latents, denoised step by step and faded into each other.

The published program goes step by step through all windows of a whole clip. Here every step has a row of latents, and
a window may take its next step as soon as what it reads is final; so a stream of any length needs a fixed number of
latents. Two orders of work share the same rows and the same rule for writing (see docs/decisions):

    published   window w may take step k when all windows that overlap it have taken step k - 1: the same numbers
                as the published loop, known only after about as many windows as there are steps
    causal      a window takes all steps before the next begins: answers after one window; the next window fades
                in over what this one left in each row

Latent p is frame 0 for p = 0, else frames 4 p - 3 to 4 p. Knows neither networks nor pictures.
Letters: N latents, S steps, Z channels, h w cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vivant.engines.flashportrait.config import Fusion


def windows_of(num_latents: int, size: int, overlap: int) -> list[range]:
    """The windows of a whole clip: every size - overlap, the last one moved back to end with the clip.

    A clip shorter than a window is one short window.
    """
    if num_latents <= size:
        return [range(num_latents)]
    starts = list(range(0, num_latents - overlap, size - overlap))
    starts[-1] = num_latents - size
    return [range(start, start + size) for start in starts]


def fade(length: int, device: torch.device | None = None) -> Tensor:
    """Weights (length,) of the newer window: 0 at its first latent, 1 at the last that both have; alone, a half."""
    if length == 1:
        return torch.tensor([0.5], device=device)
    return torch.arange(length, device=device) / max(length - 1, 1)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of windows and the order of work; constant over a stream."""

    size: int
    overlap: int
    num_steps: int
    fusion: Fusion

    @property
    def stride(self) -> int:
        return self.size - self.overlap


@dataclass(kw_only=True)
class Rows:
    """The latents of a stream that are still needed: row k is the input of step k, the last row is the result."""

    latents: list[Tensor]
    """num_steps + 1 of (1, Z, n, h, w)."""
    first: list[int]
    """The latent that each row begins with."""
    done: list[int]
    """How many windows have taken each step."""
    num_latents: int
    """Latents that have arrived."""
    num_taken: int
    """Latents that have left."""
    ended: bool
    """Whether no more will arrive."""


def new_rows(layout: Layout, shape: tuple[int, int, int], device: torch.device) -> Rows:
    """Before the first latent; shape: channels, rows and columns of a latent."""
    channels, height, width = shape
    count = layout.num_steps + 1
    return Rows(
        latents=[torch.zeros(1, channels, 0, height, width, device=device) for _ in range(count)],
        first=[0] * count,
        done=[0] * layout.num_steps,
        num_latents=0,
        num_taken=0,
        ended=False,
    )


def arrive(rows: Rows, noise: Tensor) -> None:
    """The next latents begin as noise (1, Z, n, h, w)."""
    rows.latents[0] = torch.cat([rows.latents[0], noise], 2)
    rows.num_latents += noise.shape[2]


def window_at(rows: Rows, layout: Layout, index: int) -> range | None:
    """Window number `index`; None where it is not known yet, or does not exist."""
    start = index * layout.stride
    if start + layout.size <= rows.num_latents:
        return range(start, start + layout.size)
    if not rows.ended:
        return None
    windows = windows_of(rows.num_latents, layout.size, layout.overlap)
    return windows[index] if index < len(windows) else None


def work(rows: Rows, layout: Layout) -> Iterator[tuple[int, range, int]]:
    """What can be done now: (window number, its latents, step), each to be answered by `write` before the next."""
    if layout.fusion == "causal":
        while (window := window_at(rows, layout, rows.done[-1])) is not None:
            for step in range(layout.num_steps):
                yield rows.done[step], window, step
        return
    moved = True
    while moved:
        moved = False
        # Late steps first: they free the oldest latents.
        for step in reversed(range(layout.num_steps)):
            window = window_at(rows, layout, rows.done[step])
            while window is not None and (step == 0 or _is_final(rows, layout, window, step)):
                moved = True
                yield rows.done[step], window, step
                window = window_at(rows, layout, rows.done[step])


def _is_final(rows: Rows, layout: Layout, window: range, step: int) -> bool:
    """Whether row `step` holds its last word under that window: every window that overlaps it took the step before."""
    if not rows.ended and rows.num_latents < window.stop + layout.size:
        # The stream might end here, and its last window, moved back, would overlap this one.
        return False
    index = rows.done[step - 1]
    following = window_at(rows, layout, index)
    return following is None or following.start >= window.stop


def read(rows: Rows, window: range, step: int) -> Tensor:
    """The input (1, Z, n, h, w) of a window's step."""
    first = rows.first[step]
    return rows.latents[step][:, :, window.start - first : window.stop - first]


def write(rows: Rows, layout: Layout, window: range, step: int, result: Tensor) -> None:
    """Fade the result (1, Z, n, h, w) of a window's step into the next row.

    Published: not at the first step, where the later window wins; over all latents that both windows have.
    Causal: at every step; where the last window was moved back further than the overlap, the rest stays as it was,
    because it may have been shown.
    """
    row, first = rows.latents[step + 1], rows.first[step + 1]
    start = window.start - first
    old = row[:, :, start:]
    shared = old.shape[2]
    if shared and (layout.fusion == "causal" or step > 0):
        length = min(shared, layout.overlap) if layout.fusion == "causal" else shared
        weights = torch.cat([result.new_zeros(shared - length), fade(length, result.device)])
        weights = weights.view(-1, 1, 1).to(result.dtype)
        result = torch.cat([result[:, :, :shared] * weights + old * (1 - weights), result[:, :, shared:]], 2)
    rows.latents[step + 1] = torch.cat([row[:, :, :start], result], 2)
    rows.done[step] += 1


def take(rows: Rows, layout: Layout) -> Tensor:
    """The finished latents (1, Z, n, h, w) that nothing will change any more; forgets what is not needed."""
    last = rows.latents[-1]
    end = rows.first[-1] + last.shape[2]
    following = window_at(rows, layout, rows.done[-1])
    if following is not None:
        end = min(end, following.start)
    elif not rows.ended:
        end = min(end, rows.done[-1] * layout.stride)
        if layout.fusion == "published":
            end = min(end, rows.num_latents - layout.size)
    end = max(end, rows.num_taken)
    taken = last[:, :, rows.num_taken - rows.first[-1] : end - rows.first[-1]].clone()
    rows.num_taken = end
    _forget(rows, layout)
    return taken


def _forget(rows: Rows, layout: Layout) -> None:
    """Drop, from every row, latents that no window will read, and none will fade into."""
    done = [rows.done[0], *rows.done]
    # A window that the end of the stream moves back begins no earlier than this.
    moved_back = max(rows.num_latents - layout.size, 0)
    for step, row in enumerate(rows.latents):
        oldest = min(done[step], done[min(step + 1, len(done) - 1)]) * layout.stride
        keep = min(oldest, moved_back)
        if step == layout.num_steps:
            keep = min(keep, rows.num_taken)
        drop = min(max(keep - rows.first[step], 0), row.shape[2])
        if drop:
            rows.latents[step] = row[:, :, drop:].clone()
            rows.first[step] += drop


def oldest_needed(rows: Rows) -> int:
    """The first latent that any window will still read."""
    return min(rows.first[:-1])
