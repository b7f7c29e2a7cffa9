"""Video in: frames with exact times, however the file spaces, rotates or colours them. Never holds a clip
in memory."""

from __future__ import annotations

import re
from array import array
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vivant.errors import InputError
from vivant.media.container import audio_stream, clip_start, demuxed, frame_time, opened_media, video_stream
from vivant.media.image import MAX_PIXELS, check_pixels, is_image_file, opened_image
from vivant.media.inputs import check_input_file
from vivant.media.picture import PictureMaker
from vivant.media.probe import is_animated, is_pattern, probe_kind
from vivant.media.resample import TIMESTAMP_SLACK, is_standard_rate, tidy_rate
from vivant.media.sequence import DEFAULT_SEQUENCE_RATE, AnimatedImageReader, ImageSequenceReader
from vivant.media.types import Frame

__all__ = ["ImageSequenceReader", "VideoReader", "probe_kind", "read_clip"]

_NUM_DECODE_THREADS = 2
_MISSING_SECONDS = Fraction(1, 2)
"""A picture track that ends this much before its own header says, and by more than two frames, was cut
short."""


def read_clip(
    path: str | Path,
    *,
    sequence_rate: Fraction = DEFAULT_SEQUENCE_RATE,
    allow_truncated: bool = False,
) -> VideoReader | ImageSequenceReader | AnimatedImageReader:
    """Open anything that can drive or be animated as a clip: a video, a folder or pattern of pictures, an
    animated GIF or WebP, or one still picture (a clip of one frame, `is_still`).

    `sequence_rate` (frames per second) is for pictures, which carry no time. Raises InputError; see
    VideoReader for `allow_truncated`.
    """
    path = Path(path)
    if path.is_dir() or is_pattern(path):
        return ImageSequenceReader(path, sequence_rate)
    check_input_file(path)
    if not is_image_file(path):
        return VideoReader(path, allow_truncated=allow_truncated)
    with opened_image(path) as image:
        animated = is_animated(image)
    return AnimatedImageReader(path) if animated else ImageSequenceReader(path, sequence_rate)


class VideoReader:
    """A video file as frames in presentation order; see `types.Clip`. Each iteration starts again at the
    beginning.

    Time zero is where the picture track starts (see `container.clip_start`), so the first frame is at 0, or a little
    later in files that say so.
    Rotation, mirroring and non-square pixels are applied to the pictures; transparency is ignored.

    Damage: a file that cannot be decoded to its end, or ends before its header says, gives its good frames
    and then raises InputError. With `allow_truncated` damaged parts are skipped and the clip ends where the
    file does. A file without a decodable frame raises InputError here, at once.
    """

    is_still = False

    def __init__(self, path: str | Path, *, allow_truncated: bool = False) -> None:
        self.path = Path(path)
        self._allow_truncated = allow_truncated
        self._closed = False
        with opened_media(self.path) as container:
            stream = self._stream(container)
            self.has_audio = audio_stream(container) is not None
            self._header_rate = stream.average_rate or stream.guessed_rate
            self._header_frames = stream.frames
            self._header_duration = _header_duration(stream)
            with closing(self._decode(container, stream)) as frames:
                first = next(frames, None)
            if first is None:
                raise InputError(f"{self.path} has no picture that can be decoded; export it again.")
            picture = PictureMaker(first, stream.sample_aspect_ratio)
            self.width, self.height = picture.width, picture.height
            check_pixels(self.path, self.width, self.height)

    @property
    def frame_rate(self) -> Fraction:
        """Average frames per second."""
        if self._header_frames > 1 and self._header_rate and self._header_duration:
            return self._header_rate
        return self._timing.frame_rate

    @property
    def duration(self) -> Fraction | None:
        """Seconds from the first frame until the last has been shown."""
        header = self._header_duration
        # A header goes on promising what a file that was cut short has lost.
        if header is None or (self._allow_truncated and self._is_missing(header - self._timing.duration)):
            return self._timing.duration
        return header

    @property
    def shown_until(self) -> Fraction | None:
        """The same; None where the end may be damaged, so that it is known only when it has been read."""
        return None if self._allow_truncated else self.duration

    @property
    def num_frames_estimate(self) -> int | None:
        """How many frames to expect; hidden or damaged ones are counted too."""
        if self._allow_truncated:
            return self._timing.num_frames
        return self._header_frames or self._timing.num_frames

    @property
    def is_variable(self) -> bool:
        """Whether frames are spaced unevenly by more than the rounding of times to milliseconds. Reads the
        whole file once, without decoding."""
        return self._timing.is_variable

    def __iter__(self) -> Iterator[Frame]:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed")
        end = Fraction(0)
        num_frames = 0
        with opened_media(self.path) as container:
            stream = self._stream(container)
            picture: PictureMaker | None = None
            for frame, time in self._timed(container, stream):
                picture = picture or PictureMaker(frame, stream.sample_aspect_ratio)
                end = time
                num_frames += 1
                yield Frame(self._converted(picture, frame), time)
        if not self._allow_truncated:
            self._check_complete(end, num_frames)

    def close(self) -> None:
        """Refuse further iterations. Each running one closes its own file when it ends."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stream(self, container: InputContainer) -> VideoStream:
        stream = video_stream(container)
        if stream is None:
            kind = "only sound" if audio_stream(container) else "no picture that can be decoded"
            raise InputError(f"{self.path} has {kind}; choose a video file.")
        check_pixels(self.path, stream.codec_context.width, stream.codec_context.height)
        # The header is checked above; a frame further on may claim another size.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.thread_count = _NUM_DECODE_THREADS
        stream.thread_type = "AUTO"
        return stream

    def _decode(self, container: InputContainer, stream: VideoStream) -> Generator[VideoFrame, None, None]:
        """Decoded frames. Errors before the first frame are expected in cut streams and are passed over."""
        num_frames = 0
        for packet in demuxed(container, stream):
            frames = _decoded(stream, packet)
            num_frames += len(frames or ())
            yield from frames or ()
            if packet is not None and frames is not None and not packet.is_corrupt:
                continue
            if num_frames and not self._allow_truncated:
                held_back = _decoded(stream, None) or []
                yield from held_back
                raise self._damaged(num_frames + len(held_back))

    def _timed(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Frames with times that never stand still: missing or backward timestamps are replaced by even
        spacing."""
        zero = clip_start(container)
        step = 1 / (self._header_rate or DEFAULT_SEQUENCE_RATE)
        last = -step
        for frame in self._decode(container, stream):
            time = frame_time(frame, zero)
            if time is None or time <= last:
                time = last + step
            last = max(time, Fraction(0))
            yield frame, last

    def _converted(self, picture: PictureMaker, frame: VideoFrame) -> np.ndarray:
        try:
            return picture(frame)
        except av.FFmpegError as error:
            raise InputError(
                f"{self.path} has pixels ({frame.format.name}) that cannot be converted; "
                "export it again as MP4 (H.264)."
            ) from error

    def _check_complete(self, last_time: Fraction, num_frames: int) -> None:
        if self._header_duration is None:
            return
        if self._is_missing(self._header_duration - last_time - 1 / self.frame_rate):
            raise self._damaged(num_frames)

    def _is_missing(self, seconds: Fraction) -> bool:
        """Whether so much less than the header says is more than headers are wrong by."""
        return seconds > max(_MISSING_SECONDS, 2 / self.frame_rate)

    def _damaged(self, num_frames: int) -> InputError:
        expected = f" of about {self._header_frames}" if self._header_frames else ""
        return InputError(
            f"{self.path} is damaged or cut short: {num_frames}{expected} frames can be read; "
            "export it again, or allow truncated input to use these."
        )

    @cached_property
    def _timing(self) -> _Timing:
        with opened_media(self.path) as container:
            return _measure(container, self._stream(container), self._header_rate)


