"""Training runs of the family, each a function that returns everything the trainer needs but the data.

In this order, each from the export of the one before (`vivant train NAME --init FOLDER`), on the clips of
`vivant studio talk`. At the paper's size: `full_vae_256x5`, `_256x17`, `_256x73`, `_512x17`, `_512x73`, `full_sync`,
`full_generator`, `full_student`, none of which has been run; small, on a CPU: `mini_vae_1`, `_5`, `_9`, `_17`, `_41`,
`mini_sync`, `mini_generator`, `mini_decoder`, `mini_student`; the same on a GPU: `mini_vae_1_gpu`, `mini_vae_9_gpu`,
`mini_generator_gpu`, `mini_student_gpu`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vivant.engines.refvae.config import mini, tiny
from vivant.engines.refvae.recipes_full import (
    Recipe,
    full_generator,
    full_student,
    full_sync,
    full_vae_256x5,
    full_vae_256x17,
    full_vae_256x73,
    full_vae_512x17,
    full_vae_512x73,
    studio_features,
    sync,
)
from vivant.engines.refvae.stages import GeneratorStage, VaeStage
from vivant.engines.refvae.stages_decoder import DecoderStage
from vivant.engines.refvae.stages_student import StudentStage
from vivant.training.config import ParameterGroup, TrainConfig

PART_WEIGHT = 10.0
"""With 6 mouths opened by 0.4 of their way in clips."""


def _mini_vae(
    num_frames: int, num_images: int, batch_size: int, rate: float, max_references: int = 3
) -> Recipe:
    train = TrainConfig(
        name=f"mini_vae_{num_frames}",
        num_images=num_images,
        batch_size=batch_size,
        groups=(ParameterGroup(modules=("networks.vae",), learning_rate=rate),),
        warmup_images=50 * batch_size,
        betas=(0.9, 0.99),
        num_workers=1,
        extra={
            "size_px": mini().image_size,
            "num_frames": num_frames,
            "max_references": max_references,
            "part_weight": PART_WEIGHT,
            "perceptual_weight": 0.1,
            # A divergence of any weight puts latents out before anything needs them: Adam makes its small, steady pull
            # as strong as the rest.
            "divergence_weight": 0.0,
        },
    )
    return Recipe(train, mini(), VaeStage, studio_features)


def mini_vae_1() -> Recipe:
    """Before the schedule: single pictures at 128 px, five times as many different ones for the same work.

    From a start that is solved (`stages_start`).
    """
    recipe = _mini_vae(1, 16_000, 8, 4e-4, max_references=1)
    extra = {**recipe.train.extra, "solved_start": True}
    return replace(recipe, train=replace(recipe.train, warmup_images=1600, extra=extra), perceptual=None)


def mini_vae_5() -> Recipe:
    """The schedule's first step."""
    return _mini_vae(5, 4_000, 8, 3e-4, max_references=2)


def mini_vae_9() -> Recipe:
    """In place of the schedule's second and third: clips of 8 frames in whole latents, mostly near the mouth.

    Near is a fifth of the work, and a mouth is a fiftieth of a face.
    """
    recipe = _mini_vae(9, 16_000, 8, 2e-4, max_references=2)
    extra = {**recipe.train.extra, "latent_noise": 0.1, "near_mouths": 0.85}
    return replace(recipe, train=replace(recipe.train, extra=extra))


def mini_vae_17() -> Recipe:
    """Its second."""
    return _mini_vae(17, 4_000, 2, 2e-4)


def mini_vae_41() -> Recipe:
    """In place of its third: as far back as D2 sees."""
    return _mini_vae(41, 2_000, 1, 1e-4)


def mini_sync() -> Recipe:
    """Audio tower of 0.7 M parameters, which the engine keeps; face tower of 3.1 M, for training and measuring only."""
    return sync("mini_sync", mini(), 1_000_000, 64)


def mini_generator() -> Recipe:
    """A transformer of 1.7 M parameters on windows of 2.5 s."""
    train = replace(
        full_generator().train,
        name="mini_generator",
        num_images=96_000,
        batch_size=8,
        groups=(ParameterGroup(modules=("networks.generator",), learning_rate=8e-4),),
        warmup_images=2_000,
        num_workers=2,
        sharding="replicate",
        extra={
            "size_px": mini().image_size,
            "max_references": 3,
            "num_crops": 2,
            "mouth_weight": 4.0,
            "lips_weight": 2.0,
            # Twelve steps are mostly near the noise (shift 5), where the sound decides what mouths do.
            "time_mean": 1.0,
        },
    )
    return Recipe(train, mini(), GeneratorStage)


