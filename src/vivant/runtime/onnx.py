"""Network methods as ONNX files for stock onnxruntime, and such files as callables with the same signature.

A method takes and gives tensors, tuples and dataclasses of tensors. In a file they lie flat under dotted names
("source.rotation"), without those that the graph does not use. A file is made for one frame; more frames are run one
after another. float32, on the CPU. Knows no family.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from vivant.errors import SetupError

OPSET = 18
"""The oldest with everything that is needed, so that older runtimes can read the files."""


@dataclass(frozen=True)
class Port:
    """One input or output of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str


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
    """The tensors in a tensor, tuple or dataclass, with dotted names; None holds none."""
    if isinstance(value, Tensor):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from named_tensors(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from named_tensors(item, f"{name}.{index}")
    elif value is not None:
        raise TypeError(f"{name} is a {type(value).__name__}, which an ONNX file cannot take or give")


def export_method(networks: nn.Module, name: str, arguments: Sequence[Any], path: Path) -> Ports:
    """Write one method as an ONNX file (weights inside, float32), as called with these arguments of one frame."""
    method = _Flat(networks, name, arguments)
    names = [key for key, _ in method.given]
    tensors = tuple(tensor.contiguous() for _, tensor in method.given)
    with _quiet(), torch.no_grad():
        outputs = list(named_tensors(find_method(networks, name)(*arguments), "output"))
        program = torch.onnx.export(
            method.eval(),
            tensors,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=[key for key, _ in outputs],
            verbose=False,
        )
        assert program is not None
        graph = program.model.graph
        for value in [value for value in graph.inputs if not value.uses()]:
            graph.inputs.remove(value)
        program.save(path, external_data=False)
    used = {value.name for value in graph.inputs}
    inputs = [(key, tensor) for key, tensor in method.given if key in used]
    return Ports(tuple(names), *(tuple(_port(*pair) for pair in pairs) for pairs in (inputs, outputs)))


def onnx_method(path: Path, ports: Ports, like: Callable[..., Any]) -> Callable[..., Any]:
    """The file as a callable with the signature of `like`, the method that it was made from."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; it warns of initialisers that its own folding left over
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result = get_type_hints(like)["return"]
    parameters = signature(like)

    def run(given: Mapping[str, Tensor], frame: int) -> list[Tensor]:
        feed = {}
        for port in ports.inputs:
            tensor = given[port.name]
            one = tensor if len(tensor) == 1 else tensor[frame : frame + 1]
            feed[port.name] = one.detach().float().contiguous().numpy()
        return [torch.from_numpy(array) for array in session.run(None, feed)]

    @wraps(like)
    def call(*args: Any, **named: Any) -> Any:
        bound = parameters.bind(*args, **named).arguments
        given = {key: tensor for name, value in bound.items() for key, tensor in named_tensors(value, name)}
        if unknown := given.keys() - set(ports.arguments):
            raise ValueError(f"{path.name} was made for a call without {', '.join(sorted(unknown))}")
        frames = max(len(given[port.name]) for port in ports.inputs)
        rows = [run(given, frame) for frame in range(frames)]
        return _structured(result, ports.outputs, [torch.cat(row) for row in zip(*rows, strict=True)])

    return call


def _structured(hint: Any, outputs: Sequence[Port], tensors: list[Tensor]) -> Any:
    """Flat outputs as what the method's annotation promises."""
    if hint is Tensor:
        return tensors[0]
    if get_origin(hint) is tuple:
        return tuple(tensors)
    return hint(**{port.name.split(".")[1]: tensor for port, tensor in zip(outputs, tensors, strict=True)})


class _Flat(nn.Module):
    """A method with flat arguments."""

    def __init__(self, networks: nn.Module, name: str, arguments: Sequence[Any]) -> None:
        super().__init__()
        owner, _, self.name = name.rpartition(".")
        self.owner = networks.get_submodule(owner)
        parameters = signature(find_method(networks, name)).bind(*arguments).arguments
        self.parameters_like = dict(parameters)
        self.given = [pair for key, value in parameters.items() for pair in named_tensors(value, key)]

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


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's libraries report on what is no news to a user: torchvision is missing, say."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
