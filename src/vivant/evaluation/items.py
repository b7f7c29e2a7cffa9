"""What was measured on one portrait under one clip, and files of it, so that a run goes on where it was stopped.

An item's file is named by everything that its numbers follow from. One that is there is never measured again; one
that is not whole never gets its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vivant.errors import InputError
from vivant.media.staging import StagedFile, output_errors

THUMB_PX = 128


@dataclass(frozen=True, kw_only=True)
class Item:
    """One animation, measured."""

    source: str
    clip: str
    numbers: Mapping[str, float]
    """By metric; nan where it could not be measured."""
    num_frames: int
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(P, 2): frame index and value."""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(N, D), for distances of the whole set."""
    thumbs: Mapping[str, np.ndarray] = field(default_factory=dict)
    """uint8 (K, THUMB_PX, THUMB_PX, 3): source, target, output."""


def key_of(parts: Mapping[str, Any]) -> str:
    """A name for what follows from these parts, JSON-able."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


class ItemFolder:
    """Items on disk; or nowhere, where folder is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            with output_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> Item | None:
        """The item of that key, if it was measured before. Raises InputError where its file is damaged."""
        if self.folder is None or not (path := self._path(self.folder, key)).is_file():
            return None
        try:
            with safe_open(path, framework="np") as file:
                header = json.loads((file.metadata() or {})["item"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                f"{path} is not a measured item ({error}); remove it to measure it again"
            ) from error
        groups: dict[str, dict[str, np.ndarray]] = {"curves": {}, "features": {}, "thumbs": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor
        numbers = {
            name: float("nan") if value is None else value for name, value in header["numbers"].items()
        }
        return Item(
            source=header["source"],
            clip=header["clip"],
            num_frames=header["num_frames"],
            numbers=numbers,
            curves=groups["curves"],
            features=groups["features"],
            thumbs=groups["thumbs"],
        )

    def write(self, key: str, item: Item) -> None:
        if self.folder is None:
            return
        groups = {"curves": item.curves, "features": item.features, "thumbs": item.thumbs}
        tensors = {
            f"{group}.{name}": np.ascontiguousarray(tensor)
            for group, named in groups.items()
            for name, tensor in named.items()
        }
        header = {
            "source": item.source,
            "clip": item.clip,
            "num_frames": item.num_frames,
            "numbers": {name: value if np.isfinite(value) else None for name, value in item.numbers.items()},
        }
        staged = StagedFile(self._path(self.folder, key), overwrite=True)
        with output_errors(staged.path):
            save_file(tensors, staged.temporary, {"item": json.dumps(header)})
        staged.commit()

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / f"{key}.safetensors"
