"""Sound carried from one file into another, on the clock of the picture. Used by the video writer only."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet

from vivant.errors import InputError
from vivant.media.audio import read_samples, sound_format
from vivant.media.container import audio_stream, clip_start, demuxed, opened_media
from vivant.media.h264 import close_quietly

COPIED_CODECS = frozenset({"aac", "mp3", "mp3float", "alac", "ac3", "eac3"})
"""Codecs that players accept inside MP4 and that are therefore copied bit by bit. Others (PCM, Opus,
Vorbis, ...) become AAC."""

_AAC_BITS_PER_SECOND = 192_000
_AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_FALLBACK_RATE_HZ = 48000
_MIN_MP3_RATE_HZ = 16000


class Soundtrack(Protocol):
    """Sound being muxed beside a picture stream."""

    def write_until(self, time: Fraction) -> None:
        """Mux everything that begins before `time`, in seconds from the start of the clip."""

    def close(self) -> None:
        """Flush what has been written. No sound follows."""


def carried_sound(path: Path, output: OutputContainer, stack: ExitStack) -> Soundtrack | None:
    """Add an audio stream to `output` and return what fills it; None when `path` has no sound.

    What it opens is closed by `stack`. Raises InputError when `path` cannot be read.
    """
    with opened_media(path) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        copied = stream.codec_context.name in COPIED_CODECS and bool(
            stream.codec_context.name != "aac" or stream.codec_context.extradata
        )
        if (
            stream.codec_context.name.startswith("mp3")
            and stream.codec_context.sample_rate < _MIN_MP3_RATE_HZ
        ):
            copied = False
    return _CopiedSound(path, output, stack) if copied else _EncodedSound(path, output, stack)


def check_carried(path: Path, suffix: str) -> None:
    """Raise InputError where the sound of `path` cannot be put into a video of that suffix; decodes its beginning.

    For those who add sound when all pictures are made, and would lose them.
    """
    with ExitStack() as stack:
        rehearsal = av.open(io.BytesIO(), "w", format="mov" if suffix.lower() == ".mov" else "mp4")
        stack.callback(close_quietly, rehearsal)
        try:
            if carried_sound(path, rehearsal, stack) is not None:
                rehearsal.start_encoding()
        except av.FFmpegError as error:
            raise InputError(f"the sound of {path} cannot be put into {suffix}; export it again.") from error


class _CopiedSound:
    """Packets moved as they are. Precise to one packet (about 20 ms) at the end of the clip, exact
    elsewhere."""

    def __init__(self, path: Path, output: OutputContainer, stack: ExitStack) -> None:
        container = stack.enter_context(opened_media(path))
        source = audio_stream(container)
        assert source is not None
        self._output = output
        self._stream = output.add_stream_from_template(source)
        self._packets = self._shifted(demuxed(container, source), clip_start(container))
        self._waiting: Packet | None = next(self._packets, None)

    def write_until(self, time: Fraction) -> None:
        while self._waiting is not None and _middle(self._waiting) < time:
            self._waiting.stream = self._stream
            self._output.mux(self._waiting)
            self._waiting = next(self._packets, None)

    def close(self) -> None:
        self._packets.close()

    @staticmethod
    def _shifted(packets: Iterator[Packet | None], zero: Fraction) -> Generator[Packet, None, None]:
        """Packets on the clip's clock. Those before zero are dropped but for one, which decoders need to
        warm up: the container marks it as not to be heard. Times that go backwards are dropped, as muxers
        refuse them."""
        held: Packet | None = None
        last = None
        for packet in packets:
            if packet is None or not packet.size or packet.pts is None or packet.dts is None:
                continue
            offset = round(zero / packet.time_base)
            packet.pts -= offset
            packet.dts -= offset
            if last is not None and packet.dts <= last:
                continue
            last = packet.dts
            if packet.pts + (packet.duration or 0) <= 0:
                held = packet
                continue
            if held is not None:
                yield held
                held = None
            yield packet


class _EncodedSound:
    """Sound decoded, cut to the sample and encoded as AAC, mono or stereo."""

    def __init__(self, path: Path, output: OutputContainer, stack: ExitStack) -> None:
        sound = sound_format(path)
        rate = sound.sample_rate_hz if sound.sample_rate_hz in _AAC_RATES else _FALLBACK_RATE_HZ
        self._layout = "mono" if sound.num_channels == 1 else "stereo"
        self._rate = rate
        self._output = output
        self._stream = output.add_stream("aac", rate=rate, bit_rate=_AAC_BITS_PER_SECOND, layout=self._layout)
        self._position = 0
        self._blocks = read_samples(path, rate, self._layout)
        stack.callback(self._blocks.close)
        self._waiting: np.ndarray | None = next(self._blocks, None)

    def write_until(self, time: Fraction) -> None:
        stop = round(time * self._rate)
        while self._waiting is not None and self._position < stop:
            block = self._waiting[:, : stop - self._position]
            rest = self._waiting[:, block.shape[1] :]
            self._encode(block)
            self._waiting = rest if rest.shape[1] else next(self._blocks, None)

    def close(self) -> None:
        self._output.mux(self._stream.encode(None))

    def _encode(self, block: np.ndarray) -> None:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.pts, frame.time_base = self._position, Fraction(1, self._rate)
        self._position += block.shape[1]
        self._output.mux(self._stream.encode(frame))


def _middle(packet: Packet) -> Fraction:
    return ((packet.pts or 0) + Fraction(packet.duration or 0, 2)) * packet.time_base
