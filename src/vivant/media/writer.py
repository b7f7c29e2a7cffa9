"""Clips out: H.264 video with the sound of another file, or a folder of pictures. See `types.FrameWriter`.

Both appear under their name only when complete; an exception inside the `with` block, Ctrl-C included,
leaves nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from vivant.errors import InputError
from vivant.media.image import check_image_suffix, check_pixels, save_image
from vivant.media.probe import number_field
from vivant.media.soundtrack import Soundtrack, carried_sound
from vivant.media.staging import StagedFile, StagedFolder, output_errors

DEFAULT_CRF = 18
"""H.264 constant rate factor: 0 is lossless (and plays in few players), 18 looks like the input, 51 is
worst."""

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")
"""File names that `VideoWriter` accepts."""

_DEFAULT_PICTURE_NAME = "%05d.png"
_MAX_ENCODE_THREADS = 4
_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def open_writer(
    path: str | Path,
    frame_rate: Fraction,
    width: int,
    height: int,
    *,
    crf: int = DEFAULT_CRF,
    audio_from: str | Path | None = None,
    overwrite: bool = False,
) -> VideoWriter | ImageSequenceWriter:
    """The writer for an output name: .mp4, .m4v or .mov is a video; a name without suffix, an existing
    folder, or a pattern such as `frames/%05d.png` is a picture sequence (without sound: `audio_from` is
    then left unused, and `has_audio` of the writer says so). Raises InputError for other names and whatever
    the writers refuse.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoWriter(
            path, frame_rate, width, height, crf=crf, audio_from=audio_from, overwrite=overwrite
        )
    if number_field(path) or path.is_dir() or not path.suffix:
        return ImageSequenceWriter(path, width, height, overwrite=overwrite)
    raise InputError(
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
    ) -> None:
        self.path = Path(path)
        _check_video_arguments(self.path, frame_rate, width, height, crf)
        self.frame_rate = frame_rate
        self._given_size = (height, width)
        self.width, self.height = width + width % 2, height + height % 2
        self.num_frames = 0
        self._reformatter = VideoReformatter()
        self._is_finished = False
        self._cleanup = ExitStack()
        with ExitStack() as stack:
            self._staged = StagedFile(self.path, overwrite=overwrite)
            stack.callback(self._staged.discard)
            self._open({"crf": str(crf), "preset": preset}, audio_from, stack)
            self._cleanup = stack.pop_all()

    def _open(self, options: dict[str, str], audio_from: str | Path | None, stack: ExitStack) -> None:
        muxer = "mov" if self.path.suffix.lower() == ".mov" else "mp4"
        with self._encoding():
            self._container = av.open(
                f"file:{self._staged.temporary}",
                "w",
                format=muxer,
                container_options={"movflags": "+faststart"},
            )
            stack.callback(_close_quietly, self._container)
            self._stream = self._container.add_stream(
                "libx264", rate=self.frame_rate, width=self.width, height=self.height, options=options
            )
            context = self._stream.codec_context
            context.time_base = 1 / self.frame_rate
            context.thread_count = min(_MAX_ENCODE_THREADS, os.cpu_count() or 1)
            context.color_range = ColorRange.MPEG
            context.colorspace = Colorspace.ITU709
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
        self._sound: Soundtrack | None = None
        if audio_from is not None:
            self._sound = carried_sound(Path(audio_from), self._container, stack)
        with self._encoding():
            self._container.start_encoding()

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
        frame = self._to_yuv(image)
        frame.pts, frame.time_base = self.num_frames, 1 / self.frame_rate
        self.num_frames += 1
        with self._encoding():
            self._container.mux(self._stream.encode(frame))
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
            with self._encoding():
                self._container.mux(self._stream.encode(None))
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

    def _to_yuv(self, image: np.ndarray) -> VideoFrame:
        _check_picture(image, self._given_size)
        extra_rows, extra_columns = self.height - image.shape[0], self.width - image.shape[1]
        if extra_rows or extra_columns:
            image = np.pad(image, ((0, extra_rows), (0, extra_columns), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return self._reformatter.reformat(
            frame,
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_FLAGS,
            threads=1,
        )

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Name the output in the errors of disk and encoder."""
        try:
            with output_errors(self.path):
                yield
        except av.error.ExternalError as error:
            raise InputError(
                f"{self.path}: H.264 cannot hold {self.width}x{self.height} frames; use a smaller picture "
                "or a picture sequence."
            ) from error


class ImageSequenceWriter:
    """A folder of numbered pictures, without sound: `frames` (then 00000.png, ...) or `frames/shot_%04d.jpg`.

    The folder appears under its name only when complete. An existing folder is refused unless it is empty, or
    `overwrite` is given and it holds nothing but pictures of that kind.
    """

    has_audio = False

    def __init__(self, path: str | Path, width: int, height: int, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        is_pattern = number_field(self.path) is not None
        folder = self.path.parent if is_pattern else self.path
        self._name = self.path.name if is_pattern else _DEFAULT_PICTURE_NAME
        check_image_suffix(Path(self._name))
        if not re.fullmatch(r"[^%]*%0?\d*d[^%]*", self._name):
            raise InputError(f"{self.path} needs exactly one number field; use a name such as %05d.png.")
        if folder.resolve() in (Path.cwd(), folder.resolve().parent):
            raise InputError(f"{self.path} would replace the current folder; name a new folder.")
        _check_size(self.path, width, height)
        self.width, self.height = width, height
        self.num_frames = 0
        self._is_finished = False
        self._staged = StagedFolder(folder, Path(self._name).suffix.lower(), overwrite=overwrite)

    def write(self, image: np.ndarray) -> None:
        """Append one picture, uint8 RGB of the size given at the start."""
        if self._is_finished:
            raise ValueError(f"{self.path}: write after close")
        _check_picture(image, (self.height, self.width))
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


def _check_video_arguments(path: Path, frame_rate: Fraction, width: int, height: int, crf: int) -> None:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"{path} is not a video name; use one of {', '.join(VIDEO_SUFFIXES)}.")
    if not 0 <= crf <= 51:
        raise InputError(
            f"crf {crf} is out of range; use 0 (lossless) to 51 (worst), {DEFAULT_CRF} looks like the input."
        )
    if frame_rate <= 0:
        raise InputError(f"{frame_rate} is not a frame rate; use a positive number.")
    _check_size(path, width, height)


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"a picture has at least one pixel, got {width}x{height}")
    check_pixels(path, width, height)


def _check_picture(image: np.ndarray, size: tuple[int, int]) -> None:
    if image.dtype != np.uint8 or image.shape != (*size, 3):
        raise ValueError(f"expected uint8 {(*size, 3)}, got {image.dtype} {image.shape}")


def _close_quietly(container: av.container.OutputContainer) -> None:
    """Let go of an unfinished file; its own complaints no longer matter."""
    try:
        container.close()
    except (av.FFmpegError, OSError):
        return
