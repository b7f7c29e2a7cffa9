"""What the family does from reference to picture, for counting memory (vivant.runtime.footprint)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vivant.engines.flashportrait.caches import TinyVaeCache, VaeCache
from vivant.engines.flashportrait.config import SPACE_FACTOR, TIME_FACTOR, Config, Level, Options
from vivant.engines.flashportrait.denoising import Inputs, ask
from vivant.engines.flashportrait.networks.portrait_encoder import tokens_per_latent
from vivant.engines.flashportrait.networks.transformer import PATCH
from vivant.engines.flashportrait.sampling import Branch, guidance_of
from vivant.engines.flashportrait.tiles import Tiling, in_tiles
from vivant.runtime.footprint import Part, Rehearsal, made_bytes

NUM_BLOCKS = 2


def rehearse(networks: nn.Module, config: Config, options: Options) -> Rehearsal:
    """The parts at the sizes of a config and under a user's options."""
    own: Any = networks
    side, cells = config.image_size, config.latent_size
    caches = [VaeCache()]
    tiling = Tiling(size=None if options.tile_px is None else options.tile_px // SPACE_FACTOR)
    tiny = options.decoder == "tiny" and own.tiny_vae is not None
    network = "tiny_vae" if tiny else "vae"
    value_bytes = own.transformer.patch_embedding.weight.element_size()
    tile = len(tiling.spans(cells)[0])
    decoded = [TinyVaeCache() if tiny else VaeCache()]

    def encode(frames: int) -> Tensor:
        return own.vae.encode_piece(torch.zeros(1, 3, frames, side, side), caches[0])

    def decode() -> Tensor:
        # A tile at a time; the caches of the others are in main memory.
        step = getattr(own, network).decode_piece
        return in_tiles(step, torch.zeros(1, config.vae.latent_channels, 1, tile, tile), decoded, tiling)

    # Streams are cheapest at their start: it is left behind here.
    encode(1)
    for _ in range(2):
        decode()
    memories = predicted_bytes(config, options, value_bytes)
    held = 0 if tiling.count(cells, cells) > 1 else made_bytes(vars(decoded[0]))
    parts = (
        Part("encoding the reference", "vae", lambda: encode(TIME_FACTOR)),
        Part(
            "seeing the reference", "image_encoder", lambda: own.image_encoder(torch.zeros(1, 3, side, side))
        ),
        Part("denoising", "transformer", lambda: _step(own, config, options)),
        Part("decoding", network, decode),
    )
    return Rehearsal(parts, held + memories)


def _step(networks: Any, config: Config, options: Options) -> list[Tensor]:
    """A computed step, with so many blocks only: one after another they need no more than these."""
    shape = (1, config.vae.latent_channels, config.window_latents, config.latent_size, config.latent_size)
    sizes, transformer = config.transformer, networks.transformer
    words = torch.zeros(1, sizes.num_text_tokens, sizes.text_channels)
    per_latent = tokens_per_latent(config.portrait_encoder.tokens_per_frame)
    inputs = Inputs(
        reference=torch.zeros(1, 4 + shape[1], *shape[2:]),
        image=torch.zeros(1, config.image_encoder.num_tokens, sizes.image_channels),
        text=words,
        negative=words,
        expression=torch.zeros(config.window_latents, per_latent, sizes.expression_channels),
    )
    blocks = transformer.blocks
    transformer.blocks = blocks[:NUM_BLOCKS]
    try:
        question = ask(transformer, torch.zeros(shape), 0.5, inputs, _branches(config, options))
        velocity, features = question.computed(_level(options))
    finally:
        transformer.blocks = blocks
    return [velocity, *features]


def _branches(config: Config, options: Options) -> tuple[Branch, ...]:
    return guidance_of(config, options).branches


def _level(options: Options) -> Level:
    if options.prediction == "none":
        return "velocity"
    return "hidden" if options.prediction == "threshold" else options.prediction_level


def predicted_bytes(config: Config, options: Options, value_bytes: int) -> int:
    """Features of order + 1 steps that prediction keeps of one window, and of blocks that are not rehearsed."""
    if options.prediction == "none":
        return 0
    count = 1 if options.prediction == "threshold" else options.prediction_order + 1
    cells = len(_branches(config, options)) * config.window_latents * config.latent_size**2
    hidden = value_bytes * cells // (PATCH[1] * PATCH[2]) * config.transformer.width
    num_parts = 3 * config.transformer.num_layers
    step = {
        "velocity": 4 * cells * config.vae.latent_channels,
        "hidden": hidden,
        "module": num_parts * hidden,
    }
    probes = count * hidden if options.prediction == "controlled" else 0
    # What the first block read at the last step, in float32.
    seen = 4 * hidden // value_bytes if options.prediction == "threshold" else 0
    missing = (num_parts - 3 * NUM_BLOCKS) * hidden if _level(options) == "module" else 0
    return count * step[_level(options)] + probes + seen + max(0, missing)
