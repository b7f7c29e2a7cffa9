"""Clips out: H.264 video with the sound of another file, or a folder of pictures. See `types.FrameWriter`.

Both appear under their name only when complete; an exception inside the `with` block, Ctrl-C included,
leaves nothing.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import numpy as np

from vivant.errors import InputError
from vivant.media.h264 import (
    DEFAULT_CRF,
    PictureEncoder,
    check_picture,
    close_quietly,
    encoding,
    even_size,
)
from vivant.media.image import IMAGE_SUFFIXES, check_image_suffix, check_pixels, save_image
from vivant.media.probe import number_field
from vivant.media.soundtrack import Soundtrack, carried_sound
from vivant.media.staging import Seal, StagedFile, StagedFolder, output_errors

__all__ = ["DEFAULT_CRF", "VIDEO_SUFFIXES", "ImageSequenceWriter", "VideoWriter", "open_writer"]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")
"""File names that `VideoWriter` accepts."""

_DEFAULT_PICTURE_NAME = "%05d.png"


def open_writer(
    path: str | Path,
    frame_rate: Fraction,
    width: int,
    height: int,
    *,
    crf: int = DEFAULT_CRF,
    audio_from: str | Path | None = None,
    overwrite: bool = False,
    seal: Seal | None = None,
) -> VideoWriter | ImageSequenceWriter:
    """The writer for an output name: .mp4, .m4v or .mov is a video; a name without suffix, an existing
    folder, or a pattern such as `frames/%05d.png` is a picture sequence (without sound: `audio_from` is
    then left unused, and `has_audio` of the writer says so). Raises InputError for other names and whatever
    the writers refuse.
    """
    path = Path(path)
    kind = output_kind(path)
    if kind == "picture":
        raise _no_output(path)
    if kind == "video":
        return VideoWriter(
            path, frame_rate, width, height, crf=crf, audio_from=audio_from, overwrite=overwrite, seal=seal
        )
    return ImageSequenceWriter(path, width, height, overwrite=overwrite, seal=seal)


def output_kind(path: Path) -> Literal["video", "picture", "pictures"]:
    """What an output of that name is. Raises InputError where it can be none."""
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return "video"
    if number_field(path) or path.is_dir() or not path.suffix:
        return "pictures"
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return "picture"
    raise _no_output(path)


def _no_output(path: Path) -> InputError:
    return InputError(
        f"{path} is neither a video nor a picture sequence; name it .mp4 or .mov, "
        "or use a folder or folder/%05d.png."
    )


class VideoWriter:
    """H.264 in MP4 or MOV, as every player takes it: yuv420p, BT.709 limited range and tagged so, index at
    the front.

    That pixel format needs even sizes: an odd width or height gets one more column or row, a copy of the
    last one; `width` and `height` are the encoded size. Frame k is shown at exactly k / frame_rate.

    Sound of `audio_from` (a video or audio file, None for silence) starts together with the picture and
    ends with it at the latest; the picture is never shortened. AAC, MP3, ALAC and AC-3 are copied, other
    codecs become AAC. A file without sound gives an output without sound (`has_audio`).

    Raises InputError, before any work, when the output exists (without `overwrite`) or cannot be written,
    or when an argument is out of range; and later when the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        frame_rate: Fraction,
        width: int,
        height: int,
        *,
        crf: int = DEFAULT_CRF,
        preset: str = "medium",
        audio_from: str | Path | None = None,
        overwrite: bool = False,
        seal: Seal | None = None,
    ) -> None:
        self.path = Path(path)
        check_video(self.path, frame_rate, width, height, crf)
        self.frame_rate = frame_rate
        self.width, self.height = even_size(width, height)
        self._is_finished = False
        self._cleanup = ExitStack()
        with ExitStack() as stack:
            self._staged = StagedFile(self.path, overwrite=overwrite, seal=seal)
            stack.callback(self._staged.discard)
            with encoding(self.path, self.width, self.height):
                self._container = open_container(self._staged.temporary, self.path)
                stack.callback(close_quietly, self._container)
                self._encoder = PictureEncoder(
                    self._container, frame_rate, width, height, crf=crf, preset=preset
                )
            self._sound: Soundtrack | None = None
            if audio_from is not None:
                self._sound = carried_sound(Path(audio_from), self._container, stack)
            with encoding(self.path, self.width, self.height):
                self._container.start_encoding()
            self._cleanup = stack.pop_all()

    @property
    def num_frames(self) -> int:
        """Frames written so far."""
        return self._encoder.num_frames

    @property
    def has_audio(self) -> bool:
        """Whether the output carries sound."""
        return self._sound is not None

    @property
    def duration(self) -> Fraction:
        """Seconds written so far."""
        return self.num_frames / self.frame_rate

    def write(self, image: np.ndarray) -> None:
        """Append one picture, uint8 RGB of the size given at the start, and the sound up to its end."""
        if self._is_finished:
            raise ValueError(f"{self.path}: write after close")
        with encoding(self.path, self.width, self.height):
            self._encoder.write(image)
            if self._sound is not None:
                self._sound.write_until(self.duration)

    def close(self) -> None:
        """Finish the file and move it to its name; once only. Raises InputError when nothing was written or the disk
        is full."""
        if self._is_finished:
            return
        self._is_finished = True
        with self._cleanup:
            if self.num_frames == 0:
                raise InputError(f"no frame was written to {self.path}; check that the input has frames.")
            with encoding(self.path, self.width, self.height):
                self._encoder.finish()
                if self._sound is not None:
                    self._sound.close()
                self._container.close()
            self._staged.commit()

    def abort(self) -> None:
        """Throw the unfinished file away. Does nothing after `close`."""
        self._is_finished = True
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class ImageSequenceWriter:
    """A folder of numbered pictures, without sound: `frames` (then 00000.png, ...) or `frames/shot_%04d.jpg`.

    The folder appears under its name only when complete. An existing folder is refused unless it is empty, or
    `overwrite` is given and it holds nothing but pictures of that kind.
    """

    has_audio = False

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        *,
        overwrite: bool = False,
        seal: Seal | None = None,
    ) -> None:
        self.path = Path(path)
        folder, self._name = picture_names(self.path)
        _check_size(self.path, width, height)
        self.width, self.height = width, height
        self.num_frames = 0
        self._is_finished = False
        suffix = Path(self._name).suffix.lower()
        self._staged = StagedFolder(folder, suffix, overwrite=overwrite, seal=seal)

    def write(self, image: np.ndarray) -> None:
        """Append one picture, uint8 RGB of the size given at the start."""
        if self._is_finished:
            raise ValueError(f"{self.path}: write after close")
        check_picture(image, (self.height, self.width))
        with output_errors(self.path):
            save_image(self._staged.temporary / (self._name % self.num_frames), image)
        self.num_frames += 1

    def close(self) -> None:
        """Move the folder to its name. Raises InputError when nothing was written."""
        if self._is_finished:
            return
        self._is_finished = True
        try:
            if self.num_frames == 0:
                raise InputError(f"no frame was written to {self.path}; check that the input has frames.")
            self._staged.commit()
        finally:
            self._staged.discard()

    def abort(self) -> None:
        """Throw the unfinished folder away. Does nothing after `close`."""
        self._is_finished = True
        self._staged.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def picture_names(path: Path) -> tuple[Path, str]:
    """The folder of a picture sequence and the pattern of names in it. Raises InputError."""
    is_pattern = number_field(path) is not None
    folder = path.parent if is_pattern else path
    name = path.name if is_pattern else _DEFAULT_PICTURE_NAME
    check_image_suffix(Path(name))
    if not re.fullmatch(r"[^%]*%0?\d*d[^%]*", name):
        raise InputError(f"{path} needs exactly one number field; use a name such as %05d.png.")
    if folder.resolve() in (Path.cwd(), folder.resolve().parent):
        raise InputError(f"{path} would replace the current folder; name a new folder.")
    return folder, name


def check_video(path: Path, frame_rate: Fraction, width: int, height: int, crf: int) -> None:
    """Raise InputError where a video of that name, rate, size or quality cannot be."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"{path} is not a video name; use one of {', '.join(VIDEO_SUFFIXES)}.")
    if not 0 <= crf <= 51:
        raise InputError(
            f"crf {crf} is out of range; use 0 (lossless) to 51 (worst), {DEFAULT_CRF} looks like the input."
        )
    if frame_rate <= 0:
        raise InputError(f"{frame_rate} is not a frame rate; use a positive number.")
    _check_size(path, width, height)


def open_container(file: Path, path: Path) -> av.container.OutputContainer:
    """A new MP4 or MOV, as `path` says, with its index at the front once it is closed."""
    muxer = "mov" if path.suffix.lower() == ".mov" else "mp4"
    return av.open(f"file:{file}", "w", format=muxer, container_options={"movflags": "+faststart"})


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"a picture has at least one pixel, got {width}x{height}")
    check_pixels(path, width, height)
