"""Published FlashPortrait weights, with the Wan2.1 networks they were made for -> one of our checkpoints.

Transformer, portrait encoder, PD-FGC and tiny VAE are FlashPortrait's own files; VAE, image encoder, text encoder and
tokenizer are those of Wan-AI/Wan2.1-I2V-14B-720P (the original layout). The text encoder is not kept: what it says of
our few prompts is. Tensors go from file to file one by one, so that 34 GB of weights need no 34 GB of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vivant import checkpoint
from vivant.engines.flashportrait.config import NEGATIVE_PROMPT, PROMPTS, Config, published
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.lora import Lora, read_lora
from vivant.engines.flashportrait.text import encode, load_text_encoder, load_tokenizer
from vivant.errors import CheckpointError
from vivant.published import check_fit, check_tensors, find_files, read_file

FAMILY = "flashportrait"
SUFFIXES = (".pt", ".pth", ".safetensors")

# What we call a file -> its published name, without suffix.
FILES = {
    "transformer": "transformer",
    "portrait_encoder": "portrait_encoder",
    "face_features": "pd_fpg",
    "tiny_vae": "fast_vae",
    "vae": "Wan2.1_VAE",
    "image_encoder": "models_clip_open-clip-xlm-roberta-large-vit-huge-14",
    "text_encoder": "models_t5_umt5-xxl-enc-bf16",
}
TOKENIZER = "umt5-xxl"
OPTIONAL = frozenset({"tiny_vae"})
LORA = "fast_lora_rank64"
NUM_DISTILLED_STEPS = 4

Reader = Callable[[], Tensor]


def convert_published(
    sources: Iterable[Path], folder: Path, *, config: Config | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write a checkpoint into `folder`.

    Args:
        sources: folders (searched through) and files that together hold each published file once, and the folder
            of the tokenizer, umt5-xxl. The LoRA that distils to four steps is merged where its file is given by name,
            not where a folder holds it.
        config: sizes; None for the published ones, with the tiny VAE if its file is there.
        dtype: of the stored transformer; None: bfloat16, as it was trained.

    Raises CheckpointError where files are missing, ambiguous, unsafe, damaged or of another model.
    """
    sources = list(sources)
    lora_path = next((path for path in sources if path.is_file() and path.stem == LORA), None)
    sources = [path for path in sources if path != lora_path]
    wanted = {name: (file,) for name, file in FILES.items()}
    paths = find_files(sources, wanted, SUFFIXES, "FlashPortrait and Wan2.1", OPTIONAL)
    config = config if config is not None else published()
    if "tiny_vae" not in paths:
        config = replace(config, tiny_vae=None)
    lora: Lora | None = None
    if lora_path is not None:
        config = replace(config, distilled=True, num_steps=NUM_DISTILLED_STEPS)
        lora = read_lora(lora_path)
    with torch.device("meta"):
        networks = FlashPortrait.build_networks(config)
    expected = networks.state_dict()
    prompts = expected.pop("prompts")
    readers: dict[str, Reader] = {}
    for name, path in paths.items():
        if name != "text_encoder":
            readers |= _readers_of(name, path, config, expected)
    if lora is not None:
        assert lora_path is not None
        readers = lora.merged(lora_path, readers)
    encoded = _encoded_prompts(paths["text_encoder"], sources, config, prompts)
    readers["prompts"] = lambda: encoded
    narrow = dtype if dtype is not None else torch.bfloat16
    stored = {
        name: _stored_in(name, like, narrow) for name, like in (expected | {"prompts": encoded}).items()
    }
    checkpoint.save_streamed(folder, FAMILY, config, stored, readers)


def _stored_in(name: str, like: Tensor, narrow: torch.dtype) -> Tensor:
    """How a tensor is stored (on the meta device): narrow for the transformer's matrices, but those of time."""
    is_matrix = name.startswith("transformer.") and name.endswith(".weight") and like.dim() > 1
    dtype = narrow if is_matrix and ".time_" not in name else like.dtype
    return torch.empty(like.shape, dtype=dtype, device="meta")


