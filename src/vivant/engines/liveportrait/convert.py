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
from torch import Tensor

from vivant import checkpoint
from vivant.engines.liveportrait.config import Config, published, published_animals, without_retargeting
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.published import check_fit, check_tensors, find_files, read_file

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
STITCHING = "stitching_retargeting_module"
VARIANTS = {"animals": published_animals}
"""Other published weights of the same networks, by the preset's variant."""
STITCHING_PARTS = ("retarget_shoulder", "retarget_mouth", "retarget_eye")


def convert_published(
    sources: Iterable[Path], folder: Path, *, config: Config | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint into `folder`.

    Args:
        sources: folders (searched through) and files that together hold each of the five published files once; for
            animals, which have no stitching of their own, the fifth (that for people) may be left out.
        config: sizes; None for the published ones.
        dtype: torch.float16 halves the file; None keeps float32.

    Raises CheckpointError where files are missing, ambiguous, unsafe, damaged or of another model.
    """
    config = config if config is not None else published()
    optional = frozenset({STITCHING} if config.subject == "animal" else ())
    wanted = {name: (name,) for name in PREFIXES}
    paths = find_files(sources, wanted, SUFFIXES, "LivePortrait", optional)
    if STITCHING not in paths:
        config = without_retargeting(config)
    with torch.device("meta"):
        networks = PublishedNetworks(config)
    expected = networks.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, prefix in ((name, PREFIXES[name]) for name in paths):
        found = {prefix + key: value for key, value in _read_renamed(paths[name]).items()}
        check_fit(
            paths[name], found, {key: expected[key] for key in expected if key.startswith(prefix)}, prefix
        )
        tensors |= found
    networks.load_state_dict(tensors, strict=True, assign=True)
    checkpoint.save(folder, FAMILY, config, networks, dtype)


def _read_renamed(path: Path) -> dict[str, Tensor]:
    """Tensors of one published file under our names below its prefix."""
    data = read_file(path)
    if path.stem == STITCHING:
        data = dict(_stitching_tensors(data))
    elif path.stem == "motion_extractor":
        # A backbone saved on its own lacks the attribute that the published class keeps it under.
        data = {
            key if key.startswith("detector.") else f"detector.{key}": value for key, value in data.items()
        }
    return check_tensors(path, data)


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
