"""Records of tensors that have one row per frame: what the Motions of all families can do alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass
class FrameRows:
    """A dataclass derived from this has tensors (T, ...) as fields; None, where a field allows it: not measured."""

    def __len__(self) -> int:
        """T."""
        return len(next(iter(self.to_tensors().values())))

    def __getitem__(self, index: int | slice) -> Self:
        """Some frames; a single index keeps the frame dimension. Raises IndexError."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"frame {index} of a motion of {len(self)}")
            index = slice(index, index + 1 or None)
        return self._mapped(lambda tensor: tensor[index])

    @classmethod
    def cat(cls, motions: Sequence[Self]) -> Self:
        """One after another; what one of them did not measure is left out."""
        parts = [motion.to_tensors() for motion in motions]
        names = [name for name in parts[0] if all(name in part for part in parts)]
        return cls(**{name: torch.cat([part[name] for part in parts]) for name in names})

    def repeat(self, num_frames: int) -> Self:
        """One frame, held for num_frames (no copy)."""
        return self._mapped(lambda tensor: tensor.expand(num_frames, *tensor.shape[1:]))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        return self._mapped(lambda tensor: tensor.to(device=device, dtype=dtype))

    def to_tensors(self) -> dict[str, Tensor]:
        """The measured fields by name, for saving."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """The inverse of `to_tensors`. Raises ValueError for missing or unknown names."""
        names = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is not None}
        if not required <= set(tensors) <= names:
            raise ValueError(f"a motion holds {sorted(names)}, got {sorted(tensors)}")
        return cls(**tensors)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{name: change(tensor) for name, tensor in self.to_tensors().items()})
