"""Published names, seeded files, and comparing with the golden tensors."""

from __future__ import annotations

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from seeded_weights import seeded_input, seeded_state_dict
from torch import Tensor, nn

TIGHT = 1e-4
LOOP = 2e-3


def seeded_file(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """What a published file would hold, by its names and shapes."""
    integers = ("num_batches_tracked",)
    return seeded_state_dict(
        {
            key: torch.empty(
                shape, dtype=torch.int64 if key.endswith(integers) else torch.float32, device="meta"
            )
            for key, shape in shapes.items()
        }
    )


def transformer_names(network: nn.Module) -> dict[str, str]:
    """Our names of a transformer's tensors -> the published ones."""
    renamed: dict[str, str] = {}
    for name in PUBLISHED_TOP:
        renamed |= convert_wan_transformer_to_diffusers({name: name})
    for block in range(len(network.blocks)):  # type: ignore[arg-type]
        for name in PUBLISHED_BLOCK:
            renamed |= convert_wan_transformer_to_diffusers(
                {f"blocks.{block}.{name}": f"blocks.{block}.{name}"}
            )
    assert renamed.keys() == network.state_dict().keys()
    return renamed


def _pairs(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}.{leaf}" for name in names for leaf in ("weight", "bias"))


PUBLISHED_TOP = (
    *_pairs(
        "patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2"
    ),
    *_pairs("time_projection.1", "img_emb.proj.0", "img_emb.proj.1", "img_emb.proj.3", "img_emb.proj.4"),
    *_pairs("head.head"),
    "head.modulation",
)
PUBLISHED_BLOCK = (
    *_pairs(*(f"{part}.{name}" for part in ("self_attn", "cross_attn") for name in "qkvo")),
    *_pairs("cross_attn.k_img", "cross_attn.v_img", "norm3", "ffn.0", "ffn.2"),
    *(f"{part}.norm_{name}.weight" for part in ("self_attn", "cross_attn") for name in "qk"),
    *(f"cross_attn.{name}.weight" for name in ("norm_k_img", "emo_k_proj", "emo_v_proj")),
    "modulation",
)


def padded(text: Tensor) -> Tensor:
    """Text tokens (1, n, C) with zeros up to 512."""
    out = text.new_zeros(1, 512, text.shape[-1])
    out[:, : text.shape[1]] = text
    return out


def image_tokens() -> Tensor:
    """What stands for the image encoder's output in the golden run."""
    return seeded_input("flashportrait/clip", (1, 257, 1280), -1, 1)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = TIGHT) -> None:
    torch.testing.assert_close(ours.float(), theirs.float(), atol=tolerance, rtol=tolerance)
