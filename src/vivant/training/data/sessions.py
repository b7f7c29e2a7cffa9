"""Finding what the studio rendered for training. Sessions are memory-mapped: thousands of frames cost no memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vivant.errors import InputError
from vivant.studio.dataset import Session, SessionInfo, list_sessions
from vivant.studio.facts import unpacked
from vivant.studio.talking import list_clips

NUM_HELD_OUT = 12
"""Identities below this number are for evaluation and never trained on."""

_DTYPES = {"U8": "u1", "I16": "<i2", "I32": "<i4", "F32": "<f4"}
_LISTS = ("keypoint_names", "expression_names", "part_names")


def map_session(path: Path) -> Session:
    """The session at `path`, its arrays read from disk when touched. Raises InputError when it is not one."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", 8 + length)
        metadata = unpacked(header.pop("__metadata__"))
        for name in _LISTS:
            metadata[name] = tuple(metadata[name])
        arrays = {
            name: np.asarray(data[slice(*entry["data_offsets"])])
            .view(_DTYPES[entry["dtype"]])
            .reshape(entry["shape"])
            for name, entry in header.items()
        }
        return Session(SessionInfo(**metadata), **arrays)
    except (OSError, struct.error, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a studio session ({error}). Render it again with `vivant studio`."
        ) from error


class FromSessions:
    """A recipe that learns from sessions of single frames. Others say in their own `find_data` what they learn from."""

    def find_data(self, folder: Path) -> Sequence[Any]:
        """What `build` takes, from the folder that the user named. Raises InputError where there is none."""
        return find_sessions(folder, held_out=False)


def find_sessions(folder: Path, *, held_out: bool) -> list[Session]:
    """All sessions of a folder in name order, either those for evaluation or those for training."""
    paths = [p for p in list_sessions(folder) if (int(p.name.split("_")[0]) < NUM_HELD_OUT) == held_out]
    if not paths:
        kind = "held-out" if held_out else "training"
        raise InputError(f"{folder} holds no {kind} sessions. Render some with `vivant studio render`.")
    return [map_session(path) for path in paths]


def find_talking_clips(folder: Path) -> list[Path]:
    """Talking clips of people that evaluation never uses. Raises InputError where there are none."""
    paths = [path for path in list_clips(folder) if int(path.name.split(".")[0]) >= NUM_HELD_OUT]
    if not paths:
        raise InputError(f"{folder} holds no training clips. Render some with `vivant studio talk`.")
    return paths
