"""The heart of the family: a portrait moves as the driver moves, four frames at a time, twelve frames later.

    reference --VAE--> z_ref --R--> references --+      (+ keyframes of the stream)
        +-----CLIP--> identity ------------------+
                                                 v
    driving --M--> pose --placed, drawn--E_p--> D: window of N chunks at N noise levels --> chunk --VAE--> frames
        +--crop--E_m--> motion tokens ---------> ^                                |
                                                 +---- one level down ------------+

R reference UNet, D denoiser, M motion extractor, E_m and E_p encoders of the face's motion and of the drawn pose
(arXiv 2512.11253, Algorithm 3). The window itself is in `streaming.py`.

Letters: T frames, S side in pixels, L motion tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engine import Engine, Portrait, State, StreamSpec
from vivant.engines.personalive.calls import network_calls
from vivant.engines.personalive.config import (
    LATENT_FACTOR,
    SIZE_STEP,
    Config,
    Options,
    tiny,
    tiny_differences,
)
from vivant.engines.personalive.heads import heads_in, middle_head
from vivant.engines.personalive.motion import (
    Motion,
    Pose,
    bent_portraits,
    cut_faces,
    draw,
    face_boxes,
    lead_in,
    placed,
    pose_of,
)
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.streaming import Incoming, Rules, Scene, Window, advance, begin
from vivant.errors import InputError
from vivant.face.crop import CropSpec
from vivant.runtime import precision
from vivant.runtime.graphs import record_methods


@dataclass(frozen=True, kw_only=True)
class PersonaLivePortrait(Portrait):
    """One person, one picture."""

    scene: Scene
    """What drawing looks at."""
    pose: Pose
    """The head in the picture: one frame."""
    picture: Tensor | None
    """(1, 3, n, n) in [0, 1]: what is bent, where differences to it are drawn."""


@dataclass(kw_only=True)
class PersonaLiveState(State):
    """One stream."""

    portrait: PersonaLivePortrait
    options: Options
    window: Window
    """Chunks on their way from noise to picture, and keyframes."""
    first: Tensor | None
    """(1, 3): the driver's first translation, that shifts are measured from. None before the first frame."""
    seen: Pose | None
    """Of one frame: the driver's head when it was last seen, where it is read off the face mesh."""
    last: Motion | None
    """Of one frame: what the end of the stream is held with. None before the first frame."""
    num_given: int
    """Chunks of driving."""
    num_shown: int
    """Chunks of frames that came out."""


