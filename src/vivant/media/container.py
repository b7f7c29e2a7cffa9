"""Opening media files with PyAV: which formats, which streams, where their time starts. Decodes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from vivant.errors import InputError
from vivant.media.inputs import check_input_file

_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,ivf,obu,mxf,nut,rm,dv,yuv4mpegpipe,"
    "wav,w64,aiff,mp3,flac,aac,ac3,eac3,dts,amr,caf,au"
)
"""Formats that are opened. Playlists and scripts (HLS, DASH, concat) are left out: they make the reader
open other files and addresses on behalf of whoever wrote them."""


@contextmanager
def opened_media(path: str | Path) -> Iterator[InputContainer]:
    """Open a video or audio file. Raises InputError when it is missing, empty or not media."""
    path = check_input_file(path)
    options = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
    try:
        container = av.open(f"file:{path}", options=options)
    except (av.FFmpegError, UnicodeError) as error:
        raise InputError(
            f"{path} is not a video or audio file that can be read, or it is cut short; "
            "export it again as MP4 (H.264)."
        ) from error
    try:
        yield container
    finally:
        container.close()


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first moving-picture stream that can be decoded; cover art of music files does not count."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    return None


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound stream that can be decoded."""
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            return stream
    return None


def clip_start(container: InputContainer) -> Fraction:
    """The file's time, in seconds, that is called zero here: where the picture starts, or else where the
    sound does.

    Pictures and sound are both counted from it, which is what keeps them together.
    """
    stream = video_stream(container) or audio_stream(container)
    if stream is None or stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return stream.start_time * stream.time_base


def demuxed(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet | None]:
    """The packets of one stream, the empty one that ends it included; None once, at the end, when the rest of the file
    cannot be read."""
    try:
        yield from container.demux(stream)
    except (av.FFmpegError, IndexError):
        # IndexError: a stream that comes up late in a damaged FLV is not listed.
        yield None


def frame_time(frame: Frame, zero: Fraction) -> Fraction | None:
    """A decoded frame's presentation time in seconds after `zero`; None where the file gives none."""
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * frame.time_base - zero
