"""Network methods as ONNX files for stock onnxruntime, and such files as callables with the same signature.

A method takes and gives tensors, tuples, lists and dataclasses of tensors. In a file they lie flat under dotted names
("source.rotation"), without those that the graph does not use. A file is made for one frame; more frames are run one
after another. Sizes are fixed, but for those that differ between the two calls that a method is exported from: they may
be any multiple of what the two have in common. float32, on the CPU. Knows no family.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from vivant.errors import InputError, SetupError

OPSET = 18
"""The oldest with everything that is needed, so that older runtimes can read the files."""
_Dynamic: TypeAlias = dict[str, dict[int, str]]
"""By input: names of sizes that may differ, by dimension."""
MAX_BYTES_INSIDE = 1 << 30
"""Larger weights lie in a file beside the graph: protobuf ends at 2 GiB."""


@dataclass(frozen=True)
class Port:
    """One input or output of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    multiple_of: int | None = None
    """The dimension, if any, that may be any multiple of what `shape` says: the same multiple in all inputs."""

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape can be given, for one frame or several."""
        return len(shape) == len(self.shape) and all(
            size % said == 0 if number == self.multiple_of else size == said
            for number, (size, said) in enumerate(zip(shape, self.shape, strict=True))
            if number > 0
        )


@dataclass(frozen=True)
class Ports:
    """What goes into a file and comes out of it."""

    arguments: tuple[str, ...]
    """Every tensor that the method takes, used or not."""
    inputs: tuple[Port, ...]
    """Those that the graph uses."""
    outputs: tuple[Port, ...]


def check_installed(*packages: str) -> None:
    """Raise SetupError with the command that installs them, unless the packages are there."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise SetupError(f"ONNX needs {' and '.join(missing)}; run `python -m pip install 'vivant[export]'`.")


def find_method(networks: nn.Module, name: str) -> Callable[..., Any]:
    """The method of a dotted name, such as "generate" or "stitching.open_eyes"."""
    owner, _, method = name.rpartition(".")
    return getattr(networks.get_submodule(owner), method)


def replace_method(networks: nn.Module, name: str, method: Callable[..., Any]) -> None:
    """Put another callable in the place of the method of a dotted name."""
    owner, _, attribute = name.rpartition(".")
    setattr(networks.get_submodule(owner), attribute, method)


def named_tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a tensor, tuple, list or dataclass, with dotted names.

    None holds none, nor does a switch of a dataclass that stands as it does by default.
    """
    if isinstance(value, Tensor):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            held = getattr(value, field.name)
            if not (isinstance(held, bool) and held == field.default):
                yield from named_tensors(held, f"{name}.{field.name}")
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from named_tensors(item, f"{name}.{index}")
    elif value is not None:
        raise TypeError(f"{name} is a {type(value).__name__}, which an ONNX file cannot take or give")


def export_method(
    networks: nn.Module, name: str, arguments: Sequence[Any], others: Sequence[Any], path: Path
) -> Ports:
    """Write one method as an ONNX file (float32), as called with these arguments of one frame.

    others: those of another call; what differs in size may differ in the file. Weights are inside, or where they are
    large in a file of the same name and `.data`.
    """
    method = _Flat(networks, name, arguments)
    names = tuple(key for key, _ in method.given)
    like = _Flat(networks, name, others).given
    given = [_input(key, one, other) for (key, one), (_, other) in zip(method.given, like, strict=True)]
    grows = {port.name: _dynamic(port) for port in given if port.multiple_of is not None}
    with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        outputs = list(named_tensors(find_method(networks, name)(*arguments), "output"))
        made = Path(scratch) / path.name
        write = _trace if getattr(networks, "export_by_tracing", False) else _translate
        write(method.eval(), made, [key for key, _ in outputs], grows)
        used = _finish(made, path)
    return Ports(names, tuple(port for port in given if port.name in used), tuple(_port(*o) for o in outputs))


def _translate(method: _Flat, path: Path, outputs: list[str], grows: _Dynamic) -> None:
    assert not grows, "sizes that differ are for networks that are exported by tracing"
    program = torch.onnx.export(
        method,
        method.tensors(),
        dynamo=True,
        opset_version=OPSET,
        input_names=[key for key, _ in method.given],
        output_names=outputs,
        verbose=False,
    )
    assert program is not None
    program.save(path, external_data=False)


def _trace(method: _Flat, path: Path, outputs: list[str], grows: _Dynamic) -> None:
    """The older exporter. It knows fewer operators, but is done with thousands of them in seconds (decision 24)."""
    torch.onnx.export(
        method,
        method.tensors(),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=[key for key, _ in method.given],
        output_names=outputs,
        dynamic_axes=grows,
    )


def _finish(made: Path, path: Path) -> set[str]:
    """The file without inputs that the graph does not use, under its final name; those that it uses."""
    import onnx

    model = onnx.load(made)
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for value in [value for value in graph.input if value.name not in used]:
        graph.input.remove(value)
    outside = sum(len(weight.raw_data) for weight in graph.initializer) > MAX_BYTES_INSIDE
    onnx.save_model(model, path, save_as_external_data=outside, location=weights_beside(path).name)
    return {value.name for value in graph.input}


def weights_beside(path: Path) -> Path:
    """Where the weights of a file are that are too large to be inside."""
    return path.with_suffix(".data")


def onnx_method(path: Path, ports: Ports, like: Callable[..., Any]) -> Callable[..., Any]:
    """The file as a callable with the signature of `like`, the method that it was made from.

    Raises InputError for tensors of a size that it was not made for.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; it warns of initialisers that its own folding left over
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result = get_type_hints(like)["return"]
    parameters = signature(like)
    needed = {port.name for port in ports.inputs}

    def run(given: Mapping[str, Tensor], frame: int) -> list[Tensor]:
        feed = {}
        for port in ports.inputs:
            tensor = given[port.name]
            one = tensor if len(tensor) == 1 else tensor[frame : frame + 1]
            feed[port.name] = one.detach().to(getattr(torch, port.dtype)).contiguous().numpy()
        return [torch.from_numpy(array) for array in session.run(None, feed)]

    @wraps(like)
    def call(*args: Any, **named: Any) -> Any:
        bound = parameters.bind(*args, **named).arguments
        given = {key: tensor for name, value in bound.items() for key, tensor in named_tensors(value, name)}
        unknown, missing = given.keys() - set(ports.arguments), needed - given.keys()
        if unknown or missing:
            names = ", ".join(sorted(unknown | missing))
            raise ValueError(f"{path.name} was made for a call {'without' if unknown else 'with'} {names}")
        for port in ports.inputs:
            if not port.fits(given[port.name].shape):
                raise InputError(
                    f"{path.name} was exported for {port.name} of {_sizes(port.shape)}, got "
                    f"{_sizes(given[port.name].shape)}; give a picture of that size, or leave the runtime onnx out"
                )
        frames = max(len(given[port.name]) for port in ports.inputs)
        rows = [run(given, frame) for frame in range(frames)]
        tensors = [torch.cat(row) for row in zip(*rows, strict=True)]
        by_name = {port.name: tensor for port, tensor in zip(ports.outputs, tensors, strict=True)}
        return _structured(result, by_name, "output")

    return call


