"""Reading studio sessions: memory-mapped, so that thousands of frames cost no memory.

A session is one synthetic person in one look, N frames; the format is written by `vivant.studio.dataset`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vivant.errors import InputError

_DTYPES = {
    "U8": "u1",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
VERTEX_XY_UNIT = 1 / 32
"""vertex_xy is stored in 32nds of a pixel."""


@dataclass(frozen=True)
class Session:
    """Arrays of one session by name (see vivant.studio.dataset), and its metadata."""

    path: Path
    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(self.arrays["rotation"])

    @property
    def identity(self) -> int:
        return int(self.metadata["identity"])

    @property
    def size(self) -> int:
        """Side of the rendered pictures in pixels."""
        return int(self.arrays["rgba"].shape[1])


def open_session(path: Path) -> Session:
    """Map one session file. Raises InputError when it is not one."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", 8 + length)
        metadata = header.pop("__metadata__")
        arrays = {
            name: data[entry["data_offsets"][0] : entry["data_offsets"][1]]
            .view(_DTYPES[entry["dtype"]])
            .reshape(entry["shape"])
            for name, entry in header.items()
        }
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is not a studio session ({error}). Render it again with `vivant studio`."
        ) from error
    return Session(path, arrays, metadata)


def find_sessions(folder: Path, *, held_out: bool, num_held_out: int = 12) -> list[Session]:
    """All sessions of a folder in name order; identities below `num_held_out` are never trained on."""
    paths = sorted(folder.glob("[0-9]*.safetensors"))
    sessions = [open_session(path) for path in paths if (int(path.name[:4]) < num_held_out) == held_out]
    if not sessions:
        kind = "held-out" if held_out else "training"
        raise InputError(
            f"{folder} holds no {kind} sessions. Render some with `vivant studio render -o {folder}`."
        )
    return sessions
