"""Pictures to H.264 as every player takes it: yuv420p, BT.709 limited range and tagged so. Knows no file names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
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
from vivant.media.staging import output_errors

DEFAULT_CRF = 18
"""H.264 constant rate factor: 0 is lossless (and plays in few players), 18 looks like the input, 51 is
worst."""

REORDERED_FRAMES = 2
"""A frame is decoded at most this long before it is shown: B-frames that others refer to, as x264 has them."""

KEYFRAME_EVERY_FRAMES = 250
"""At least so often the encoder writes a whole picture: its default."""

_MAX_ENCODE_THREADS = 4
_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


_OPENCV_AVX512 = 256
"""CV_CPU_AVX512_SKX, which OpenCV does not name in Python."""


def _instruction_sets() -> dict[str, str]:
    """x264 (core 165) with AVX-512 gives several files for the same pictures, one time in five for some: seen with and
    without threads, gone with AVX2 (300 of 300), which is as fast."""
    has_avx512 = cv2.checkHardwareSupport(_OPENCV_AVX512)
    return {"x264-params": "asm=avx2,fma3,bmi2,lzcnt"} if has_avx512 else {}


def encode_threads() -> int:
    """Threads of the encoder on this machine; the bytes depend on their number, not on how they run."""
    return min(_MAX_ENCODE_THREADS, os.cpu_count() or 1)


class PictureEncoder:
    """One H.264 stream of a container, which its owner opens, starts and closes.

    That pixel format needs even sizes: an odd width or height gets one more column or row, a copy of the
    last one; `width` and `height` are the encoded size. Frame k is shown at exactly k / frame_rate.
    """

    def __init__(
        self,
        container: OutputContainer,
        frame_rate: Fraction,
        width: int,
        height: int,
        *,
        crf: int = DEFAULT_CRF,
        preset: str = "medium",
    ) -> None:
        self.frame_rate = frame_rate
        self._given_size = (height, width)
        self.width, self.height = even_size(width, height)
        self.num_frames = 0
        self._container = container
        self._reformatter = VideoReformatter()
        self._stream = container.add_stream(
            "libx264",
            rate=frame_rate,
            width=self.width,
            height=self.height,
            options={"crf": str(crf), "preset": preset, **_instruction_sets()},
        )
        context = self._stream.codec_context
        context.time_base = 1 / frame_rate
        context.thread_count = encode_threads()
        context.color_range = ColorRange.MPEG
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709

    def write(self, image: np.ndarray) -> None:
        """Append one picture, uint8 RGB of the size given at the start."""
        frame = self._to_yuv(image)
        frame.pts, frame.time_base = self.num_frames, 1 / self.frame_rate
        self.num_frames += 1
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self._container.mux(self._stream.encode(None))

    def _to_yuv(self, image: np.ndarray) -> VideoFrame:
        check_picture(image, self._given_size)
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


def even_size(width: int, height: int) -> tuple[int, int]:
    """The size that is encoded."""
    return width + width % 2, height + height % 2


def check_picture(image: np.ndarray, size: tuple[int, int]) -> None:
    """Raise ValueError unless it is uint8 RGB of that height and width."""
    if image.dtype != np.uint8 or image.shape != (*size, 3):
        raise ValueError(f"expected uint8 {(*size, 3)}, got {image.dtype} {image.shape}")


@contextmanager
def encoding(path: Path, width: int, height: int) -> Iterator[None]:
    """Name the output, as its user knows it, in the errors of disk and encoder."""
    try:
        with output_errors(path):
            yield
    except av.error.ExternalError as error:
        raise InputError(
            f"{path}: H.264 cannot hold {width}x{height} frames; use a smaller picture or a picture sequence."
        ) from error


def close_quietly(container: OutputContainer) -> None:
    """Let go of an unfinished file; its own complaints no longer matter."""
    try:
        container.close()
    except (av.FFmpegError, OSError):
        return
