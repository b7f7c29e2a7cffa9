"""The networks of the family in one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vivant.engines.flashportrait.config import PROMPTS, Config
from vivant.engines.flashportrait.config_networks import BlockVaeConfig
from vivant.engines.flashportrait.networks.block_vae import BlockVae
from vivant.engines.flashportrait.networks.face_features import FaceFeatures
from vivant.engines.flashportrait.networks.image_encoder import ImageEncoder
from vivant.engines.flashportrait.networks.portrait_encoder import PortraitEncoder
from vivant.engines.flashportrait.networks.tiny_vae import TinyVae
from vivant.engines.flashportrait.networks.transformer import PATCH, PortraitTransformer
from vivant.engines.flashportrait.networks.vae import VideoVae
from vivant.errors import InputError
from vivant.runtime.parallel import Team


class Networks(nn.Module):
    """Transformer, encoders of face and reference, VAE, and the encoded words."""

    prompts: Tensor
    """(scenes + 1, tokens, channels): PROMPTS in their order, then the negative prompt; the text encoder's output."""

    def __init__(self, config: Config):
        super().__init__()
        self.transformer = PortraitTransformer(config.transformer)
        self.portrait_encoder = PortraitEncoder(config.portrait_encoder)
        self.face_features = FaceFeatures(config.face_features)
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.vae: BlockVae | VideoVae = (
            BlockVae(config.vae) if isinstance(config.vae, BlockVaeConfig) else VideoVae(config.vae)
        )
        self.tiny_vae = None if config.tiny_vae is None else TinyVae(config.tiny_vae)
        size = (len(PROMPTS) + 1, config.transformer.num_text_tokens, config.transformer.text_channels)
        self.register_buffer("prompts", torch.zeros(size))
        self._num_heads = config.transformer.num_heads
        self._tokens_per_latent = (config.latent_size // PATCH[1]) ** 2

    @property
    def blocks(self) -> BlockVae:
        """The VAE of a config that draws differences."""
        assert isinstance(self.vae, BlockVae)
        return self.vae

    def work_together(self, team: Team) -> None:
        """Compute the transformer on all processes of a team. Raises InputError where it cannot be divided by them."""
        if self._num_heads % team.size or self._tokens_per_latent % team.size:
            raise InputError(
                f"flashportrait divides its {self._num_heads} attention heads and {self._tokens_per_latent} tokens per "
                f"latent evenly; {team.size} processes do not, so start as many as divide both."
            )
        self.transformer.work_together(team)

    def follow(self) -> None:
        """Work for process 0 until it ends."""
        self.transformer.follow()
