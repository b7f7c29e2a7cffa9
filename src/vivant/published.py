"""Reading weights that others published, on the way into one of our checkpoints: find, read safely, compare.

Pickles are opened with weights_only=True, so no code in them can run. Which names mean what, a family's `convert.py`
says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vivant import checkpoint
from vivant.errors import CheckpointError

_ZIP_START = b"PK\x03\x04"
_UNPICKLING_ERROR: type[Exception] = torch.serialization.pickle.UnpicklingError  # type: ignore[attr-defined]
"""What torch raises for a pickle that is more than tensors. We only name the class; see docs/decisions."""


def find_files(
    sources: Iterable[Path],
    wanted: Mapping[str, Sequence[str]],
    suffixes: Sequence[str],
    what: str,
    optional: frozenset[str] = frozenset(),
) -> dict[str, Path]:
    """The published files by name.

    Args:
        sources: folders, searched through, and files.
        wanted: for each name the paths that it may have, without suffix: "file" or "folder/file".
        suffixes: in order of what a message should name first.
        what: whose weights they are, for messages.
        optional: names that need not be there.

    Raises CheckpointError unless each is there exactly once.
    """
    found: dict[str, list[Path]] = {name: [] for name in wanted}
    sources = list(sources)
    for source in sources:
        if not source.exists():
            raise CheckpointError(f"there is no {source}")
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.suffix not in suffixes:
                continue
            bare = "/" + path.resolve().with_suffix("").as_posix()
            for name, places in wanted.items():
                if any(bare.endswith("/" + place) for place in places) and path not in found[name]:
                    found[name].append(path)
    where = ", ".join(str(source) for source in sources)
    if missing := [name for name, paths in found.items() if not paths and name not in optional]:
        others = f" (or {', '.join(suffixes[1:])})" if len(suffixes) > 1 else ""
        names = ", ".join(f"{wanted[name][0]}{suffixes[0]}{others}" for name in missing)
        raise CheckpointError(f"{where} lacks {names}; download the published {what} weights again")
    for name, paths in found.items():
        if len(paths) > 1:
            listed = ", ".join(map(str, paths))
            raise CheckpointError(
                f"there is more than one {name}: {listed}; give only the files that are meant"
            )
    return {name: paths[0] for name, paths in found.items() if paths}


def read_file(path: Path) -> Mapping[str, Any]:
    """What a published file holds, by its own names. Raises CheckpointError for what is not weights."""
    if path.suffix == ".safetensors":
        checkpoint.check_weights_file(path)
        return load_file(path)
    return _read_pickle(path)


def check_tensors(path: Path, data: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same, known to be tensors only."""
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


def _read_pickle(path: Path) -> Mapping[str, Any]:
    """A pickle of tensors. Nothing in the file is executed; large files are mapped, not read twice."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` or download the file"
        )
    if start.lstrip().startswith((b"<", b"{")):
        raise CheckpointError(f"{path} is a web page or text, not weights; download the file itself")
    try:
        mapped = start.startswith(_ZIP_START)
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
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
