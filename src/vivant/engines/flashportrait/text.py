"""UMT5 (transformers): what words become before the transformer reads them. Used once, when weights are converted.

The sizes of a text encoder are read off its file. Legend: n prompts, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vivant.errors import CheckpointError
from vivant.published import check_fit, check_tensors, read_file

# Published name -> that of transformers.
SHARED = "encoder.embed_tokens.weight"
NAMES = (
    ("token_embedding.", "shared."),
    ("blocks.", "encoder.block."),
    (".norm1.", ".layer.0.layer_norm."),
    (".attn.", ".layer.0.SelfAttention."),
    (".pos_embedding.embedding.", ".layer.0.SelfAttention.relative_attention_bias."),
    (".norm2.", ".layer.1.layer_norm."),
    (".ffn.gate.0.", ".layer.1.DenseReluDense.wi_0."),
    (".ffn.fc1.", ".layer.1.DenseReluDense.wi_1."),
    (".ffn.fc2.", ".layer.1.DenseReluDense.wo."),
)


def load_text_encoder(path: Path, width: int) -> Any:
    """The published encoder in the precision of its file. Raises CheckpointError where it is another model's."""
    return text_encoder_of(path, check_tensors(path, read_file(path)), width)


def text_encoder_of(path: Path, data: Mapping[str, Tensor], width: int) -> Any:
    """The encoder that a file's tensors make, for a transformer that reads text of that width."""
    from transformers.models.umt5.configuration_umt5 import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    try:
        vocabulary, channels = data["token_embedding.weight"].shape
        inner = data["blocks.0.attn.q.weight"].shape[0]
        buckets, heads = data["blocks.0.pos_embedding.embedding.weight"].shape
        hidden = data["blocks.0.ffn.fc1.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"{path} is not the published {path.stem}: it lacks {error.args[0]}") from error
    if channels != width:
        raise CheckpointError(f"{path} gives text of width {channels}, the transformer reads {width}")
    config = UMT5Config(
        vocab_size=vocabulary,
        d_model=channels,
        d_kv=inner // heads,
        d_ff=hidden,
        num_layers=sum(key.endswith(".norm1.weight") for key in data),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    with torch.device("meta"):
        encoder = UMT5EncoderModel(config)
    found = {_renamed(key): value for key, value in data.items()}
    # The embedding stands twice among our names, and once in memory.
    expected = {key: value for key, value in encoder.state_dict().items() if key != SHARED}
    check_fit(path, found, expected, "")
    encoder.load_state_dict(found, strict=False, assign=True)
    encoder.encoder.embed_tokens.weight = encoder.shared.weight
    return encoder.eval().requires_grad_(False)


def _renamed(key: str) -> str:
    if key == "norm.weight":
        return "encoder.final_layer_norm.weight"
    for theirs, ours in NAMES:
        key = key.replace(theirs, ours)
    return key


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder; nothing is fetched."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def encode(encoder: Any, tokenizer: Any, prompts: Sequence[str], num_tokens: int) -> Tensor:
    """(n, T, C) in the encoder's precision: zeros where a prompt has ended, as the transformer was trained."""
    tokens: Mapping[str, Tensor] = tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=num_tokens, return_tensors="pt"
    )
    mask = tokens["attention_mask"]
    with torch.no_grad():
        states = encoder(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
    return states * mask.unsqueeze(-1).to(states.dtype)