def _structured(hint: Any, tensors: Mapping[str, Tensor], name: str) -> Any:
    """Flat outputs as what the method's annotation promises."""
    if name in tensors:
        return tensors[name]
    depth = name.count(".") + 1
    below = list(dict.fromkeys(key.split(".")[depth] for key in tensors if key.startswith(f"{name}.")))
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{key: _structured(hints[key], tensors, f"{name}.{key}") for key in below})  # type: ignore[operator]
    inner = get_args(hint)
    items = [
        _structured(inner[min(i, len(inner) - 1)], tensors, f"{name}.{key}") for i, key in enumerate(below)
    ]
    return get_origin(hint)(items)


class _Flat(nn.Module):
    """A method with flat arguments."""

    def __init__(self, networks: nn.Module, name: str, arguments: Sequence[Any]) -> None:
        super().__init__()
        owner, _, self.name = name.rpartition(".")
        self.owner = networks.get_submodule(owner)
        parameters = signature(find_method(networks, name)).bind(*arguments).arguments
        self.parameters_like = dict(parameters)
        self.given = [pair for key, value in parameters.items() for pair in named_tensors(value, key)]

    def tensors(self) -> tuple[Tensor, ...]:
        """What is given, as the exporter takes it."""
        return tuple(tensor.contiguous() for _, tensor in self.given)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        by_name = {key: tensor for (key, _), tensor in zip(self.given, tensors, strict=True)}
        arguments = {key: _filled(value, key, by_name) for key, value in self.parameters_like.items()}
        output = getattr(self.owner, self.name)(**arguments)
        return tuple(tensor for _, tensor in named_tensors(output, "output"))


def _filled(like: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    """The structure of `like` with other tensors."""
    if isinstance(like, Tensor):
        return tensors[name]
    if is_dataclass(like) and not isinstance(like, type):
        values = {f.name: _filled(getattr(like, f.name), f"{name}.{f.name}", tensors) for f in fields(like)}
        return replace(like, **values)
    if isinstance(like, (tuple, list)):
        return tuple(_filled(item, f"{name}.{index}", tensors) for index, item in enumerate(like))
    return like


def _port(name: str, tensor: Tensor) -> Port:
    return Port(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _input(name: str, tensor: Tensor, other: Tensor) -> Port:
    """Of two calls' tensors: what they have in common."""
    differing = [
        number for number, (a, b) in enumerate(zip(tensor.shape, other.shape, strict=True)) if a != b
    ]
    if not differing:
        return _port(name, tensor)
    (number,) = differing
    shape = list(tensor.shape)
    shape[number] = math.gcd(shape[number], other.shape[number])
    return replace(_port(name, tensor), shape=tuple(shape), multiple_of=number)


def _dynamic(port: Port) -> dict[int, str]:
    """As torch's exporter and readers of the file know it."""
    assert port.multiple_of is not None
    return {port.multiple_of: f"n*{port.shape[port.multiple_of]}"}


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports on what is no news to a user: what it folded, what tracing fixed. Files are checked."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            tracing = torch.jit.TracerWarning  # type: ignore[attr-defined]  # public, but not listed
            for category in (FutureWarning, DeprecationWarning, tracing):
                warnings.simplefilter("ignore", category)
            warnings.filterwarnings("ignore", "Constant folding", UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
