"""Published LivePortrait weights -> one of our checkpoints.

Accepts the official release (`.pth`, opened with weights_only=True, so no code in them can run) and the community
conversion to safetensors (same file names and keys, the three small networks flattened into one file).
The tables below are all there is to know about foreign names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vivant import checkpoint
from vivant.engines.liveportrait.config import Config, published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.errors import CheckpointError

FAMILY = "liveportrait"
SUFFIXES = (".pth", ".safetensors")

# Published file (without suffix) -> where its tensors go in our networks.
PREFIXES = {
    "appearance_feature_extractor": "appearance_extractor.",
    "motion_extractor": "motion_extractor.",
    "warping_module": "warping.",
    "spade_generator": "generator.",
    "stitching_retargeting_module": "stitching.",
}
STITCHING_PARTS = ("retarget_shoulder", "retarget_mouth", "retarget_eye")

_UNPICKLING_ERROR: type[Exception] = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]
"""What torch raises for a pickle that is more than tensors. We only name the class; see docs/decisions."""


def convert_published(
    sources: Iterable[Path], folder: Path, *, config: Config | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint into `folder`.

    Args:
        sources: folders (searched through) and files that together hold each of the five published files once.
        config: sizes; None for the published ones.
        dtype: torch.float16 halves the file; None keeps float32.

    Raises CheckpointError where files are missing, ambiguous, unsafe, damaged or of another model.
    """
    config = config if config is not None else published()
    paths = find_files(sources)
    with torch.device("meta"):
        networks = PublishedNetworks(config)
    expected = networks.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, prefix in PREFIXES.items():
        found = {prefix + key: value for key, value in read_file(paths[name]).items()}
        check_fit(
            paths[name], found, {key: expected[key] for key in expected if key.startswith(prefix)}, prefix
        )
        tensors |= found
    networks.load_state_dict(tensors, strict=True, assign=True)
    checkpoint.save(folder, FAMILY, config, networks, dtype)


def find_files(sources: Iterable[Path]) -> dict[str, Path]:
    """The published files by name. Raises CheckpointError unless each is there exactly once."""
    found: dict[str, list[Path]] = {name: [] for name in PREFIXES}
    sources = list(sources)
    for source in sources:
        if not source.exists():
            raise CheckpointError(f"there is no {source}")
        candidates = sorted(source.rglob("*")) if source.is_dir() else [source]
        for path in candidates:
            if path.stem in found and path.suffix in SUFFIXES and path not in found[path.stem]:
                found[path.stem].append(path)
    where = ", ".join(str(source) for source in sources)
    if missing := [name for name, paths in found.items() if not paths]:
        names = ", ".join(f"{name}{SUFFIXES[0]} (or {SUFFIXES[1]})" for name in missing)
        raise CheckpointError(f"{where} lacks {names}; download the published LivePortrait weights again")
    for name, paths in found.items():
        if len(paths) > 1:
            listed = ", ".join(map(str, paths))
            raise CheckpointError(
                f"there is more than one {name}: {listed}; give only the files that are meant"
            )
    return {name: paths[0] for name, paths in found.items()}


def read_file(path: Path) -> dict[str, Tensor]:
    """Tensors of one published file under our names below its prefix."""
    if path.suffix == ".safetensors":
        checkpoint.check_weights_file(path)
        data: Mapping[str, Any] = load_file(path)
    else:
        data = _read_pickle(path)
    if path.stem == "stitching_retargeting_module":
        data = dict(_stitching_tensors(data))
    elif path.stem == "motion_extractor":
        # A backbone saved on its own lacks the attribute that the published class keeps it under.
        data = {
            key if key.startswith("detector.") else f"detector.{key}": value for key, value in data.items()
        }
    if wrong := [str(key) for key, value in data.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"{path} should hold tensors only; these are not: {_some(wrong)}")
    return dict(data)


def check_fit(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str) -> None:
    """Raise CheckpointError, naming keys as in the file, unless names and shapes are the expected ones."""
    problems = []
    if missing := sorted(expected.keys() - found.keys()):
        problems.append(f"lacks {_some(key.removeprefix(prefix) for key in missing)}")
    if unknown := sorted(found.keys() - expected.keys()):
        problems.append(f"has unknown {_some(key.removeprefix(prefix) for key in unknown)}")
    shapes = {
        key: (tuple(found[key].shape), tuple(expected[key].shape)) for key in expected.keys() & found.keys()
    }
    if wrong := [
        f"{key.removeprefix(prefix)} {ours} instead of {theirs}"
        for key, (ours, theirs) in sorted(shapes.items())
        if ours != theirs
    ]:
        problems.append(f"has the wrong shape for {_some(wrong)}")
    if problems:
        raise CheckpointError(f"{path} is not the published {path.stem}: it {'; it '.join(problems)}")


def _stitching_tensors(data: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The three small networks: nested tables (official) or flat names (community); anything else is ignored.

    Official: {"retarget_eye": {"module.mlp.0.weight": ...}}. Community: "retarget_eye_module.mlp.0.weight".
    """
    for part in STITCHING_PARTS:
        if isinstance(data.get(part), Mapping):
            for key, value in data[part].items():
                yield f"{part}.{key.replace('module.', '')}", value
        for key, value in data.items():
            if key.startswith((f"{part}.", f"{part}_")):
                yield f"{part}.{key[len(part) + 1 :].replace('module.', '')}", value


def _read_pickle(path: Path) -> Mapping[str, Any]:
    """A `.pth` file, tensors only. Nothing in the file is executed."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` or download the file"
        )
    if start.lstrip().startswith((b"<", b"{")):
        raise CheckpointError(f"{path} is a web page or text, not weights; download the file itself")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except _UNPICKLING_ERROR as error:
        raise CheckpointError(
            f"{path} holds more than tensors, which could run code when opened, so it was not opened; "
            f"get the published file ({error.__class__.__name__})"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or damaged; download it again") from error
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, not a table of tensors")
    return data


def _some(names: Iterable[str], limit: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
