"""The heart of the family: a still portrait moves as the driver moves, one frame in, one frame out.

    reference --F--> appearance ------------------------------------+
        +-----M--> source motion --keypoints--> x_s ---------+      |
                          |                                  |      |
    driving --M--> motion --steady--> place: drive, retarget, stitch ------> x_d --W,G--> frame

F appearance, M motion, W and G warping and drawing (arXiv 2407.03168, Fig. 2). `place` (Algorithm 1, retargeting.py)
mixes source and driving motion as the Options say. The networks come in two sets with the same methods, chosen by the
Config.

Letters: T frames, K keypoints, S side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.controls import Controls
from vivant.engine import Engine, Portrait, State, StreamSpec
from vivant.engines.liveportrait.config import (
    Config,
    Options,
    tiny,
    tiny_animals,
    tiny_published,
    tiny_whole,
)
from vivant.engines.liveportrait.editing import edited, touched
from vivant.engines.liveportrait.eyes import Sitter, draw_eyes
from vivant.engines.liveportrait.motion import Motion, keypoints
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.published_motion import still_reference, stitches
from vivant.engines.liveportrait.retargeting import (
    RetargetingNetworks,
    check_options,
    place,
)
from vivant.engines.liveportrait.steadying import steady
from vivant.errors import InputError
from vivant.face.animals import frame_animal
from vivant.face.choose import FaceChoice
from vivant.face.framing import Framing
from vivant.face.points import eye_openness, lip_openness, to_68
from vivant.runtime import precision
from vivant.runtime.graphs import record_methods


class Networks(RetargetingNetworks, Protocol):
    """What both sets of networks can do; see `networks.py` and `networks_compact.py`."""

    def appearance(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, S, S) in [0, 1] -> what drawing needs of the picture."""

    def motion(self, image: Tensor) -> Motion:
        """(T, 3, S, S) in [0, 1] -> Motion of T frames."""

    def generate(
        self,
        appearance: tuple[Tensor, ...],
        keypoints_source: Tensor,
        keypoints_driving: Tensor,
        source: Motion,
        driving: Motion,
        held: Tensor | None = None,
    ) -> Tensor:
        """One appearance, keypoints (1, K, 3) and (T, K, 3), their motions -> (T, 3, S', S') in [0, 1].

        held: (1, 1), 1 where shoulders stay where they are, as far as `stitch` has not seen to that; else 0.
        """

    def fold(self) -> None:
        """Merge what is constant at inference into the convolutions."""

    def retargeting_calls(self, source: Tensor, driven: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """See Engine.network_calls: those of the networks of Algorithm 1, by keypoints (1, K, 3)."""


@dataclass(frozen=True, kw_only=True)
class LivePortraitPortrait(Portrait):
    """One person, one picture."""

    appearance: tuple[Tensor, ...]
    """What the drawing network keeps of the picture."""
    motion: Motion
    """Pose, expression and neutral shape in the picture: one frame."""
    keypoints: Tensor
    """(1, K, 3): x_s, where the keypoints are in the picture, crop units."""


@dataclass(kw_only=True)
class LivePortraitState(State):
    """One stream. Nothing is random in this family; the generator is there because every State has one."""

    portrait: LivePortraitPortrait
    options: Options
    first: Motion | None
    """The driver's first motion, one frame: what relative motion is relative to.

    None before the first frame.
    """
    smoothed: Motion | None = None
    """The last frame's motion as it was used, one frame; None before the first frame."""
    source_moves: bool | None = None
    """Whether the portrait is a frame of a source video; None: no."""


class LivePortrait(Engine[Config, Options, Motion, LivePortraitPortrait, LivePortraitState]):
    """The family `liveportrait`, with the published or the compact networks."""

    family: ClassVar[str] = "liveportrait"
    config_type = Config
    options_type = Options
    state_type = LivePortraitState
    motion_type = Motion
    network_methods = ("motion", "generate")
    can_record = True
    stream = StreamSpec(driving="video", chunk_frames=1, delay_frames=0, frame_rate_hz=None)
    draws_apart: ClassVar[bool] = True

    def record(self) -> None:
        record_methods(self.networks, self.network_methods)

    @staticmethod
    def build_networks(config: Config) -> nn.Module:
        if config.networks == "compact":
            return CompactNetworks(config)
        from vivant.engines.liveportrait.networks import PublishedNetworks

        return PublishedNetworks(config)

    @staticmethod
    def fold_networks(networks: nn.Module) -> None:
        cast("Networks", networks).fold()

    @classmethod
    def fold_networks_for_export(cls, networks: nn.Module) -> None:
        if isinstance(networks, CompactNetworks):
            networks.fold()
            return
        from vivant.engines.liveportrait.networks import PublishedNetworks

        assert isinstance(networks, PublishedNetworks)
        networks.fold(generator=False)

    def network_calls(self, seed: int) -> Mapping[str, tuple[Any, ...]]:
        side = self.config.image_size
        image, other = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(seed))
        portrait = self.encode_reference(image)
        driving = self._networks.motion(other)
        opened = {"eyes_open": image.new_full((1, 2), 0.3), "lips_open": image.new_full((1, 1), 0.1)}
        source, driving = replace(portrait.motion, **opened), replace(driving, **opened)
        driven = keypoints(driving, driving.canonical, self.config)
        return {
            "appearance": (image,),
            "motion": (image,),
            "generate": (
                *(portrait.appearance, portrait.keypoints, driven, source, driving),
                driven.new_ones(1, 1),
            ),
        } | self._networks.retargeting_calls(portrait.keypoints, driven)

    @staticmethod
    def tiny_configs() -> Mapping[str, Config]:
        return {
            "compact": tiny(),
            "published": tiny_published(),
            "whole": tiny_whole(),
            "animals": tiny_animals(),
        }

    @property
    def takes_source_video(self) -> bool:
        # Faces of animals are guessed once and looked at, not followed.
        return self.config.subject is None

    @property
    def motion_kind(self) -> str:
        return f"{self.config.networks}-{self.config.num_keypoints}"

    @property
    def crop_size_px(self) -> int:
        return self.config.image_size

    def frame_faces(
        self, image: np.ndarray, face: FaceChoice | str, *, name: str = "the picture"
    ) -> list[Framing]:
        if self.config.subject == "animal":
            return [frame_animal(image, face, size_px=self.crop_size_px, name=name)]
        return super().frame_faces(image, face, name=name)

    def prepare_framed(self, framings: Sequence[Framing]) -> LivePortraitPortrait:
        portrait = super().prepare_framed(framings)
        if self.config.networks == "compact":
            # The compact networks read openness from their own points, as they were trained to.
            return portrait
        points = framings[0].landmarks
        if points is None:
            return portrait
        eyes = torch.tensor([eye_openness(points)], dtype=torch.float32, device=self.device)
        lips = torch.tensor([[lip_openness(points)]], dtype=torch.float32, device=self.device)
        return replace(portrait, motion=replace(portrait.motion, eyes_open=eyes, lips_open=lips))

    @torch.no_grad()
    def encode_reference(self, reference: Tensor) -> LivePortraitPortrait:
        if len(reference) != 1:
            raise InputError(f"liveportrait animates one picture of a person, got {len(reference)}")
        image = self._fitted(reference)
        with precision.computing(self.device, self.dtype):
            appearance = self._networks.appearance(image)
            motion = self._networks.motion(image).to(dtype=torch.float32)
        return LivePortraitPortrait(
            appearance=tuple(appearance),
            motion=motion,
            keypoints=keypoints(motion, motion.canonical, self.config),
        )

    def frame_size(self, portrait: LivePortraitPortrait) -> tuple[int, int]:
        return self.config.output_size, self.config.output_size

    def start(
        self, portrait: LivePortraitPortrait, options: Options | None = None, seed: int = 0
    ) -> LivePortraitState:
        options = options if options is not None else Options()
        check_options(self._networks, options, self.config)
        return LivePortraitState(
            portrait=portrait,
            options=options,
            generator=torch.Generator(device=self.device).manual_seed(seed),
            first=None,
        )

    @torch.no_grad()
    def encode_motion(self, state: LivePortraitState, driving: Tensor) -> Motion:
        with precision.computing(self.device, self.dtype):
            return self._networks.motion(self._fitted(driving)).to(dtype=torch.float32)

    def render(self, state: LivePortraitState, motion: Motion) -> Tensor:
        return self.begin_render(state, motion)()

    @torch.no_grad()
    def begin_render(self, state: LivePortraitState, motion: Motion) -> Callable[[], Tensor]:
        portrait = state.portrait
        motion = self._steadied(state, motion)
        if state.first is None:
            state.first = motion[0]
        driven, where = place(
            self._networks,
            portrait.motion,
            portrait.keypoints,
            motion,
            state.first,
            state.options,
            self.config,
            source_moves=bool(state.source_moves),
        )
        held = where.new_full((1, 1), float(stitches(self._networks, state.options, self.config)))

        @torch.no_grad()
        def drawn() -> Tensor:
            with precision.computing(self.device, self.dtype):
                frames = self._networks.generate(
                    portrait.appearance, portrait.keypoints, where, portrait.motion, driven, held
                )
            return frames.float().clamp(0, 1)

        return drawn

    def flush(self, state: LivePortraitState) -> Tensor:
        return torch.zeros(0, 3, *self.frame_size(state.portrait), device=self.device)

    def seen_from(self, motion: Motion, windows: Tensor) -> Motion:
        scale, shift = windows[:, :1], windows[:, 1:]
        place = motion.translation.clone()
        place[:, :2] = scale * place[:, :2] + shift
        return replace(motion, scale=scale * motion.scale, translation=place)

    def seen_with(self, motion: Motion, openness: Tensor) -> Motion:
        known = not bool(openness.isnan().any())
        return replace(motion, eyes_open=openness[:, :2], lips_open=openness[:, 2:]) if known else motion

    def watches_eyes(self, options: Options) -> bool:
        return options.eye_retargeting and options.eyes_open is None

    def appear(self, state: LivePortraitState, portrait: LivePortraitPortrait) -> None:
        if not self.takes_source_video:
            super().appear(state, portrait)
        state.portrait, state.source_moves = portrait, True

    @torch.no_grad()
    def edit_motion(self, portrait: LivePortraitPortrait, controls: Controls) -> Motion:
        if self.config.subject == "animal":
            raise InputError(
                "the controls of `vivant edit` were made for human faces; this preset is for animals"
            )
        tilt = 0.0
        if portrait.framing is not None:
            along = portrait.framing.crop.image_to_crop[:, 0]
            tilt = -math.atan2(float(along[1]), float(along[0]))
        return edited(self._networks, portrait.motion, portrait.keypoints, controls, self.config, tilt)

    def start_edit(self, portrait: LivePortraitPortrait) -> LivePortraitState:
        state = self.start(portrait, Options(smoothing_ms=0))
        self.refer(state, portrait.motion)
        return state

    @torch.no_grad()
    def render_edit(self, state: LivePortraitState, motion: Motion) -> Tensor:
        if self.config.networks == "published":
            return self.render(state, motion)
        portrait, seen = state.portrait, None
        framing = portrait.framing
        if framing is not None and framing.landmarks is not None:
            at = framing.crop.to_crop(to_68(framing.landmarks))
            seen = torch.from_numpy(at * (2 / self.config.image_size) - 1).to(self.device, torch.float32)
        still = replace(state, options=replace(state.options, stitching=False))
        picture = None if portrait.references is None else self._fitted(portrait.references[:1])
        sitter = Sitter(portrait.motion, picture, seen)
        frame = draw_eyes(lambda other: self.render(still, other), sitter, motion, self.config)
        return self.render(state, motion) if frame is None else frame

    def edited_region(self, portrait: LivePortraitPortrait, motion: Motion) -> Tensor:
        return touched(portrait.motion, motion, self.config, self.config.output_size)

    def refer(self, state: LivePortraitState, motion: Motion) -> None:
        state.first = motion

    def at_rest(self, state: LivePortraitState, motion: Motion, neutral: Motion | None) -> Motion:
        if neutral is not None:
            # How large and where a face is in its window depends on the window, so pictures do not share it.
            return replace(neutral, scale=motion.scale, translation=motion.translation)
        if self.config.subject == "animal":
            raise InputError(
                "an animal is not driven by one picture, since what its neutral face is, is known of people only; "
                "give a video, or the driver at rest with --reference-frame PICTURE"
            )
        # The head's pose is its own, as published: added to the portrait's it would turn twice.
        if self.config.networks == "published" or state.options.compatibility == "published":
            return still_reference(motion, Options() if state.source_moves else state.options)
        own = state.portrait.motion
        return replace(motion, expression=own.expression, eyes_open=own.eyes_open, lips_open=own.lips_open)

    def restart(self, state: LivePortraitState) -> None:
        state.first = state.smoothed = None

    def _steadied(self, state: LivePortraitState, motion: Motion) -> Motion:
        """Motion smoothed frame by frame, as it would be one frame at a time."""
        if state.options.smoothing_ms == 0:
            state.smoothed = None
            return motion
        frames: list[Motion] = []
        for frame in (motion[index] for index in range(len(motion))):
            if state.smoothed is not None:
                frame = steady(
                    state.smoothed,
                    frame,
                    self.config,
                    time_constant_seconds=state.options.smoothing_ms / 1000,
                    frame_rate_hz=state.frame_rate_hz,
                )
            state.smoothed = frame
            frames.append(frame)
        return Motion.cat(frames)

    @property
    def _networks(self) -> Networks:
        return cast("Networks", self.networks)

    def _fitted(self, image: Tensor) -> Tensor:
        """Pictures (T, 3, H, W) of any size at the side that the networks see, as float32."""
        side = self.config.image_size
        image = image.to(self.device, torch.float32)
        if image.shape[-2:] == (side, side):
            return image
        return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
