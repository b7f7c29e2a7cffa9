"""Where a stream stands, as named parts in one safetensors file: enough to go on from there, in another process.

Whoever has something to remember keeps it under a name of its own; this file knows nobody. Nothing is pickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vivant import records
from vivant.errors import InputError

Record = TypeVar("Record")
_HEADER = "vivant"


@dataclass(frozen=True)
class Bookmark:
    """Copies: what goes on streaming does not change them."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """By dotted name, the part's first."""
    data: dict[str, Any] = field(default_factory=dict)
    """The rest of each part, JSON-able, by the part's name."""

    def keep(self, name: str, value: Any) -> None:
        """Remember a dataclass, or anything else that records can hold, under that name."""
        self.data[name] = records.to_data(value, self.tensors, name)

    def part(self, name: str, record_type: type[Record], device: str = "cpu") -> Record:
        """The dataclass that was kept under that name. Raises KeyError or ValueError where it does not fit."""
        return records.from_data(record_type, self.data[name], self.tensors, device)

    def keep_mark(self, name: str, mark: Bookmark) -> None:
        """Remember another whole bookmark under that name."""
        self.data[name] = mark.data
        self.tensors.update({f"{name}/{tensor}": value for tensor, value in mark.tensors.items()})

    def mark(self, name: str) -> Bookmark:
        """The bookmark that was kept under that name. Raises KeyError where there is none."""
        prefix = f"{name}/"
        own = {
            key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)
        }
        return Bookmark(own, self.data[name])

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        save_file(self.tensors, path, metadata={_HEADER: json.dumps(self.data)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises InputError for anything else."""
        try:
            with safe_open(path, framework="pt") as file:
                data = json.loads((file.metadata() or {})[_HEADER])
                return cls({name: file.get_tensor(name) for name in file.keys()}, data)  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path} is not a saved session: {error}") from error
