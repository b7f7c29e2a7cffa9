"""Sound in: any format, as a stream of samples on the same clock as the picture.

Samples are laid out from the clip's time zero (see `container.clip_start`): what comes before it is cut,
holes are filled with silence, overlaps are dropped. So sample n always belongs to time n / rate, and
nothing drifts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from vivant.errors import InputError
from vivant.media.container import audio_stream, clip_start, demuxed, frame_time, opened_media
from vivant.media.types import AudioChunk

_JITTER = Fraction(30, 1000)
"""Seconds by which timestamps may disagree with the sample count before samples are moved. Less than one
frame at 30 frames per second; Matroska and browsers' recordings jitter by a few milliseconds."""

_MAX_HOLE = 3600
"""Seconds. A larger jump in the timestamps is a broken clock, not an hour of silence, and is closed up."""


@dataclass(frozen=True)
class SoundFormat:
    """What a file's sound is stored as."""

    codec: str
    sample_rate_hz: int
    num_channels: int


def read_audio(
    path: str | Path, sample_rate_hz: int, chunk_seconds: Fraction | float
) -> Iterator[AudioChunk]:
    """Stream a file's sound as mono float32 in [-1, 1] (the mean of its channels) at `sample_rate_hz`.

    Chunks follow each other without a gap from time zero; each has round(chunk_seconds * sample_rate_hz)
    samples but the last, which has the rest. Damaged packets become silence. Raises InputError (at once,
    not at the first chunk) when the file is missing or has no sound, and while iterating when nothing of it
    can be decoded.
    """
    size = round(Fraction(chunk_seconds) * sample_rate_hz)
    if sample_rate_hz < 1 or size < 1:
        raise ValueError(f"no sample fits in {chunk_seconds} s at {sample_rate_hz} Hz")
    sound_format(path)
    return _mono_chunks(Path(path), sample_rate_hz, size)


def sound_format(path: str | Path) -> SoundFormat:
    """The format of a file's first sound track. Raises InputError when there is none."""
    with opened_media(path) as container:
        context = _required_stream(container, path).codec_context
        if not context.sample_rate or not context.channels:
            raise InputError(f"{path} has a damaged sound track; export it again.")
        return SoundFormat(context.name, context.sample_rate, context.channels)


def read_samples(path: str | Path, sample_rate_hz: int, layout: str) -> Generator[np.ndarray, None, None]:
    """A file's sound as float32 blocks of shape (channels, num_samples), gapless from time zero.

    `layout` is "mono" (the mean of all channels) or "stereo". Blocks have any length. Raises InputError.
    """
    with opened_media(path) as container:
        stream = _required_stream(container, path)
        native_rate = stream.codec_context.sample_rate
        blocks = _gapless(_timed_blocks(container, stream, layout), native_rate)
        empty = True
        for block in _at_rate(blocks, native_rate, sample_rate_hz, layout):
            empty = False
            yield block
    if empty:
        raise InputError(f"no sound of {path} can be decoded; export it again.")


def _required_stream(container: InputContainer, path: str | Path) -> AudioStream:
    stream = audio_stream(container)
    if stream is None:
        raise InputError(f"{path} has no sound track that can be decoded; choose a file with sound.")
    return stream


def _mono_chunks(path: Path, sample_rate_hz: int, size: int) -> Iterator[AudioChunk]:
    waiting = np.zeros(0, np.float32)
    start = 0
    for block in read_samples(path, sample_rate_hz, "mono"):
        waiting = np.concatenate([waiting, np.clip(block[0], -1, 1)])
        while len(waiting) >= size:
            yield AudioChunk(waiting[:size].copy(), sample_rate_hz, Fraction(start, sample_rate_hz))
            waiting = waiting[size:]
            start += size
    if len(waiting):
        yield AudioChunk(waiting.copy(), sample_rate_hz, Fraction(start, sample_rate_hz))


def _timed_blocks(
    container: InputContainer, stream: AudioStream, layout: str
) -> Iterator[tuple[Fraction | None, np.ndarray]]:
    """Decode: (time or None, float32 samples (channels, n)) at the rate the stream began with."""
    zero = clip_start(container)
    rate = stream.codec_context.sample_rate
    converters: dict[tuple[str, str, int], AudioResampler] = {}
    for packet in demuxed(container, stream):
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            continue
        for frame in frames:
            key = (frame.format.name, frame.layout.name, frame.sample_rate)
            if key not in converters:  # streams may change their format half-way
                target = frame.layout.name if layout == "mono" else layout
                converters[key] = AudioResampler(format="fltp", layout=target, rate=rate)
            time = frame_time(frame, zero)
            for converted in converters[key].resample(frame):
                samples = converted.to_ndarray()
                if layout == "mono":
                    samples = samples.mean(axis=0, dtype=np.float32, keepdims=True)
                yield time, samples
                time = None


def _gapless(blocks: Iterator[tuple[Fraction | None, np.ndarray]], rate: int) -> Iterator[np.ndarray]:
    """Place blocks on the sample grid that starts at time zero."""
    position = 0
    started = False
    for time, samples in blocks:
        hole = 0 if time is None else round(time * rate) - position
        if started and abs(hole) <= _JITTER * rate:
            hole = 0
        if hole > _MAX_HOLE * rate:
            hole = 0
        while hole > 0:
            silence = np.zeros((len(samples), min(hole, rate)), np.float32)
            yield silence
            hole -= silence.shape[1]
            position += silence.shape[1]
        samples = samples[:, -hole:]
        if samples.shape[1]:
            yield samples
            position += samples.shape[1]
            started = True


def _at_rate(blocks: Iterator[np.ndarray], rate: int, wanted_rate: int, layout: str) -> Iterator[np.ndarray]:
    if rate == wanted_rate:
        yield from blocks
        return
    resampler = AudioResampler(format="fltp", layout=layout, rate=wanted_rate)
    position = 0
    for block in blocks:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts, frame.time_base = position, Fraction(1, rate)
        position += block.shape[1]
        yield from (converted.to_ndarray() for converted in resampler.resample(frame))
    yield from (converted.to_ndarray() for converted in resampler.resample(None))
