"""A checkpoint is a folder: `model.safetensors`, and `config.json` with family, architecture and hash.

Nothing is unpickled, nothing is loaded partly, and every refusal says what is wrong and what to do.
Networks are built without filling their parameters, which the tensors of the file then replace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vivant import records
from vivant.errors import CheckpointError
from vivant.media.staging import output_errors

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
FORMAT = 1

Config = TypeVar("Config")

_STORED_AS = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
"""What safetensors calls the types that `save_streamed` writes."""

_PICKLE_SUFFIXES = {".pth", ".pt", ".ckpt", ".bin", ".pkl", ".pickle"}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def save(
    folder: Path, family: str, config: Any, networks: nn.Module, dtype: torch.dtype | None = None
) -> None:
    """Write networks and config into `folder`, made if missing. `dtype` narrows the stored floats.

    Each file is complete before it gets its name, so an interrupted save leaves the previous checkpoint
    whole.
    """
    tensors = {
        name: (tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in networks.state_dict().items()
    }
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / f".{WEIGHTS}.part")
        _finish(folder, family, config)


def save_streamed(
    folder: Path,
    family: str,
    config: Any,
    like: Mapping[str, Tensor],
    read: Mapping[str, Callable[[], Tensor]],
) -> None:
    """The same as `save` for weights larger than memory: tensors are read and written one by one.

    Args:
        like: shape and dtype of every tensor, on any device.
        read: makes each of them; called once, converted to that dtype.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{WEIGHTS}.part"
    # Wide types first, as safetensors itself does, so that every tensor lies at a multiple of its own size.
    names = sorted(like, key=lambda name: (-like[name].element_size(), name))
    table: dict[str, Any] = {}
    end = 0
    for name in names:
        start, end = end, end + like[name].numel() * like[name].element_size()
        table[name] = {
            "dtype": _STORED_AS[like[name].dtype],
            "shape": list(like[name].shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    with partial.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            tensor = read[name]().detach().to("cpu", like[name].dtype).contiguous()
            if tensor.shape != like[name].shape:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, expected {tuple(like[name].shape)}")
            stream.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
    _finish(folder, family, config)


def _finish(folder: Path, family: str, config: Any) -> None:
    """Describe the weights that lie under their partial name, then give both files their names."""
    partial = folder / f".{WEIGHTS}.part"
    header = {
        "format": FORMAT,
        "family": family,
        "weights_sha256": sha256_of(partial),
        "config": records.to_data(config),
    }
    partial_config = folder / f".{CONFIG}.part"
    partial_config.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / WEIGHTS)
    partial_config.replace(folder / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed `config.json` of a checkpoint, its outer keys checked."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {CONFIG}; a checkpoint is a folder with {WEIGHTS} and {CONFIG}"
        )
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is not JSON ({error}); copy it again from where it came from"
        ) from error
    expected = {"format", "family", "weights_sha256", "config"}
    if not isinstance(header, dict) or set(header) != expected:
        found = ", ".join(sorted(header)) if isinstance(header, dict) else type(header).__name__
        raise CheckpointError(f"{path} should hold {', '.join(sorted(expected))}; it holds {found}")
    if header["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {header['format']}; this version of vivant reads {FORMAT}")
    return header


def load(
    folder: Path,
    config_type: type[Config],
    build: Callable[[Config], nn.Module],
    *,
    device: torch.device | str = "cpu",
    sha256: str | None = None,
) -> tuple[Config, nn.Module]:
    """Networks in evaluation mode and their config.

    Args:
        config_type: the family's Config; unknown and missing keys in the file raise.
        build: makes the networks of a config; its random initialisation is skipped.
        sha256: what the weights must hash to, beside the hash that the checkpoint itself declares.

    Raises CheckpointError for anything that is not a whole, matching, safe checkpoint.
    """
    header = read_config(folder)
    config = _config_of(folder, header, config_type)
    weights = folder / WEIGHTS
    check_weights_file(weights)
    _check_hash(weights, {header["weights_sha256"], sha256 or header["weights_sha256"]})
    networks = unfilled(config, build)
    expected = networks.state_dict()
    check_same_tensors(weights, expected)
    narrow = tuple(
        f"{name}." for name, module in networks.named_modules() if getattr(module, "narrow_linear", False)
    )
    networks.load_state_dict(_read_tensors(weights, expected, str(device), narrow), strict=True, assign=True)
    return config, networks.to(device).eval()


