"""A checkpoint as a folder of ONNX files, and that folder as an Engine.

    checkpoint --load, fold--> networks --one file per method--> DIR: config.json, onnx.json, generate.onnx, ...

Each file is run by onnxruntime and compared with the networks as they were loaded before the folder gets its name.
`config.json` is the checkpoint's own, so the folder says which weights it was made from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vivant import __version__, checkpoint, records
from vivant.engine import Engine
from vivant.engines import engine_class
from vivant.errors import CheckpointError, InputError, VivantError
from vivant.media.staging import StagedFolder, output_errors
from vivant.runtime import onnx

MANIFEST = "onnx.json"
FORMAT = 1
MAX_ERROR = 1e-3
"""Largest difference from the networks, relative to the largest output where that is above 1."""

Progress = Callable[[int, int | None, str], None]
"""Called with methods done, methods in all, and the next one's name."""


@dataclass(frozen=True, kw_only=True)
class ExportedMethod:
    """One file."""

    file: str
    sha256: str
    max_error: float
    """Measured, see MAX_ERROR."""
    ports: onnx.Ports
    data_sha256: str | None = None
    """Of the weights in the file beside it, where they are too large to be inside."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What lies in the folder."""

    format: int
    family: str
    dtype: str
    opset: int
    vivant: str
    torch: str
    methods: dict[str, ExportedMethod]
    """By dotted name below the networks."""


def export(
    source: Path,
    folder: Path,
    *,
    sha256: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Write the networks of the checkpoint in `source` as ONNX files into `folder`.

    Args:
        sha256: what the weights must hash to; see checkpoint.load.
        overwrite: replace a folder that an earlier export wrote.

    Raises SetupError without the extra, InputError for a family or folder that cannot be used, CheckpointError for bad
    weights.
    """
    onnx.check_installed("onnx", "onnxscript", "onnxruntime")
    family = engine_class(checkpoint.read_config(source)["family"])
    staged = StagedFolder(folder, ".onnx", ".data", ".json", overwrite=overwrite)
    try:
        config, networks = checkpoint.load(source, family.config_type, family.build_networks, sha256=sha256)
        engine = family(config, networks)
        with torch.no_grad():
            calls, others = engine.network_calls(0), engine.network_calls(1)
            expected = {name: onnx.find_method(networks, name)(*others[name]) for name in others}
        if not calls:
            raise InputError(
                f"the networks of {family.family} cannot be exported yet; choose liveportrait or personalive."
            )
        family.fold_networks_for_export(networks)
        methods = {}
        for index, name in enumerate(calls):
            if progress is not None:
                progress(index, len(calls), name)
            with output_errors(folder):
                path = staged.temporary / f"{name}.onnx"
                ports = onnx.export_method(networks, name, calls[name], others[name], path)
            methods[name] = _checked(
                path, ports, onnx.find_method(networks, name), others[name], expected[name]
            )
        manifest = Manifest(
            format=FORMAT,
            family=family.family,
            dtype="float32",
            opset=onnx.OPSET,
            vivant=__version__,
            torch=torch.__version__,
            methods=methods,
        )
        with output_errors(folder):
            text = json.dumps(records.to_data(manifest), indent=2) + "\n"
            (staged.temporary / MANIFEST).write_text(text, encoding="utf-8")
            shutil.copyfile(source / checkpoint.CONFIG, staged.temporary / checkpoint.CONFIG)
        staged.commit()
    finally:
        staged.discard()
    return manifest


def _checked(
    path: Path, ports: onnx.Ports, like: Callable[..., Any], arguments: tuple[Any, ...], expected: Any
) -> ExportedMethod:
    """The entry of a file that answers as expected. Raises VivantError for one that does not."""
    error = _difference(onnx.onnx_method(path, ports, like)(*arguments), expected)
    if not error <= MAX_ERROR:
        raise VivantError(f"{path.stem} differs by {error:.1e} under onnxruntime; please report this.")
    beside = onnx.weights_beside(path)
    return ExportedMethod(
        file=path.name,
        sha256=checkpoint.sha256_of(path),
        max_error=error,
        ports=ports,
        data_sha256=checkpoint.sha256_of(beside) if beside.exists() else None,
    )


def load_exported(folder: Path) -> Engine[Any, Any, Any, Any, Any]:
    """The Engine of an exported folder: every network method runs on onnxruntime.

    Raises SetupError without the extra, CheckpointError where files are missing, damaged or of another version.
    """
    onnx.check_installed("onnxruntime")
    header = checkpoint.read_config(folder)
    manifest = _read_manifest(folder)
    family = engine_class(header["family"])
    try:
        config: Any = records.from_data(family.config_type, header["config"])
    except ValueError as error:
        raise CheckpointError(f"{folder / checkpoint.CONFIG}: {error}") from error
    networks = checkpoint.unfilled(config, family.build_networks).eval()
    # Without weights: what was not exported fails instead of answering from numbers that nobody filled in.
    kept = networks.state_dict().keys()
    for name, tensor in [*networks.named_parameters(), *networks.named_buffers()]:
        if name in kept:
            tensor.data = tensor.new_empty(0)
    for name, method in manifest.methods.items():
        path = folder / method.file
        _check(path, method.sha256)
        if method.data_sha256 is not None:
            _check(onnx.weights_beside(path), method.data_sha256)
        like = onnx.find_method(networks, name)
        onnx.replace_method(networks, name, onnx.onnx_method(path, method.ports, like))
    return family(config, networks)


def _check(path: Path, sha256: str) -> None:
    if not path.is_file() or checkpoint.sha256_of(path) != sha256:
        raise CheckpointError(f"{path} is missing or damaged; run `vivant export` again")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        manifest = records.from_data(Manifest, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} has no {MANIFEST}; make it with `vivant export`") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be used ({error}); run `vivant export` again") from error
    if manifest.format != FORMAT:
        raise CheckpointError(f"{path} has format {manifest.format}; this version of vivant reads {FORMAT}")
    return manifest


def _difference(actual: Any, expected: Any) -> float:
    pairs = zip(onnx.named_tensors(actual, "output"), onnx.named_tensors(expected, "output"), strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for (_, a), (_, b) in pairs)
