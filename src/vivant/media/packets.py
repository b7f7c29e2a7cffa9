"""Single pictures as packets for a live connection: H.264 as browsers take it, JPEG, or PNG without loss.

H.264 is Annex B, baseline, without look-ahead or reordering: one picture in, one packet out, at once. Decoders read
what strangers send, so sizes are checked before pixels are made.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from PIL import Image

from vivant.errors import InputError
from vivant.media.image import DECODE_ERRORS

PacketCodec = Literal["h264", "jpeg", "png"]

MAX_PACKET_PIXELS = 1920 * 1080
JPEG_QUALITY = 85
KEYFRAME_EVERY = 120
_TICKS = Fraction(1, 90_000)


@dataclass(frozen=True)
class Packet:
    """One picture, encoded."""

    data: bytes
    is_key: bool
    """Whether a decoder can begin here."""
    width: int
    height: int


class PacketEncoder:
    """Pictures of one viewer to packets; their size may change between any two."""

    def __init__(self, codec: PacketCodec, rate_hz: float = 30.0, crf: int = 23) -> None:
        self.codec = codec
        self._rate, self._crf = Fraction(rate_hz).limit_denominator(1001), crf
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()
        self._count = 0
        self._key_wanted = False

    def want_key(self) -> None:
        """The next packet shall be one at which a decoder can begin."""
        self._key_wanted = True

    def encode(self, image: np.ndarray) -> Packet:
        """uint8 RGB (H, W, 3); H.264 has even sizes, so an odd row or column is left out."""
        if self.codec != "h264":
            return _still(self.codec, image)
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        if self._context is None or (self._context.width, self._context.height) != (width, height):
            self._context = self._opened(width, height)
        frame = self._to_yuv(image[:height, :width])
        frame.pts, frame.time_base = self._count, 1 / self._rate
        # Without this the encoder keeps the type that it gave to the picture before.
        frame.pict_type = PictureType.I if self._key_wanted else PictureType.NONE
        self._count += 1
        packets = self._context.encode(frame)
        assert len(packets) == 1, "zero latency: one picture in, one packet out"
        self._key_wanted = False
        return Packet(bytes(packets[0]), packets[0].is_keyframe, width, height)

    def _opened(self, width: int, height: int) -> VideoCodecContext:
        context = VideoCodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = 1 / self._rate, self._rate
        context.thread_count, context.gop_size = 1, KEYFRAME_EVERY
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "profile": "baseline",
            "crf": str(self._crf),
            "x264-params": "annexb=1:repeat-headers=1:forced-idr=1",
            "forced-idr": "1",
        }
        return context

    def _to_yuv(self, image: np.ndarray) -> VideoFrame:
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return self._reformatter.reformat(
            frame,
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )


class PacketDecoder:
    """Packets of one sender to pictures, uint8 RGB (H, W, 3). Raises InputError for what is none."""

    def __init__(self, codec: PacketCodec, max_pixels: int = MAX_PACKET_PIXELS) -> None:
        self.codec = codec
        self.max_pixels = max_pixels
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()

    def decode(self, data: bytes) -> np.ndarray | None:
        """The picture; None where H.264 wants more packets first."""
        if not data:  # FFmpeg would take it for the end of the stream
            raise InputError("a packet cannot be decoded: it is empty")
        if self.codec != "h264":
            return self._picture(data)
        if self._context is None:
            context = VideoCodecContext.create("h264", "r")
            assert isinstance(context, VideoCodecContext)
            context.thread_count = 1
            context.options = {"flags": "low_delay", "max_pixels": str(self.max_pixels)}
            self._context = context
        with _decoding():
            frames = self._context.decode(av.Packet(data))
            return self._to_rgb(frames[-1]) if frames else None

    def _to_rgb(self, frame: VideoFrame) -> np.ndarray:
        if frame.width * frame.height > self.max_pixels:
            raise InputError(_too_large(frame.width, frame.height, self.max_pixels))
        return self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()

    def _picture(self, data: bytes) -> np.ndarray:
        Image.init()
        # Not Image.open: it only warns about pictures that claim to be huge.
        opened = Image.OPEN["JPEG" if self.codec == "jpeg" else "PNG"][0]
        with _decoding(), opened(io.BytesIO(data), "") as image:
            if image.width * image.height > self.max_pixels:
                raise InputError(_too_large(image.width, image.height, self.max_pixels))
            return np.array(image.convert("RGB"))


def _still(codec: PacketCodec, image: np.ndarray) -> Packet:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if codec == "jpeg":
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    else:
        picture.save(buffer, "PNG", compress_level=1)
    return Packet(buffer.getvalue(), True, image.shape[1], image.shape[0])


def _too_large(width: int, height: int, limit: int) -> str:
    return f"a frame of {width}x{height} is more than {limit} pixels; send smaller ones"


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, *DECODE_ERRORS) as error:
        raise InputError(f"a packet cannot be decoded: {error}") from error