def _config_of(folder: Path, header: Mapping[str, Any], config_type: type[Config]) -> Config:
    try:
        return records.from_data(config_type, header["config"])
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error


def load_same(
    folder: Path,
    config: Config,
    build: Callable[[Config], nn.Module],
    recipe: str,
    fits: Callable[[Config], bool] | None = None,
) -> nn.Module:
    """The networks of a checkpoint that the training recipe of that name can start from.

    Args:
        config: the recipe's own.
        fits: whether the checkpoint's config will do; None: it is the recipe's own.

    Raises CheckpointError, as `load`, and where the architecture is another.
    """
    # Asked before they are built: builders know their own kind of config only.
    found = _config_of(folder, read_config(folder), type(config))
    if not (found == config if fits is None else fits(found)):
        raise CheckpointError(
            f"{folder} has another architecture than the recipe {recipe}; start from a checkpoint of the same recipe "
            "chain, or without one"
        )
    return load(folder, type(config), build)[1]


def unfilled(config: Config, build: Callable[[Config], nn.Module]) -> nn.Module:
    """Networks whose parameters are not initialised: for whoever fills or drops them."""
    with _Unfilled():
        return build(config)


def _read_tensors(
    path: Path, expected: Mapping[str, Tensor], device: str, narrow: tuple[str, ...]
) -> dict[str, Tensor]:
    """The tensors of the file in the precision of the networks, whatever they are stored in.

    Files may hold half precision to be small; what computes in it is decided later, by runtime.precision. Below the
    prefixes `narrow`, whose float32 would not fit into memory, tensors stay as they are stored.
    Copied, not mapped: in the file tensors lie at odd addresses, and kernels round differently there.
    """
    with safe_open(path, framework="pt", device=device) as file:
        return {
            name: file.get_tensor(name).to(None if name.startswith(narrow) else like.dtype, copy=True)
            for name, like in expected.items()
        }


def check_weights_file(path: Path) -> None:
    """Raise CheckpointError, in words, for the things people have in place of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(64)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or length > 2**40:  # not the length and first brace of a safetensors header
        raise CheckpointError(f"{path} {_what_it_is(path, start)}")
    if length > size - 8:
        raise CheckpointError(f"{path} is truncated ({size} bytes); copy or download it again")
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or damaged ({error}); copy or download it again"
        ) from error


def _what_it_is(path: Path, start: bytes) -> str:
    if not start:
        return "is empty; copy or download it again"
    if path.suffix in _PICKLE_SUFFIXES or start.startswith(_PICKLE_STARTS):
        return "is a pickle, which can run code when opened; turn it into safetensors with `vivant convert`"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself"
    if start.lstrip()[:1] in (b"<", b"{"):
        return "is a web page or text, not weights; download the file itself"
    return "is not a safetensors file; copy or download it again"


def check_same_tensors(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the file holds exactly these names with these shapes."""
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    problems = []
    if missing := sorted(wanted.keys() - shapes.keys()):
        problems.append(f"lacks {_some(missing)}")
    if unknown := sorted(shapes.keys() - wanted.keys()):
        problems.append(f"has unknown {_some(unknown)}")
    common = sorted(wanted.keys() & shapes.keys())
    if wrong := [f"{n} {shapes[n]} instead of {wanted[n]}" for n in common if shapes[n] != wanted[n]]:
        problems.append(f"has the wrong shape for {_some(wrong)}")
    if problems:
        raise CheckpointError(f"{path} does not fit its config: it {'; it '.join(problems)}")


class _Unfilled(TorchFunctionMode):
    """Inside, random initialisation is skipped: every parameter is about to be replaced by the file's.

    (The meta device would do the same, but its kernels take seconds to import.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        return func(*args, **kwargs)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_hash(path: Path, expected: set[str]) -> None:
    actual = sha256_of(path)
    if expected != {actual}:
        wanted = " and ".join(sorted(digest[:12] for digest in expected))
        raise CheckpointError(
            f"{path} has hash {actual[:12]}, expected {wanted}: it is damaged or not the file meant"
        )


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