class PersonaLive(Engine[Config, Options, Motion, PersonaLivePortrait, PersonaLiveState]):
    """The family `personalive`."""

    family: ClassVar[str] = "personalive"
    config_type = Config
    options_type = Options
    state_type = PersonaLiveState
    network_methods = ("denoise", "references", "motion_tokens", "pose_features", "decode", "decode_tiny")
    can_record = True

    def __init__(self, config: Config, networks: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(config, networks, dtype)
        self.stream = StreamSpec(
            driving="video",
            chunk_frames=config.chunk_frames,
            delay_frames=config.delay_frames,
            frame_rate_hz=None,
        )

    def record(self) -> None:
        """All but `references`, which are made once per portrait and keyframe. What is seen and where it goes is
        recorded with the small steps around the networks, each of which takes the host longer than the device."""
        record_methods(
            self.networks, ("denoise",), remembers=True
        )  # the portrait's references, hundreds of MB
        record_methods(self.networks, ("decode", "decode_tiny"))
        record_methods(self, ("_face_tokens" if self.config.reads_mesh else "_seen", "_pose_features"))

    @staticmethod
    def build_networks(config: Config) -> nn.Module:
        return Networks(config)

    @staticmethod
    def tiny_configs() -> Mapping[str, Config]:
        return {"tiny": tiny(), "tiny_differences": tiny_differences()}

    @property
    def crop_size_px(self) -> int:
        return self.config.image_size

    @property
    def crop(self) -> CropSpec:
        return CropSpec(scale=self.config.crop_scale, vy=self.config.crop_vy)

    @property
    def driving_crop(self) -> CropSpec:
        """As a portrait's, so that a driver's size and place mean the same in it."""
        return self.crop

    def network_calls(self, seed: int) -> Mapping[str, tuple[Any, ...]]:
        """See Engine.network_calls: the denoiser looks at two sets of references, with an odd seed at three."""
        return network_calls(self._networks, self.config, seed)

    @torch.no_grad()
    def encode_reference(self, reference: Tensor) -> PersonaLivePortrait:
        if len(reference) != 1:
            raise InputError(f"personalive animates one picture of a person, got {len(reference)}")
        height, width = self._portrait_size(reference)
        picture = _resized(reference.to(self.device, torch.float32), height, width)
        networks, differs = self._networks, self.config.draws_differences
        if self.config.reads_mesh:
            pose = heads_in(picture, middle_head(self.device))
        else:
            pose = self._head(picture)
        face_tokens = self._face_tokens(picture, pose)
        with precision.computing(self.device, self.dtype):
            latents = networks.encode(picture).float()
            token = networks.identity_token(picture)
            scene = Scene(
                latents=latents,
                identity_token=token,
                identity=networks.denoiser.embed_identity(token),
                references=networks.references(latents, token),
                tokens=face_tokens,
            )
        return PersonaLivePortrait(scene=scene, pose=pose, picture=picture if differs else None)

    def frame_size(self, portrait: PersonaLivePortrait) -> tuple[int, int]:
        height, width = portrait.scene.latents.shape[2:]
        return height * LATENT_FACTOR, width * LATENT_FACTOR

    def start(
        self, portrait: PersonaLivePortrait, options: Options | None = None, seed: int = 0
    ) -> PersonaLiveState:
        options = options if options is not None else Options()
        if options.decoder == "tiny" and not self.config.has_tiny_decoder:
            raise InputError(
                "this checkpoint has no tiny decoder; convert it again with taesd, or leave --decoder out"
            )
        generator = torch.Generator(device=self.device).manual_seed(seed)
        return PersonaLiveState(
            portrait=portrait,
            options=options,
            generator=generator,
            window=begin(portrait.scene, self._rules(options, generator)),
            first=None,
            seen=None,
            last=None,
            num_given=0,
            num_shown=0,
        )

    @torch.no_grad()
    def encode_motion(self, state: PersonaLiveState, driving: Tensor) -> Motion:
        side = self.config.image_size
        frames = _resized(driving.to(self.device, torch.float32), side, side)
        if not self.config.reads_mesh:
            return self._seen(frames)
        pose = heads_in(frames, state.portrait.pose if state.seen is None else state.seen)
        state.seen = pose.last
        return Motion(self._face_tokens(frames, pose), pose.degrees, pose.scale, pose.translation)

    @torch.no_grad()
    def render(self, state: PersonaLiveState, motion: Motion) -> Tensor:
        if len(motion) != self.config.chunk_frames:
            raise InputError(
                f"personalive draws {self.config.chunk_frames} frames at a time, got {len(motion)}"
            )
        state.num_given += 1
        state.last = motion[-1]
        return self._drawn(state, motion)

    @torch.no_grad()
    def flush(self, state: PersonaLiveState) -> Tensor:
        """What is still in the window: the driver holds still until it is out."""
        owed: list[Tensor] = []
        while state.last is not None and state.num_shown < state.num_given:
            owed.append(self._drawn(state, state.last.repeat(self.config.chunk_frames)))
        none = torch.zeros(0, 3, *self.frame_size(state.portrait), device=self.device)
        return torch.cat([none, *owed])

    def seen_from(self, motion: Motion, windows: Tensor) -> Motion:
        scale, shift = windows[:, :1], windows[:, 1:]
        place = motion.translation.clone()
        place[:, :2] = scale * place[:, :2] + shift
        return replace(motion, scale=scale * motion.scale, translation=place)

    def refer(self, state: PersonaLiveState, motion: Motion) -> None:
        state.first = motion.translation[:1]

    def restart(self, state: PersonaLiveState) -> None:
        state.first = state.seen = None

    def _drawn(self, state: PersonaLiveState, motion: Motion) -> Tensor:
        """One chunk further: the frames that leave the window, if they are to be shown."""
        networks = self._networks
        rules = self._rules(state.options, state.generator)
        leads = state.window.num_chunks < self.config.num_chunks - 1
        pose, tokens = self._entering(state, motion)
        height, width = self.frame_size(state.portrait)
        incoming = Incoming(
            tokens=tokens,
            pose=self._pose_features(pose, height, width),
            known=self._known(state.portrait, pose),
        )
        with precision.computing(self.device, self.dtype):
            latents = advance(networks, state.portrait.scene, state.window, incoming, rules)
            if leads and state.options.lead_in == "dropped":
                return torch.zeros(0, 3, height, width, device=self.device)
            decode = networks.decode if state.options.decoder == "full" else networks.decode_tiny
            frames = decode(latents)
        state.num_shown += 1
        return frames.float().clamp(0, 1)

    def _entering(self, state: PersonaLiveState, motion: Motion) -> tuple[Pose, Tensor]:
        """Poses and motion tokens of the chunk; before the first chunk, those of the lead-in."""
        reference, options = state.portrait.pose, state.options
        if state.first is None:
            state.first = motion.translation[:1]
        pose = placed(reference, motion, state.first, options.placement)
        if state.window.num_chunks:
            return pose, motion.tokens
        whole = options.placement == "paper"
        count = self.config.window_frames if whole else self.config.delay_frames
        # Paper: from 0 to 1 over the window. Published: up to, not including, the first driven frame.
        weights = torch.arange(count, device=self.device) / max(count - 1 if whole else count, 1)
        end = placed(reference, motion[0], state.first, options.placement)
        led, tokens = lead_in(reference, state.portrait.scene.tokens, end, motion.tokens[:1], weights)
        if whole:
            return led, tokens
        return led.then(pose), torch.cat([tokens, motion.tokens])

    def _known(self, portrait: PersonaLivePortrait, pose: Pose) -> Tensor | None:
        """(T, Z, h, w): latents of the portrait, bent to the poses, where differences to it are drawn."""
        if portrait.picture is None:
            return None
        bent = bent_portraits(portrait.picture, portrait.pose.keypoints, pose.keypoints[None])
        return self._networks.encode(bent[0]).float()

    # Where things are is computed outside of `computing`: a place near 1 moves by a pixel in bfloat16.

    def _seen(self, frames: Tensor) -> Motion:
        """What the networks see in frames (T, 3, H, W), float32."""
        pose = self._head(frames)
        return Motion(self._face_tokens(frames, pose), pose.degrees, pose.scale, pose.translation)

    def _head(self, frames: Tensor) -> Pose:
        """Of frames (T, 3, H, W), float32, by the motion extractor."""
        with precision.computing(self.device, self.dtype):
            return pose_of(self._networks.head(frames))

    def _face_tokens(self, frames: Tensor, pose: Pose) -> Tensor:
        """Pictures (T, 3, H, W) and their heads -> motion tokens (T, L, C), float32."""
        boxes = face_boxes(pose.keypoints, *frames.shape[2:])
        faces = cut_faces(frames, boxes, self.config.motion_encoder.image_size)
        with precision.computing(self.device, self.dtype):
            return self._networks.motion_tokens(faces).float()

    def _pose_features(self, pose: Pose, height: int, width: int) -> Tensor:
        """What the denoiser is told of heads in frames of this size: (T, C, height / 8, width / 8), float32."""
        drawing = draw(pose.keypoints, height, width)
        with precision.computing(self.device, self.dtype):
            return self._networks.pose_features(drawing).float()

    def _rules(self, options: Options, generator: torch.Generator) -> Rules:
        def noise(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, device=self.device)

        return Rules(config=self.config, options=options, noise=noise)

    def _portrait_size(self, reference: Tensor) -> tuple[int, int]:
        """Of the frames: square, but for an oblong crop that fits the latent's steps."""
        height, width = reference.shape[2:]
        whole = height % SIZE_STEP == 0 and width % SIZE_STEP == 0
        oblong = height != width and whole and not self.config.draws_differences
        side = self.config.image_size
        return (height, width) if oblong else (side, side)

    @property
    def _networks(self) -> Networks:
        return cast("Networks", self.networks)


def _resized(pictures: Tensor, height: int, width: int) -> Tensor:
    """(T, 3, H, W), smoothed where they get smaller."""
    if pictures.shape[2:] == (height, width):
        return pictures
    return F.interpolate(pictures, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
