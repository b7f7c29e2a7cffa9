"""Motion templates of the published program: pickles, read without running anything that is in them.

A pickle can name any function and have it called. Here every name but those that rebuild numpy arrays is refused,
and those stand for holders of our own that only keep bytes; no numpy or other code is reached. The pure-Python
unpickler is used because its memo grows with what is stored, not with the largest number written in the file.
Fields: section 3.9 of the published code's motion templates, in both spellings.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vivant.engines.liveportrait.motion import Motion
from vivant.errors import InputError

MAX_BYTES = 500_000_000
MAX_FRAMES = 1_000_000
NUM_KEYPOINTS = 21
_KINDS = re.compile(r"[<>|=]?[fiub][1248]")
_SPELLINGS = {"R": "R_d", "c_eyes_lst": "c_d_eyes_lst", "c_lip_lst": "c_d_lip_lst"}


class _Kind:
    """Stands for numpy.dtype."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        if not isinstance(name, str) or not _KINDS.fullmatch(name):
            raise pickle.UnpicklingError(f"arrays of {name!r}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a strange kind of array")
        self.order = state[1] if state[1] in "<>" else "<"


class _Array:
    """Stands for numpy.ndarray: shape, kind and bytes."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("a strange array")
        _, shape, kind, is_fortran, raw = state
        if not isinstance(kind, _Kind) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("a strange array")
        if not all(isinstance(n, int) and 0 <= n <= MAX_FRAMES for n in shape) or len(shape) > 4:
            raise pickle.UnpicklingError(f"an array of shape {shape}")
        flat = _numbers(raw, kind)
        if flat.size != int(np.prod(shape, dtype=np.int64)):
            raise pickle.UnpicklingError(f"{flat.size} numbers for the shape {shape}")
        self.value = flat.reshape(shape, order="F" if is_fortran else "C")


def _numbers(raw: bytes, kind: _Kind) -> np.ndarray:
    size = int(kind.name[-1])
    if len(raw) % size:
        raise pickle.UnpicklingError("a torn array")
    return np.frombuffer(raw, np.dtype(kind.order + kind.name[-2:]))


class _ArrayClass:
    """Stands for the class itself, which is only ever handed to _reconstruct."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """Stands for numpy's _frombuffer, by which protocol 5 writes arrays."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", bytes(raw) if isinstance(raw, bytearray) else raw))
    return array


def _scalar(kind: Any, raw: Any) -> float:
    if not isinstance(kind, _Kind) or not isinstance(raw, bytes):
        raise pickle.UnpicklingError("a strange number")
    numbers = _numbers(raw, kind)
    if numbers.size != 1:
        raise pickle.UnpicklingError("a strange number")
    return float(numbers[0])


def _encode(text: Any, *_: Any) -> bytes:
    """Stands for _codecs.encode, by which old protocols write bytes."""
    if not isinstance(text, str):
        raise pickle.UnpicklingError("strange bytes")
    return text.encode("latin-1")


_TROUBLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a damaged or hostile pickle provokes in an unpickler."""

_ALLOWED: dict[tuple[str, str], Any] = {("numpy", "dtype"): _Kind, ("numpy", "ndarray"): _ArrayClass}
for _home in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED |= {(_home, "_reconstruct"): _reconstruct, (_home, "scalar"): _scalar}
for _home in ("numpy.core.numeric", "numpy._core.numeric"):
    _ALLOWED[_home, "_frombuffer"] = _from_buffer
_ALLOWED["_codecs", "encode"] = _encode


class _Reader(pickle._Unpickler):
    """Knows the names above and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which has no place in a template")
        return _ALLOWED[module, name]


@dataclass(frozen=True)
class Template:
    """A template that was read."""

    frame_rate: Fraction
    motions: tuple[Motion, ...]
    """Of one frame each, for the published networks. The neutral shape is zero where the file has none; driving a
    portrait does not need it."""

    def __iter__(self) -> Iterator[Motion]:
        return iter(self.motions)


def read_template(path: Path) -> Template:
    """Read a published motion template (.pkl). Nothing in it is run. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB; a template is not.")
    try:
        data = _Reader(io.BytesIO(path.read_bytes())).load()
        return _template(data)
    except _TROUBLE as error:
        raise InputError(f"{path} is not a motion template of LivePortrait: {error}.") from error


def _template(data: Any) -> Template:
    if not isinstance(data, dict) or not isinstance(data.get("motion"), list) or not data["motion"]:
        raise ValueError("it holds no motion")
    frames = data["motion"]
    if len(frames) > MAX_FRAMES:
        raise ValueError(f"it has {len(frames)} frames")
    eyes, lips = _either(data, "c_eyes_lst"), _either(data, "c_lip_lst")
    rate = data.get("output_fps", 25)
    if not isinstance(rate, (int, float)) or not 0 < rate <= 1000:
        raise ValueError(f"its frame rate is {rate!r}")
    motions = []
    for index, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise ValueError(f"frame {index} is no frame")
        motions.append(
            Motion(
                rotation=_tensor(_either(frame, "R"), (1, 3, 3), f"R of frame {index}"),
                expression=_tensor(frame.get("exp"), (1, NUM_KEYPOINTS, 3), f"exp of frame {index}"),
                scale=_tensor(frame.get("scale"), (1, 1), f"scale of frame {index}"),
                translation=_tensor(frame.get("t"), (1, 3), f"t of frame {index}"),
                canonical=_tensor(frame["kp"], (1, NUM_KEYPOINTS, 3), f"kp of frame {index}")
                if "kp" in frame
                else torch.zeros(1, NUM_KEYPOINTS, 3),
                eyes_open=_tensor(_item(eyes, index), (1, 2), f"eyes of frame {index}") if eyes else None,
                lips_open=_tensor(_item(lips, index), (1, 1), f"lips of frame {index}") if lips else None,
            )
        )
    return Template(Fraction(rate).limit_denominator(1001), tuple(motions))


def _either(record: dict[Any, Any], name: str) -> Any:
    return record.get(name, record.get(_SPELLINGS[name]))


def _item(values: Any, index: int) -> Any:
    if not isinstance(values, list) or index >= len(values):
        raise ValueError(f"openness is missing from frame {index} on")
    return values[index]


def _tensor(value: Any, shape: tuple[int, ...], what: str) -> Tensor:
    if not isinstance(value, _Array) or value.value.size != int(np.prod(shape)):
        raise ValueError(f"{what} is not an array of shape {shape}")
    tensor = torch.from_numpy(value.value.astype(np.float32).reshape(shape))
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{what} is not finite")
    return tensor
