"""CLIP's vision tower (transformers), as Wan2.1 uses it: all tokens of the last block but one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

from vivant.engines.flashportrait.config_networks import ImageEncoderConfig

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder(nn.Module):
    """A picture, squashed to a square, to tokens."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ImageEncoderConfig):
        super().__init__()
        self.image_size = config.image_size
        self.tower = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=config.feed_forward_channels,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_act="gelu",
            )
        )
        self.tower.post_layernorm = nn.Identity()
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, tokens, width). Not antialiased, as published."""
        size = (self.image_size, self.image_size)
        small = F.interpolate(picture, size=size, mode="bicubic", align_corners=False)
        return self.tower(pixel_values=(small - self.mean) / self.std).last_hidden_state