def _decoded(stream: VideoStream, packet: Packet | None) -> list[VideoFrame] | None:
    """The frames that a packet completes (without one: those the decoder still holds); None when it is damaged."""
    try:
        return stream.codec_context.decode(packet)
    except av.FFmpegError:
        return None


def _header_duration(stream: VideoStream) -> Fraction | None:
    """What the file says about the length of its picture track, in seconds."""
    if stream.duration and stream.duration > 0 and stream.time_base:
        return stream.duration * stream.time_base
    stated = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))  # Matroska
    if stated is None or stream.time_base is None:
        return None
    end = int(stated[1]) * 3600 + int(stated[2]) * 60 + Fraction(stated[3])
    return max(end - (stream.start_time or 0) * stream.time_base, Fraction(0)) or None


@dataclass(frozen=True)
class _Timing:
    """What the packets of a stream say, for files whose header does not."""

    num_frames: int
    frame_rate: Fraction
    duration: Fraction
    is_variable: bool


def _measure(container: InputContainer, stream: VideoStream, header_rate: Fraction | None) -> _Timing:
    """Read all packets of `stream` without decoding. Eight bytes of memory per frame."""
    ticks = array("q")
    last_duration = 0
    for packet in demuxed(container, stream):
        if packet is None:
            break
        tick = packet.pts if packet.pts is not None else packet.dts
        if tick is not None and packet.size:
            ticks.append(tick)
            last_duration = packet.duration or last_duration
    fallback = header_rate or DEFAULT_SEQUENCE_RATE
    if len(ticks) < 2 or stream.time_base is None:
        return _Timing(max(len(ticks), 1), fallback, 1 / fallback, False)
    times = np.sort(np.frombuffer(ticks, np.int64))
    spacings = np.diff(times)
    span = int(times[-1] - times[0]) * stream.time_base
    if span <= 0:
        return _Timing(len(ticks), fallback, len(ticks) / fallback, False)
    measured = (len(ticks) - 1) / span
    is_variable = int(spacings.max() - spacings.min()) * stream.time_base > 2 * TIMESTAMP_SLACK
    if header_rate and is_standard_rate(header_rate) and not is_variable:
        measured = header_rate if abs(header_rate - measured) <= measured / 100 else measured
    last = last_duration * stream.time_base if last_duration else 1 / measured
    return _Timing(len(ticks), tidy_rate(measured), span + last, is_variable)
