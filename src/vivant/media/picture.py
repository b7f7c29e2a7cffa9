"""From a decoded video frame to the picture a viewer sees: square pixels, upright, RGB.

Colour: the matrix and range that the file declares; where it declares none that is known, BT.709 from 720
lines on and BT.601 below, as players do. High dynamic range (HLG as phones record it, PQ) becomes standard
range: diffuse white stays white, brighter highlights are clipped.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import NamedTuple, cast

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

_CONVERTIBLE = frozenset({1, 4, 5, 6, 7, 9})
"""Codes of the colour matrices that can be converted; others are unspecified, reserved, or too rare to be
true."""

_FLAGS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_HIGH_DYNAMIC_RANGE = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_MAX_PIXEL_ASPECT = 4


class Orientation(NamedTuple):
    """How to turn a stored picture upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(height, width, 3) to the upright picture, contiguous."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1])


def orientation_from_matrix(matrix: bytes) -> Orientation:
    """Read a display matrix: nine int32, [a b u; c d v; x y w], where x' = a x + c y and y' = b x + d y.

    Phones write multiples of 90 degrees and mirror images; other angles go to the nearest of these.
    """
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(mirror_x=a < 0, mirror_y=d < 0)


class PictureMaker:
    """Turns the frames of one stream into RGB pictures of one size.

    Made from the stream's first frame and its pixel aspect ratio (width of a pixel over its height; None or
    absurd values count as square). A later frame of another size is scaled to the first one's.
    """

    def __init__(self, first: VideoFrame, pixel_aspect: Fraction | None) -> None:
        self._stored_width, self._stored_height = first.width, first.height
        if pixel_aspect and 1 < pixel_aspect <= _MAX_PIXEL_ASPECT:
            self._stored_width = round(first.width * pixel_aspect)
        elif pixel_aspect and 1 / Fraction(_MAX_PIXEL_ASPECT) <= pixel_aspect < 1:
            self._stored_height = round(first.height / pixel_aspect)
        self._orientation = _orientation(first)
        self._reformatter = VideoReformatter()

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return self._stored_height if self._orientation.transpose else self._stored_width

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return self._stored_width if self._orientation.transpose else self._stored_height

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """One frame as uint8 RGB (height, width, 3). Raises av.FFmpegError when its pixels cannot be
        converted."""
        matrix = None
        if frame.colorspace not in _CONVERTIBLE and not frame.format.is_rgb:
            matrix = Colorspace.ITU709 if min(frame.width, frame.height) >= 720 else Colorspace.ITU601
        is_hdr = frame.color_trc in _HIGH_DYNAMIC_RANGE
        picture = self._reformatter.reformat(
            frame,
            width=self._stored_width,
            height=self._stored_height,
            format="rgb24",
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            dst_color_trc=ColorTrc.BT709 if is_hdr else None,
            dst_color_primaries=ColorPrimaries.BT709 if is_hdr else None,
            interpolation=_FLAGS,
            threads=1,
        )
        return self._orientation.apply(picture.to_ndarray())


def _orientation(frame: VideoFrame) -> Orientation:
    matrix = cast("memoryview | None", frame.side_data.get("DISPLAYMATRIX"))
    return Orientation() if matrix is None else orientation_from_matrix(bytes(matrix))
