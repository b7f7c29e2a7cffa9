"""Algorithm 1 of the paper, our way: from source and driving motion to driven keypoints, corrected.

    source lips closed (optional) -> drive -> multiplier -> eyes and lips opened as wanted -> stitching

Unlike the published program, retargeting corrects the driven motion instead of replacing it, all corrections come
before stitching so that stitching sees them, and the multiplier leaves stitching alone
(docs/decisions/0010-retargeting-corrects.md). Legend: T frames, K keypoints.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from vivant.engines.liveportrait.config import Config, Options
from vivant.engines.liveportrait.motion import (
    Motion,
    amplify,
    drive,
    expression_gain,
    keypoints,
    rescaled,
)
from vivant.engines.liveportrait.published_motion import (
    moved_points,
    neutral_expression,
    place_published,
    stitches,
)
from vivant.errors import InputError

LIP_THRESHOLD = 0.03
"""Lips opened less than this count as closed (published value)."""
NEUTRAL_EYES_OPEN = 0.3
"""Openness of the eyes of a neutral face."""


class RetargetingNetworks(Protocol):
    """S, R_eyes and R_lip of either set of networks."""

    @property
    def has_stitching(self) -> bool:
        """Whether shoulders can be held."""

    @property
    def has_retargeting(self) -> bool:
        """Whether the checkpoint holds R_eyes and R_lip."""

    def stitch(self, source: Tensor, driven: Tensor) -> Tensor:
        """x_s and x_d (1 or T, K, 3) and (T, K, 3) -> x_d + S(x_s, x_d)."""

    def retarget(
        self,
        source: Motion,
        source_keypoints: Tensor,
        driven: Motion,
        eyes: Tensor | None,
        lips: Tensor | None,
    ) -> tuple[Motion, Tensor]:
        """The driven motion with eyes (T, 2) and lips (T, 1) opened so far, and the offsets (T, K, 3) of its keypoints.

        Where `driven` does not say how open it is, the offsets are those from the source.
        """


def place(
    networks: RetargetingNetworks,
    source: Motion,
    source_keypoints: Tensor,
    driving: Motion,
    first: Motion,
    options: Options,
    config: Config,
    *,
    source_moves: bool = False,
) -> tuple[Motion, Tensor]:
    """Driven motion and keypoints (T, K, 3); source (one frame), driving (T), the driver's first motion (one).

    source_moves: the source is a frame of a video, which only the published program treats in another way.
    """
    check_options(networks, options, config)
    check_measured(source, driving, first, options)
    if options.compatibility == "published":
        return place_published(
            networks, source, source_keypoints, driving, first, options, config, source_moves=source_moves
        )
    if options.relative and options.relative_to == "neutral":
        first = neutral_reference(driving[0], config)
    start, offset = source, torch.zeros_like(source_keypoints)
    if (
        options.normalize_lip
        and source.lips_open is not None
        and float(source.lips_open.max()) >= LIP_THRESHOLD
    ):
        start, offset = networks.retarget(
            source, source_keypoints, source, None, torch.zeros_like(source.lips_open)
        )
    driven = drive(start, driving, first, options, config)
    where = keypoints(driven, driven.canonical, config)
    if options.moves_points(config):
        where = _moved_as_the_driver(start, driving, first, options, config)
    if config.networks == "published":
        where = where + offset
    where = amplify(source_keypoints, where, options.driving_multiplier)
    eyes, lips = wanted_openness(start, driving, first, options)
    if eyes is not None or lips is not None:
        driven, offset = networks.retarget(source, source_keypoints, driven, eyes, lips)
        where = where + offset
    return driven, networks.stitch(source_keypoints, where) if stitches(networks, options, config) else where


def check_options(networks: RetargetingNetworks, options: Options, config: Config) -> None:
    """Raise InputError for what these networks cannot do."""
    if config.subject == "animal":
        _check_animal(options)
    asked = {
        "stitching": bool(options.stitching) and not networks.has_stitching,
        "eye retargeting": options.retargets_eyes and not networks.has_retargeting,
        "lip retargeting": options.retargets_lips and not networks.has_retargeting,
        "normalize_lip": options.normalize_lip and not networks.has_retargeting,
    }
    if any(asked.values()):
        wishes = " and ".join(name for name, wish in asked.items() if wish)
        raise InputError(
            f"this preset has no networks for {wishes}; leave it out, or use a preset that was trained for it"
        )


def _check_animal(options: Options) -> None:
    """Refuse what needs parts of a human face: their keypoints, their openness, a neutral human expression."""
    asked = {
        f"region {options.region}": options.region != "all",
        "eye retargeting": options.retargets_eyes,
        "lip retargeting": options.retargets_lips,
        "normalize_lip": options.normalize_lip,
        "relative_to neutral": options.relative_to == "neutral",
    }
    if wishes := " and ".join(name for name, wish in asked.items() if wish):
        raise InputError(f"animals have no {wishes}: it was made for human faces; leave it out")


def check_measured(source: Motion, driving: Motion, first: Motion, options: Options) -> None:
    """Raise InputError where retargeting lacks the openness of a face."""
    for what, value, used in (
        ("eye", "eyes_open", options.retargets_eyes),
        ("lip", "lips_open", options.retargets_lips or options.normalize_lip),
    ):
        if used and getattr(source, value) is None:
            raise InputError(
                f"{what} retargeting needs the portrait's face points; prepare the portrait with a face, not face=None"
            )
    for what, value, used in (
        ("eye", "eyes_open", options.eye_retargeting and options.eyes_open is None),
        ("lip", "lips_open", options.lip_retargeting and options.lips_open is None),
    ):
        if used and (getattr(driving, value) is None or getattr(first, value) is None):
            raise InputError(
                f"{what} retargeting needs the driver's face points; let the driving face be found, "
                f"or give {value} instead"
            )


def neutral_reference(driving: Motion, config: Config) -> Motion:
    """The driver as it would be with a neutral face looking ahead, where it is (one frame)."""
    expression = torch.zeros_like(driving.expression)
    if config.networks == "published":
        expression = neutral_expression().to(expression).expand_as(expression)
    return replace(
        driving,
        rotation=torch.eye(3).to(driving.rotation).expand_as(driving.rotation),
        expression=expression,
        eyes_open=None
        if driving.eyes_open is None
        else torch.full_like(driving.eyes_open, NEUTRAL_EYES_OPEN),
        lips_open=None if driving.lips_open is None else torch.zeros_like(driving.lips_open),
    )


def wanted_openness(
    source: Motion, driving: Motion, first: Motion, options: Options
) -> tuple[Tensor | None, Tensor | None]:
    """How far eyes (T, 2) and lips (T, 1) shall be open; None where they are not retargeted."""
    eyes = lips = None
    if options.eyes_open is not None:
        eyes = driving.scale.new_full((len(driving), 2), options.eyes_open)
    elif options.eye_retargeting:
        eyes = rescaled(source.eyes_open, driving.eyes_open, first.eyes_open)
    if options.lips_open is not None:
        lips = driving.scale.new_full((len(driving), 1), options.lips_open)
    elif options.lip_retargeting:
        lips = rescaled(source.lips_open, driving.lips_open, first.lips_open)
    return eyes, lips


def _moved_as_the_driver(
    source: Motion, driving: Motion, first: Motion, options: Options, config: Config
) -> Tensor:
    """`moved_points`, with our gain on expression."""
    gain = expression_gain(config).to(driving.expression.device)
    amplified = replace(driving, expression=first.expression + gain * (driving.expression - first.expression))
    return moved_points(source, amplified, first, options, config)
