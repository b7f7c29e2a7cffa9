"""The contract between a model family and everything else: four nouns and five methods.

An Engine holds weights and never changes after loading. Who is animated is a Portrait, made once. Everything
that changes while streaming is a State, made by `start` and passed by the caller, so that one engine serves
any number of sessions. This file knows no family and no loop; the loop is `vivant.session`.

Letters: M references, T frames, S audio samples, H W pixels.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vivant import records
from vivant.controls import NAMES, Controls
from vivant.errors import InputError
from vivant.face.choose import FaceChoice
from vivant.face.crop import DRIVING_CROP, CropSpec
from vivant.face.framing import Framing, frame_faces, the_one
from vivant.media.image import read_image, to_rgb
from vivant.ops.fetching import as_pixels
from vivant.runtime import precision
from vivant.runtime.offload import WORK_DEVICE

Picture: TypeAlias = str | Path | Image.Image | np.ndarray | Tensor
"""A path, PIL image, uint8 RGB array (H, W, 3), or float tensor (3, H, W) or (M, 3, H, W) in [0, 1]."""

MotionPart: TypeAlias = Literal["pose", "expression", "lips", "eyes"]
"""What can be taken from one Motion into another."""


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """What a family eats and how late it answers. Session, programs and bench all read latency from here."""

    driving: Literal["video", "audio"]
    chunk_frames: int
    """Frames that `encode_motion` takes (and `render` gives, once the delay is filled) per step."""
    delay_frames: int
    """Frames pushed, beyond the chunk itself, before the first comes out. 0: chunks are answered at once."""
    frame_rate_hz: float | None
    """Rate the family was made for; None where any rate does."""
    sample_rate_hz: int | None = None
    """Rate of driving audio; None for video."""

    def __post_init__(self) -> None:
        if self.chunk_frames < 1 or self.delay_frames < 0:
            raise ValueError(
                f"chunk_frames is at least 1, delay_frames 0, got {self.chunk_frames}, {self.delay_frames}"
            )
        if self.driving == "audio" and (self.sample_rate_hz is None or self.frame_rate_hz is None):
            raise ValueError("an audio family declares both sample_rate_hz and frame_rate_hz")

    @property
    def latency_frames(self) -> int:
        """Frames between the arrival of a frame and its answer: the rest of its chunk, and the delay."""
        return self.chunk_frames - 1 + self.delay_frames

    def latency_seconds(self, frame_rate_hz: float, step_seconds: float) -> float:
        """From a frame's arrival to its answer, live: what it waits for, and the computation of one chunk."""
        return self.latency_frames / frame_rate_hz + step_seconds

    @property
    def samples_per_frame(self) -> int:
        """Audio samples behind one frame; 0 for video."""
        if self.sample_rate_hz is None or self.frame_rate_hz is None:
            return 0
        return round(self.sample_rate_hz / self.frame_rate_hz)


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """Who is animated: everything computed once from the reference. Families add their features."""

    framing: Framing | None = None
    """The picture and where the face was cut from it, for paste-back; None where a crop was given."""
    references: Tensor | None = None
    """(M, 3, H, W) in [0, 1]: the aligned crops that it was made from."""

    @property
    def reference(self) -> Tensor | None:
        """(3, H, W): the first of them, shown where nothing drives."""
        return None if self.references is None else self.references[0]