def _readers_of(name: str, path: Path, config: Config, expected: Mapping[str, Tensor]) -> dict[str, Reader]:
    """For each of our tensors below `name.` what reads it from the file; names and shapes are checked first."""
    data = read_file(path)
    data = data.get("state_dict", data) if isinstance(data.get("state_dict"), Mapping) else data
    renamed = RENAME[name](check_tensors(path, data), config)
    prefix = f"{name}."
    below = {key: value for key, value in expected.items() if key.startswith(prefix)}
    found = {prefix + key: value for key, value in renamed.items()}
    check_fit(path, found, below, prefix)
    return {key: partial(found.__getitem__, key) for key in found}


def _transformer(data: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    # Renaming only, so names stand for themselves.
    names: dict[str, str] = convert_wan_transformer_to_diffusers({key: key for key in data})
    return {ours: data[theirs] for ours, theirs in names.items()}


def _vae(data: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    names: dict[str, str] = convert_wan_vae_to_diffusers({key: key for key in data})
    return {ours: data[theirs] for ours, theirs in names.items()}


def _tiny_vae(data: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    return {key: value for key, value in data.items() if not key.startswith("encoder.")}


def _image_encoder(data: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """OpenCLIP's names, of which we keep the vision tower up to the block that is read."""
    data = {key.removeprefix("visual."): value for key, value in data.items() if key.startswith("visual.")}
    out: dict[str, Tensor] = {}
    unread = ("head", "post_norm.", f"transformer.{config.image_encoder.num_layers}.")
    for key, value in data.items():
        if key.startswith(unread):
            continue
        if ".attn.to_qkv." in key:
            layer, leaf = key.split(".attn.to_qkv.")
            layer = layer.replace("transformer", "tower.encoder.layers")
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                out[f"{layer}.self_attn.{part}_proj.{leaf}"] = rows
            continue
        for theirs, ours in IMAGE_ENCODER_NAMES:
            key = key.replace(theirs, ours)
        out[f"tower.{key}"] = value.flatten() if key.endswith("class_embedding") else value
        if key.endswith("position_embedding.weight"):
            out[f"tower.{key}"] = value.squeeze(0)
    return out


IMAGE_ENCODER_NAMES = (
    ("cls_embedding", "embeddings.class_embedding"),
    ("pos_embedding", "embeddings.position_embedding.weight"),
    ("patch_embedding.weight", "embeddings.patch_embedding.weight"),
    ("pre_norm", "pre_layrnorm"),
    ("transformer.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.proj.", ".self_attn.out_proj."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.2.", ".mlp.fc2."),
)


def _same(data: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    return dict(data)


RENAME: dict[str, Callable[[Mapping[str, Tensor], Config], dict[str, Tensor]]] = {
    "transformer": _transformer,
    "portrait_encoder": _same,
    "face_features": _same,
    "tiny_vae": _tiny_vae,
    "vae": _vae,
    "image_encoder": _image_encoder,
}


def _encoded_prompts(path: Path, sources: list[Path], config: Config, like: Tensor) -> Tensor:
    """What the published text encoder says of our prompts: (scenes + 1, tokens, channels), zero-padded."""
    folders = [folder for source in sources for folder in [source, *source.rglob("*")] if folder.is_dir()]
    # Wan2.1 comes with another one, for the half of CLIP that nobody uses.
    tokenizers = [folder for folder in folders if folder.name == TOKENIZER]
    if len(tokenizers) != 1:
        where = ", ".join(map(str, sources))
        raise CheckpointError(
            f"{where} should hold the tokenizer, the folder google/{TOKENIZER}, once; found {len(tokenizers)}"
        )
    words: list[str] = [*PROMPTS.values(), NEGATIVE_PROMPT]
    encoder = load_text_encoder(path, width=like.shape[-1])
    encoded = encode(encoder, load_tokenizer(tokenizers[0]), words, num_tokens=like.shape[1])
    return encoded.to(torch.float32)
