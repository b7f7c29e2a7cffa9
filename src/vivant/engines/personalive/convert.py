"""Published PersonaLive weights, with the stock networks they were made for -> one of our checkpoints.

Six files are PersonaLive's own; the VAE is stabilityai/sd-vae-ft-mse, the image encoder that of
lambdalabs/sd-image-variations-diffusers; TAESD (madebyollin/taesd) is taken along where it is there. Two files make one
UNet, so what counts is that together they hold exactly its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vivant import checkpoint
from vivant.engines.personalive.config import Config, published, published_tiny_decoder
from vivant.engines.personalive.networks import Networks
from vivant.published import check_fit, check_tensors, find_files, read_file

FAMILY = "personalive"
SUFFIXES = (".pth", ".bin", ".safetensors")

# Published file (without suffix) -> where its tensors go in our networks.
PREFIXES = {
    "reference_unet": "reference_unet.",
    "denoising_unet": "denoiser.",
    "temporal_module": "denoiser.",
    "motion_encoder": "motion_encoder.",
    "pose_guider": "pose_guider.",
    "motion_extractor": "motion_extractor.",
    "vae": "vae.",
    "image_encoder": "image_encoder.",
    "taesd": "tiny_decoder.",
}
# Where files are not named for what they are: folder and file, as in the published repositories.
PLACES: dict[str, tuple[str, ...]] = {
    "vae": ("sd-vae-ft-mse/diffusion_pytorch_model",),
    "image_encoder": ("image_encoder/pytorch_model", "image_encoder/model"),
    "taesd": ("taesd/diffusion_pytorch_model",),
}
OPTIONAL = frozenset({"taesd"})

# Keys that are no weights.
IGNORED = {"motion_extractor": r"idx_tensor", "image_encoder": r".*\.position_ids", "taesd": r"encoder\..*"}

# Key in the file -> key below the prefix.
RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    # The VAE was published before diffusers renamed its attention.
    "vae": (
        (r"(attentions\.\d+)\.query\.", r"\1.to_q."),
        (r"(attentions\.\d+)\.key\.", r"\1.to_k."),
        (r"(attentions\.\d+)\.value\.", r"\1.to_v."),
        (r"(attentions\.\d+)\.proj_attn\.", r"\1.to_out.0."),
    ),
    "taesd": ((r"^decoder\.", ""),),
}


def convert_published(
    sources: Iterable[Path], folder: Path, *, config: Config | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint into `folder`.

    Args:
        sources: folders (searched through) and files that together hold each of the published files once.
        config: sizes; None for the published ones, with TAESD if its file is there.
        dtype: torch.float16 halves the file; None keeps float32.

    Raises CheckpointError where files are missing, ambiguous, unsafe, damaged or of another model.
    """
    wanted = {name: PLACES.get(name, (name,)) for name in PREFIXES}
    paths = find_files(sources, wanted, SUFFIXES, "PersonaLive", OPTIONAL)
    config = config if config is not None else published()
    tiny = (config.tiny_decoder or published_tiny_decoder()) if "taesd" in paths else None
    config = replace(config, tiny_decoder=tiny)
    with torch.device("meta"):
        networks = Networks(config)
    expected = networks.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, path in paths.items():
        prefix = PREFIXES[name]
        found = {prefix + key: value for key, value in _read_renamed(name, path).items()}
        check_fit(path, found, _expected_of(name, expected), prefix)
        tensors |= found
    networks.load_state_dict(tensors, strict=True, assign=True)
    checkpoint.save(folder, FAMILY, config, networks, dtype)


def _expected_of(name: str, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file must hold. The temporal module's file is the part of the denoiser that has it in its names."""
    prefix = PREFIXES[name]
    below = {key: value for key, value in expected.items() if key.startswith(prefix)}
    if prefix != "denoiser.":
        return below
    temporal = name == "temporal_module"
    return {key: value for key, value in below.items() if (".temporal_modules." in key) == temporal}


def _read_renamed(name: str, path: Path) -> dict[str, Tensor]:
    """Tensors of one published file under our names below its prefix."""
    data = read_file(path)
    ignored = re.compile(IGNORED.get(name, r"(?!)"))
    renamed = {}
    for key, value in check_tensors(path, data).items():
        if ignored.fullmatch(key):
            continue
        for pattern, ours in RENAMED.get(name, ()):
            key = re.sub(pattern, ours, key)
        if name == "vae" and ".attentions." in key and key.endswith(".weight") and value.dim() == 4:
            value = value.flatten(1)  # 1x1 convolutions in the oldest files
        renamed[key] = value
    return renamed