@dataclass(kw_only=True)
class State:
    """Everything that changes while streaming. Families add their fields, each with shape and meaning."""

    portrait: Portrait
    """Not saved with the state: a portrait is made again from its reference."""
    options: Any
    """The family's Options; replaced whole between two frames."""
    generator: torch.Generator
    """The only source of randomness of this stream."""
    frame_rate_hz: float = 25.0
    """Of the frames that drive, for what is measured in seconds; families made for one rate do not ask."""

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A copy as flat tensors (safetensors-able) and a JSON-able tree of the rest."""
        tensors: dict[str, Tensor] = {}
        names = [field.name for field in fields(self) if field.name != "portrait"]
        return tensors, {name: records.to_data(getattr(self, name), tensors, name) for name in names}

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], scalars: dict[str, Any], portrait: Portrait, device: str = "cpu"
    ) -> Self:
        """The state that `to_tensors` saved, for the same portrait. Raises ValueError if it does not fit."""
        loaded = records.decode_fields(cls, scalars, tensors, device, skip=frozenset({"portrait"}))
        return cls(portrait=portrait, **loaded)


ConfigT = TypeVar("ConfigT")
OptionsT = TypeVar("OptionsT")
MotionT = TypeVar("MotionT")
PortraitT = TypeVar("PortraitT", bound=Portrait)
StateT = TypeVar("StateT", bound=State)


class Engine(ABC, Generic[ConfigT, OptionsT, MotionT, PortraitT, StateT]):
    """A family ready to animate. Images are float32 RGB in [0, 1], channels first, on any device."""

    family: ClassVar[str]
    config_type: ClassVar[type]
    options_type: ClassVar[type]
    state_type: ClassVar[type[State]]
    motion_type: ClassVar[type | None] = None
    """The family's Motion, where it can be saved and replayed frame by frame."""
    network_methods: ClassVar[tuple[str, ...]]
    """Methods of the networks that run per frame: what `runtime="compile"` compiles."""
    can_record: ClassVar[bool] = False
    """Whether there is `record()`, after which streams are drawn with CUDA graphs: what `runtime="graphs"` calls."""
    hears: ClassVar[bool] = False
    """Whether it is driven by sound. `stream`, which says so too, some families have only once they are loaded."""
    draws_apart: ClassVar[bool] = False
    """Whether `begin_render` leaves the drawing to the call that it returns."""
    stream: StreamSpec

    def __init__(self, config: ConfigT, networks: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        """Networks as `precision.place` left them; `dtype` is what they compute in."""
        self.config = config
        self.networks = networks.eval().requires_grad_(False)
        self.dtype = dtype

    @staticmethod
    @abstractmethod
    def build_networks(config: Any) -> nn.Module:
        """Untrained networks of that architecture, not placed on any device."""

    @staticmethod
    def fold_networks(networks: nn.Module) -> None:
        """Merge in place what is constant at inference: same numbers up to rounding. Nothing by default."""

    @classmethod
    def fold_networks_for_export(cls, networks: nn.Module) -> None:
        """The same, as far as other runtimes profit from it."""
        cls.fold_networks(networks)

    def network_calls(self, seed: int) -> Mapping[str, tuple[Any, ...]]:
        """For exporting: methods of the networks by dotted name, each with the arguments of a call for one frame.

        Together they hold all weights; none: no export. Numbers, and sizes that a file leaves open, differ with seeds.
        """
        return {}

    @staticmethod
    @abstractmethod
    def tiny_configs() -> Mapping[str, Any]:
        """Configs that run in milliseconds, one per architecture of the family, for the contract tests."""

    @property
    @abstractmethod
    def crop_size_px(self) -> int:
        """Side of the square crops that the networks see. Pictures of any other size are resized to it."""

    @property
    def crop(self) -> CropSpec:
        """The square around a face that the networks were trained on."""
        return CropSpec()

    @property
    def driving_crop(self) -> CropSpec:
        """The square around a driver's face, where one is looked for."""
        return DRIVING_CROP

    @property
    def motion_kind(self) -> str:
        """What a Motion is about (which keypoints, say): only motions of one kind can be exchanged."""
        return self.family

    @property
    def takes_source_video(self) -> bool:
        """Whether the portrait may be another picture of the person in each frame: see `appear`."""
        return False

    @property
    def device(self) -> torch.device:
        """Where inputs belong; weights may rest elsewhere (see vivant.runtime.offload)."""
        return getattr(self.networks, WORK_DEVICE, None) or next(self.networks.parameters()).device

    def prepare(self, image: Picture, *, face: str | None = "largest") -> PortraitT:
        """Turn a picture into a Portrait.

        Args:
            image: a path, PIL image, uint8 RGB array (H, W, 3), or float tensor (3, H, W) or (M, 3, H, W) in
                [0, 1], M pictures of one person.
            face: which face to take: "largest", a number from 0 (largest first), or "x,y" in pixels; or a square
                "x,y@size" around one that no detector finds. None where the picture is already an aligned crop.

        Raises FaceError where there is no such face and InputError where the picture cannot be used.
        """
        if face is None:
            crops = as_reference(image)
            return replace(self.encode_reference(crops.to(self.device)), references=crops)
        name = str(image) if isinstance(image, (str, Path)) else "the picture"
        framings = [
            the_one(self.frame_faces(picture, face, name=name), name) for picture in as_pictures(image)
        ]
        return self.prepare_framed(framings)

    def prepare_faces(self, image: Picture, *, face: FaceChoice | str = "all") -> list[PortraitT]:
        """A Portrait for each of the chosen faces of one picture, by number: "all", or numbers such as "0,2"."""
        name = str(image) if isinstance(image, (str, Path)) else "the picture"
        (picture,) = as_pictures(image)
        return [self.prepare_framed([framing]) for framing in self.frame_faces(picture, face, name=name)]

    def frame_faces(
        self, image: np.ndarray, face: FaceChoice | str, *, name: str = "the picture"
    ) -> list[Framing]:
        """The chosen faces of a uint8 RGB picture, framed as the family was trained, by number.

        face: as in `prepare`; also "all", or numbers such as "0,2". Raises FaceError naming `name`.
        """
        crop = self.crop
        return frame_faces(
            image, face, size_px=self.crop_size_px, scale=crop.scale, vx=crop.vx, vy=crop.vy, name=name
        )

    def prepare_framed(self, framings: Sequence[Framing]) -> PortraitT:
        """A Portrait from framed faces of one person."""
        crops = torch.cat([as_reference(framing.cropped) for framing in framings])
        portrait = self.encode_reference(crops.to(self.device))
        return replace(portrait, framing=framings[0], references=crops)

    def in_float32(self) -> Self:
        """The same weights, with the digits that they have, computing in float32."""
        networks = precision.place(copy.deepcopy(self.networks), self.device, torch.float32)
        return type(self)(self.config, networks)

    def prepare_again(self, portrait: Portrait) -> PortraitT:
        """The portrait of another engine of the family, made anew by this one. Raises InputError."""
        if portrait.references is None:
            raise InputError("this portrait was not made by `prepare` and cannot be made again")
        made = self.encode_reference(portrait.references.to(self.device))
        return replace(made, framing=portrait.framing, references=portrait.references)

    @abstractmethod
    def encode_reference(self, reference: Tensor) -> PortraitT:
        """A Portrait from aligned crops (M, 3, H, W) of one person."""

    @abstractmethod
    def frame_size(self, portrait: PortraitT) -> tuple[int, int]:
        """Height and width of the frames that `render` gives."""

    @abstractmethod
    def start(self, portrait: PortraitT, options: OptionsT | None = None, seed: int = 0) -> StateT:
        """A fresh state. Nothing of an earlier stream is left in it."""

    @abstractmethod
    def encode_motion(self, state: StateT, driving: Tensor) -> MotionT:
        """See one chunk: frames (T, 3, H, W) with T = chunk_frames, or samples (S,)."""

    @abstractmethod
    def render(self, state: StateT, motion: MotionT) -> Tensor:
        """Draw what is due: (T, 3, H, W); T may be 0 while the delay fills."""

    def begin_render(self, state: StateT, motion: MotionT) -> Callable[[], Tensor]:
        """`render` in two parts: what changes the state, now; and what draws, in the returned call.

        Where `draws_apart`, the calls of several frames may be made at the same time, each in any thread. By default
        everything is done now.
        """
        frames = self.render(state, motion)
        return lambda: frames

    @abstractmethod
    def flush(self, state: StateT) -> Tensor:
        """What the delay still owes: (T, 3, H, W)."""

    def seen_from(self, motion: MotionT, windows: Tensor) -> MotionT:
        """The motion as the first window would have shown it, where the window that follows a face moved.

        windows: (T, 3), scale and x, y shift from each frame's window to the first (see face.window). By
        default nothing: right for families that do not measure place and size.
        """
        return motion

    def seen_with(self, motion: MotionT, openness: Tensor) -> MotionT:
        """The motion with what the driver's face points say: (T, 3), how open eyes (image left, right) and lips are.

        Not a number where there were no points. By default nothing: right for families that do not ask.
        """
        return motion

    def watches_eyes(self, options: OptionsT) -> bool:
        """Whether `seen_with` matters for eyes, so that they are worth a close look in each frame. By default not."""
        return False

    def appear(self, state: StateT, portrait: PortraitT) -> None:
        """The person looks like this from the next frame on: the next frame of a source video."""
        raise InputError(f"{self.family} animates pictures, not videos; give a picture as the source")

    def edit_motion(self, portrait: PortraitT, controls: Controls) -> MotionT:
        """The Motion of one frame that shows the portrait under the controls, to be drawn by `render_edit`.

        Raises InputError for controls that the family, or the loaded weights, cannot honour. By default none.
        """
        raise InputError(
            f"the family {self.family} has no {', '.join(NAMES[:3])} ... to edit; choose liveportrait."
        )

    def start_edit(self, portrait: PortraitT) -> StateT:
        """The state in which motions of `edit_motion` are drawn: as they are, relative to the portrait itself."""
        return self.start(portrait)

    def render_edit(self, state: StateT, motion: MotionT) -> Tensor:
        """Draw a motion of `edit_motion`: (1, 3, H, W)."""
        return self.render(state, motion)

    def edited_region(self, portrait: PortraitT, motion: MotionT) -> Tensor:
        """(1, H, W) in [0, 1]: where in the drawn frame the edit is meant to be seen. Everywhere, by default."""
        return torch.ones(1, *self.frame_size(portrait), device=self.device)

    def refer(self, state: StateT, motion: MotionT) -> None:
        """Motion is relative to this one (of one frame), not to the first that comes. Default: nothing."""

    def at_rest(self, state: StateT, motion: MotionT, neutral: MotionT | None) -> MotionT:
        """What `refer` takes where `motion` (one frame) begins a shot and is not itself neutral.

        neutral: the driver at rest, from another picture; None: nothing is known, so that relative motion makes the
        portrait look as the driver does. By default what is given: right for families without relative motion.
        """
        return motion if neutral is None else neutral

    def restart(self, state: StateT) -> None:
        """The driver's next frame begins a new shot: forget what was relative to the last. Default: nothing."""

    def step(
        self, state: StateT, driving: Tensor, windows: Tensor | None = None, openness: Tensor | None = None
    ) -> Tensor:
        """See and draw one chunk."""
        return self.render(state, self.see(state, driving, windows, openness))

    def see(
        self, state: StateT, driving: Tensor, windows: Tensor | None = None, openness: Tensor | None = None
    ) -> MotionT:
        """Everything that one chunk of driving says; drawing needs nothing else of it."""
        motion = self.encode_motion(state, driving)
        motion = motion if openness is None else self.seen_with(motion, openness)
        return motion if windows is None else self.seen_from(motion, windows)


def as_pictures(image: Picture) -> list[np.ndarray]:
    """uint8 RGB arrays (H, W, 3) of whatever a user calls a picture: one, or M for a tensor (M, 3, H, W)."""
    if isinstance(image, Tensor):
        return list(as_pixels(as_reference(image)).cpu().numpy())
    if isinstance(image, (str, Path)):
        return [read_image(image)]
    if isinstance(image, Image.Image):
        return [to_rgb(image)]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"a picture array is uint8 (height, width, 3), got {image.dtype} {image.shape}")
    return [image]


def as_reference(image: Picture) -> Tensor:
    """Float RGB (M, 3, H, W) in [0, 1] of whatever a user calls a picture."""
    if not isinstance(image, Tensor):
        pixels = np.ascontiguousarray(np.stack(as_pictures(image)))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    if not image.is_floating_point() or image.dim() not in (3, 4) or image.shape[-3] != 3:
        shape = tuple(image.shape)
        raise InputError(f"a picture tensor is float (3, H, W) or (M, 3, H, W), got {image.dtype} {shape}")
    return image.reshape(-1, *image.shape[-3:]).float()
