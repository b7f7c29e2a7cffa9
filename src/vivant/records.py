"""Dataclasses to plain data and back: strict JSON trees, with the tensors set aside in a flat dict.

Configs, options, states and motions are all saved this way, so nothing in this project is ever pickled. The
type hints of the dataclass are the schema: an unknown key, a missing key or a value of the wrong type
raises. This file knows no family and touches no disk.
"""

from __future__ import annotations

import dataclasses
import types
from fractions import Fraction
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

Record = TypeVar("Record")

_TENSOR = "$tensor"
_GENERATOR = "$generator"


def to_data(value: Any, tensors: dict[str, Tensor] | None = None, path: str = "") -> Any:
    """Turn a dataclass (or scalar, fraction, tuple, list, dict) into JSON-able data.

    Tensors, arrays and random generators go into `tensors` under dotted names, as detached copies; where `tensors`
    is None they are refused with a ValueError.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, (Tensor, np.ndarray, torch.Generator)):
        if tensors is None:
            raise ValueError(f"{path or 'value'} holds a {type(value).__name__}, which plain data cannot")
        if isinstance(value, torch.Generator):
            tensors[path] = value.get_state()
            return {_GENERATOR: path}
        if isinstance(value, np.ndarray):
            tensors[path] = torch.from_numpy(value.copy())
        else:
            tensors[path] = value.detach().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return {name: to_data(getattr(value, name), tensors, _join(path, name)) for name in names}
    if isinstance(value, (tuple, list)):
        return [to_data(item, tensors, _join(path, str(index))) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): to_data(item, tensors, _join(path, str(key))) for key, item in value.items()}
    raise ValueError(f"{path or 'value'} is a {type(value).__name__}, which cannot be saved")


def from_data(
    record_type: type[Record], data: Any, tensors: dict[str, Tensor] | None = None, device: str = "cpu"
) -> Record:
    """Build a `record_type` from what `to_data` made. Raises ValueError that names the offending key."""
    made = _decode(record_type, data, tensors or {}, device, "")
    assert isinstance(made, record_type)
    return made


def decode_fields(
    record_type: type,
    data: Any,
    tensors: dict[str, Tensor],
    device: str,
    *,
    skip: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """The constructor arguments of `record_type` found in `data`, without those in `skip`."""
    return _decode_fields(record_type, data, tensors, device, "", skip)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _decode_fields(
    record_type: type, data: Any, tensors: dict[str, Tensor], device: str, path: str, skip: frozenset[str]
) -> dict[str, Any]:
    where = path or record_type.__name__
    if not isinstance(data, dict):
        raise ValueError(f"{where} should be a table of settings, got {data!r}")
    fields = [field for field in dataclasses.fields(record_type) if field.init and field.name not in skip]
    names = {field.name for field in fields}
    if unknown := sorted(set(data) - names):
        raise ValueError(f"{where} has unknown {', '.join(unknown)}; known are {', '.join(sorted(names))}")
    # What an older file could not know yet: only fields that say None stands for "not there".
    optional = {field.name for field in fields if field.default is None}
    if missing := sorted(names - set(data) - optional):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    hints = get_type_hints(record_type)
    return {
        name: _decode(hints[name], data.get(name), tensors, device, _join(path, name))
        for name in sorted(names)
    }


def _decode(hint: Any, data: Any, tensors: dict[str, Tensor], device: str, path: str) -> Any:
    """One value of type `hint`. The order of the tests matters only for bool, which is also an int."""
    where = path or "value"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        members = [member for member in arguments if member is not type(None)]
        return _decode(_member(members, data, where), data, tensors, device, path)
    if origin is Literal:
        if data not in arguments:
            raise ValueError(f"{where} should be one of {', '.join(map(repr, arguments))}, got {data!r}")
        return data
    if origin in (tuple, list, dict):
        return _decode_container(origin, arguments, data, tensors, device, path)
    if hint in (Tensor, np.ndarray, torch.Generator):
        return _decode_tensor(hint, data, tensors, device, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint(**_decode_fields(hint, data, tensors, device, path, frozenset()))
    if hint is float and isinstance(data, (int, float)) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError as error:  # a whole number of hundreds of digits
            raise ValueError(f"{where} is too large a number") from error
    if hint in (bool, int, str) and type(data) is hint:
        return data
    if hint is Fraction and isinstance(data, str):
        return Fraction(data)
    raise ValueError(f"{where} should be {getattr(hint, '__name__', hint)}, got {data!r}")


def _member(members: list[Any], data: Any, where: str) -> Any:
    """The one of a union that is meant: of several dataclasses, that with the names which were saved."""
    if len(members) == 1:
        return members[0]
    if not all(isinstance(member, type) and dataclasses.is_dataclass(member) for member in members):
        raise TypeError(f"{where}: a union of {len(members)} types cannot be saved")
    found = set(data) if isinstance(data, dict) else set()
    # Nearest, so that a misspelt name is named where it belongs.
    return max(members, key=lambda member: len(found & {field.name for field in dataclasses.fields(member)}))


def _decode_container(
    origin: type, arguments: tuple, data: Any, tensors: dict[str, Tensor], device: str, path: str
) -> Any:
    where = path or "value"
    if origin is dict:
        if not isinstance(data, dict):
            raise ValueError(f"{where} should be a table, got {data!r}")
        return {
            key: _decode(arguments[1], item, tensors, device, _join(path, key)) for key, item in data.items()
        }
    if not isinstance(data, list):
        raise ValueError(f"{where} should be a list, got {data!r}")
    if origin is list or arguments[-1] is Ellipsis:
        hints = [arguments[0]] * len(data)
    else:
        hints = list(arguments)
    if len(hints) != len(data):
        raise ValueError(f"{where} should have {len(hints)} entries, got {len(data)}")
    items = (
        _decode(hint, item, tensors, device, _join(path, str(index)))
        for index, (hint, item) in enumerate(zip(hints, data, strict=True))
    )
    return origin(items)


def _decode_tensor(hint: Any, data: Any, tensors: dict[str, Tensor], device: str, where: str) -> Any:
    mark = _GENERATOR if hint is torch.Generator else _TENSOR
    if not isinstance(data, dict) or set(data) != {mark} or data[mark] not in tensors:
        raise ValueError(f"{where} should be a saved {hint.__name__}, got {data!r}")
    saved = tensors[data[mark]]
    if hint is Tensor:
        return saved.to(device)
    if hint is np.ndarray:
        return saved.numpy(force=True)
    generator = torch.Generator(device=device)
    generator.set_state(saved.cpu())
    return generator