def mini_decoder() -> Recipe:
    """D1, D_ref and D2 alone, on what `mini_generator` draws (`stages_decoder`). Not in the paper."""
    parts = ("deep_decoder", "reference_decoder", "picture_decoder")
    groups = tuple(ParameterGroup(modules=(f"networks.vae.{part}",), learning_rate=2e-4) for part in parts)
    recipe = _mini_vae(9, 6_000, 4, 2e-4)
    extra = {
        "size_px": mini().image_size,
        "num_crops": 2,
        "shares": (0.9, 0.05, 0.05),
        "guidances": ((3.0, 3.0), (3.0, 1.0), (3.0, 2.0), (2.0, 2.0)),
        "part_weight": PART_WEIGHT,
        "perceptual_weight": 0.1,
    }
    train = replace(recipe.train, name="mini_decoder", groups=groups, extra=extra)
    return replace(recipe, train=train, stage=DecoderStage)


def _on_gpu(recipe: Recipe, num_images: int, batch_size: int, rate: float) -> Recipe:
    """Large batches; pictures and latents are kept on the device."""
    groups = tuple(replace(group, learning_rate=rate) for group in recipe.train.groups)
    train = replace(
        recipe.train,
        name=f"{recipe.train.name}_gpu",
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        warmup_images=100 * batch_size,
        ema_decay=0.999,
        num_workers=2,
    )
    return replace(recipe, train=train)


def mini_vae_1_gpu() -> Recipe:
    """As `mini_vae_1`, on a GPU."""
    return _on_gpu(mini_vae_1(), 200_000, 64, 5e-4)


def mini_vae_9_gpu() -> Recipe:
    """All of the schedule in one step: clips of 9 frames, of which 8 are in whole latents."""
    return _on_gpu(_mini_vae(9, 1, 1, 1.0, max_references=2), 400_000, 24, 4e-4)


def mini_generator_gpu() -> Recipe:
    """As `mini_generator`, on a GPU."""
    return _on_gpu(mini_generator(), 1_500_000, 128, 1e-3)


def mini_student_gpu() -> Recipe:
    """As `mini_student`, on a GPU."""
    return _on_gpu(mini_student(), 200_000, 64, 2e-4)


def mini_student() -> Recipe:
    """Four steps without guidance, from `mini_generator`."""
    recipe = mini_generator()
    train = replace(
        recipe.train,
        name="mini_student",
        num_images=40_000,
        batch_size=4,
        groups=(ParameterGroup(modules=("networks.generator",), learning_rate=3e-4),),
        warmup_images=400,
        # The teacher's guidance is what the preset is drawn with.
        extra={**full_student().train.extra, **recipe.train.extra, "guidance": (3.0, 3.0)},
    )
    return Recipe(train, recipe.config, StudentStage)


def _debug(recipe: Recipe, num_images: int, batch_size: int, rate: float) -> Recipe:
    """The same stage at a size for tests: seconds on a CPU, and the loss goes down."""
    groups = tuple(replace(group, learning_rate=rate) for group in recipe.train.groups)
    train = replace(
        recipe.train,
        name=recipe.train.name.replace("mini", "debug").replace("_5", ""),
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        warmup_images=2 * batch_size,
        ema_decay=0.9,
        log_steps=5,
        num_workers=0,
        precision="fp32",
        extra={**recipe.train.extra, "size_px": tiny().image_size},
    )
    return replace(recipe, train=train, config=tiny(), perceptual=None)


def debug_vae() -> Recipe:
    """For tests."""
    return _debug(mini_vae_5(), 32, 2, 2e-3)


def debug_sync() -> Recipe:
    """For tests."""
    return _debug(mini_sync(), 960, 16, 1e-2)


def debug_generator() -> Recipe:
    """For tests."""
    return _debug(mini_generator(), 80, 2, 1e-2)


def debug_decoder() -> Recipe:
    """For tests."""
    return _debug(mini_decoder(), 4, 2, 1e-3)


def debug_student() -> Recipe:
    """For tests."""
    return _debug(mini_student(), 40, 2, 1e-3)


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        full_vae_256x5,
        full_vae_256x17,
        full_vae_256x73,
        full_vae_512x17,
        full_vae_512x73,
        full_sync,
        full_generator,
        full_student,
        mini_vae_1,
        mini_vae_5,
        mini_vae_9,
        mini_vae_17,
        mini_vae_41,
        mini_sync,
        mini_generator,
        mini_decoder,
        mini_student,
        mini_vae_1_gpu,
        mini_vae_9_gpu,
        mini_generator_gpu,
        mini_student_gpu,
        debug_vae,
        debug_sync,
        debug_generator,
        debug_decoder,
        debug_student,
    )
}
