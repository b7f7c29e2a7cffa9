"""Pictures larger than memory: through a streaming VAE in overlapping tiles, each with its own cache.

Neighbouring tiles share a quarter of their side and fade into each other there. Convolutions see the same as in a whole
picture except near a tile's borders; the VAE's one attention sees its tile only. Between two pieces of a stream the
tiles' caches rest in main memory, so that a device holds one tile's at a time. Knows no network.
Letters: Z C channels, T frames or latents, H W pixels or latent cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from vivant.engines.flashportrait.windows import windows_of


class Cache(Protocol):
    """What a tile's stream remembers."""

    def move(self, device: torch.device) -> None: ...


CacheT = TypeVar("CacheT", bound=Cache)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How pictures are cut up; all in latent cells."""

    size: int | None
    """Side of a tile; None: pictures stay whole."""

    @property
    def overlap(self) -> int:
        """Cells that neighbours share."""
        return 0 if self.size is None else max(1, self.size // 4)

    def spans(self, length: int) -> list[range]:
        """The tiles along one side, the last one moved back to end with the picture."""
        return [range(length)] if self.size is None else windows_of(length, self.size, self.overlap)

    def count(self, height: int, width: int) -> int:
        """Tiles of a picture."""
        return len(self.spans(height)) * len(self.spans(width))


def in_tiles(
    step: Callable[[Tensor, CacheT], Tensor],
    x: Tensor,
    caches: Sequence[CacheT],
    tiling: Tiling,
    cell_px: int = 1,
) -> Tensor:
    """The next piece (1, C, T, H, W) of a stream through `step`, tile by tile.

    caches: one per tile, row by row. cell_px: side of a latent cell in x, 1 where x are latents.
    """
    rows, columns = (tiling.spans(side // cell_px) for side in x.shape[-2:])
    if len(caches) == 1:
        return step(x, caches[0])
    tiles = [(row, column) for row in rows for column in columns]
    out = total = torch.zeros(())
    for (row, column), cache in zip(tiles, caches, strict=True):
        cache.move(x.device)
        piece = step(x[..., _along(row, cell_px), _along(column, cell_px)].contiguous(), cache)
        cache.move(torch.device("cpu"))
        scale = piece.shape[-1] // len(column)
        if out.dim() == 0:
            size = [side // cell_px * scale for side in x.shape[-2:]]
            out, total = piece.new_zeros(*piece.shape[:-2], *size), piece.new_zeros(size)
        weight = torch.outer(*(_weights(len(span), tiling.overlap, scale, piece) for span in (row, column)))
        place = (..., _along(row, scale), _along(column, scale))
        out[place] += piece * weight
        total[place] += weight
    return out / total


def _along(span: range, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _weights(cells: int, overlap: int, scale: int, like: Tensor) -> Tensor:
    """How much each pixel along one side of a tile counts: rising over the overlap, 1 inside, falling again."""
    place = torch.arange(cells * scale, device=like.device, dtype=like.dtype) + 0.5
    return torch.minimum(place, place.flip(0)).div(max(overlap * scale, 1)).clamp(max=1)
