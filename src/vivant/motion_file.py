"""Saved motion: what a driver did, frame by frame, in a file that can be replayed on any portrait.

A safetensors file with one tensor, `rows` float32 (T, W): each row holds the fields of one frame's Motion side by side,
and first a mark (see Mark). The header says which columns are which field, the family, its keypoints, the frame rate
and where the motion came from (docs/motion_files.md). It is written row by row and read row by row, so length costs no
memory. Knows no family: a Motion is whatever has `to_tensors` and `from_tensors`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vivant.errors import InputError
from vivant.media.staging import StagedFile, output_errors

FORMAT, VERSION = "vivant-motion", 1
SUFFIX = ".safetensors"
_HEADER_BYTES = 8192
"""Room that is kept for the header, whose length is known only at the end."""
_ROWS_AT_ONCE = 256


class Mark(IntEnum):
    """What a frame is."""

    MOVES = 0
    """It follows the one before."""
    RESTARTS = 1
    """A new shot begins: relative motion is relative to it."""
    MISSING = 2
    """No face was seen; the rest of the row is zero."""
    REFERS = 3
    """First row only, and no frame: what relative motion is relative to, instead of the first frame."""


@dataclass(frozen=True)
class Entry:
    """One frame."""

    mark: Mark
    motion: Any | None
    """A Motion of one frame; None where the face was missing."""


@dataclass(frozen=True, kw_only=True)
class MotionHeader:
    """What the file says about itself."""

    family: str
    keypoints: str
    """Which keypoints the motion is about: the motion of one set of networks means nothing to another."""
    frame_rate: Fraction
    source: str
    """Name of the clip that it was read from; no folder."""
    fields: Mapping[str, tuple[int, ...]]
    """Shapes per frame, in the order of the columns."""
    num_frames: int
    has_reference: bool
    """Whether a row before the first frame says what relative motion is relative to."""


class MotionWriter:
    """Writes a motion file row by row; the file appears when it is complete."""

    def __init__(
        self,
        path: Path,
        family: str,
        keypoints: str,
        frame_rate: Fraction,
        source: str,
        *,
        overwrite: bool = False,
    ) -> None:
        self._path = path
        self._about = (family, keypoints, frame_rate, source)
        self._fields: dict[str, tuple[int, ...]] = {}
        self._missing_before = 0
        self._count = 0
        self._staged = StagedFile(path, overwrite=overwrite)
        with output_errors(path):
            self._file: BinaryIO = self._staged.temporary.open("wb")
            self._file.write(b" " * _HEADER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
            self._staged.discard()

    def refer(self, motion: Any) -> None:
        """What relative motion is relative to, instead of the first frame; before any frame is written."""
        assert not self._count
        self._write(motion, Mark.REFERS)

    def write(self, motion: Any | None, *, restarts: bool = False) -> None:
        """The next frame: a Motion of one frame, or None where no face was seen."""
        if motion is None:
            if not self._fields:  # widths are not known yet
                self._missing_before += 1
                return
            row = torch.zeros(self._width)
            row[0] = Mark.MISSING
            self._put(row)
            return
        self._write(motion, Mark.RESTARTS if restarts else Mark.MOVES)

    def _write(self, motion: Any, mark: Mark) -> None:
        tensors = {name: tensor.detach().float().cpu() for name, tensor in motion.to_tensors().items()}
        if not self._fields:
            self._fields = {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()}
            for _ in range(self._missing_before):
                self.write(None)
        if {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()} != self._fields:
            raise ValueError(f"frames of one motion have the same fields, got {sorted(tensors)}")
        parts = [tensors[name][0].flatten() for name in self._fields]
        self._put(torch.cat([torch.tensor([float(mark)]), *parts]))

    def close(self) -> None:
        """Write the header and move the file into place. Raises InputError where no face was ever seen."""
        family, keypoints, frame_rate, source = self._about
        if not self._fields:
            self._file.close()
            self._staged.discard()
            raise InputError(f"{source} shows no face that could drive; nothing was recorded.")
        metadata = {
            "format": FORMAT,
            "version": str(VERSION),
            "family": family,
            "keypoints": keypoints,
            "frame_rate": str(frame_rate),
            "source": source,
            "fields": json.dumps({name: list(shape) for name, shape in self._fields.items()}),
        }
        size = 4 * self._count * self._width
        rows = {"dtype": "F32", "shape": [self._count, self._width], "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": metadata, "rows": rows}).encode()
        room = _HEADER_BYTES - 8
        assert len(header) <= room, "names and shapes fit the header"
        with output_errors(self._path):
            self._file.seek(0)
            self._file.write(struct.pack("<Q", room) + header.ljust(room))
            self._file.close()
        self._staged.commit()

    @property
    def _width(self) -> int:
        return 1 + sum(math.prod(shape) for shape in self._fields.values())

    def _put(self, row: Tensor) -> None:
        with output_errors(self._path):
            self._file.write(row.numpy().astype("<f4").tobytes())
        self._count += 1


class MotionFile:
    """A motion file, open for reading; rows are read when they are asked for."""

    def __init__(self, path: str | Path) -> None:
        """Raises InputError for what is missing, damaged, or something else."""
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path} does not exist; check the path.")
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                names = list(file.keys())
                rows = file.get_slice("rows") if names == ["rows"] else None
                shape = rows.get_shape() if rows is not None else []
                self.header = _parse(metadata, shape)
                if rows is not None and rows[0:1][0, 0] == Mark.REFERS:
                    self.header = replace(
                        self.header, num_frames=self.header.num_frames - 1, has_reference=True
                    )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(
                f"{path} is not a motion file ({error}); make one with `vivant motion record`."
            ) from error

    def __len__(self) -> int:
        return self.header.num_frames

    def check(self, family: str, keypoints: str) -> None:
        """Raises InputError where the motion is not about these keypoints."""
        header = self.header
        if (header.family, header.keypoints) != (family, keypoints):
            raise InputError(
                f"{self.path} holds the motion of {header.family} ({header.keypoints}), which means nothing to "
                f"{family} ({keypoints}); record it again with the preset that it shall drive."
            )

    def reference(self, motion_type: Any) -> Any | None:
        """What relative motion is relative to; None: the first frame."""
        if not self.header.has_reference:
            return None
        with safe_open(self.path, framework="pt") as file:
            return self._entry(file.get_slice("rows")[0:1][0], motion_type).motion

    def entries(self, motion_type: Any, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Frames start to stop, one after another, as Motions of `motion_type`. Raises InputError."""
        before = int(self.header.has_reference)
        start, stop = before + start, before + (len(self) if stop is None else min(stop, len(self)))
        with safe_open(self.path, framework="pt") as file:
            rows = file.get_slice("rows")
            for first in range(start, stop, _ROWS_AT_ONCE):
                for row in rows[first : min(first + _ROWS_AT_ONCE, stop)]:
                    yield self._entry(row, motion_type)

    def restarts(self) -> list[int]:
        """Frames with which a new shot begins."""
        before, found = int(self.header.has_reference), []
        with safe_open(self.path, framework="pt") as file:
            rows = file.get_slice("rows")
            for first in range(before, before + len(self), _ROWS_AT_ONCE):
                marks = rows[first : min(first + _ROWS_AT_ONCE, before + len(self)), 0:1]
                found += [first - before + i for i, mark in enumerate(marks) if mark == Mark.RESTARTS]
        return found

    def _entry(self, row: Tensor, motion_type: Any) -> Entry:
        try:
            mark = Mark(int(row[0]))
        except ValueError as error:
            raise InputError(f"{self.path} is damaged: {row[0].item()} marks no frame.") from error
        if mark is Mark.MISSING:
            return Entry(mark, None)
        values = row[1:].split([math.prod(shape) for shape in self.header.fields.values()])
        tensors = {
            name: value.reshape(1, *shape)
            for (name, shape), value in zip(self.header.fields.items(), values, strict=True)
        }
        try:
            return Entry(mark, motion_type.from_tensors(tensors))
        except ValueError as error:
            raise InputError(f"{self.path} does not fit this preset: {error}.") from error


def _parse(metadata: Mapping[str, str], shape: Sequence[int]) -> MotionHeader:
    if metadata.get("format") != FORMAT:
        raise ValueError("its header does not say that it is one")
    if metadata["version"] != str(VERSION):
        raise ValueError(f"its version is {metadata['version']}, known is {VERSION}")
    fields = {name: tuple(int(n) for n in dims) for name, dims in json.loads(metadata["fields"]).items()}
    width = 1 + sum(math.prod(dims) for dims in fields.values())
    if len(shape) != 2 or shape[1] != width or shape[0] < 1:
        raise ValueError(f"rows of {width} numbers are promised, the shape is {list(shape)}")
    try:
        rate = Fraction(metadata["frame_rate"])
    except ZeroDivisionError as error:
        raise ValueError(f"its frame rate is {metadata['frame_rate']}") from error
    if rate <= 0:
        raise ValueError(f"its frame rate is {rate}")
    return MotionHeader(
        family=metadata["family"],
        keypoints=metadata["keypoints"],
        frame_rate=rate,
        source=metadata["source"],
        fields=fields,
        num_frames=shape[0],
        has_reference=False,
    )
