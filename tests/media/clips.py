"""Synthetic clips whose every frame says which one it is, and sound whose clicks say when they are."""

from __future__ import annotations

import struct
import wave
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

GRID = 4
NTSC = Fraction(30000, 1001)


def index_image(index: int, width: int = 32, height: int = 32) -> np.ndarray:
    """A picture with 15 bits of `index` as black and white blocks; the last block is always white."""
    bits = [(index >> bit) & 1 for bit in range(GRID * GRID - 1)] + [1]
    grid = np.array(bits, np.uint8).reshape(GRID, GRID) * 255
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    return np.repeat(grid[rows][:, columns, None], 3, axis=2)


def read_index(image: np.ndarray) -> int:
    """The number burned in by `index_image`, at any size."""
    height, width = image.shape[:2]
    rows = [(2 * row + 1) * height // (2 * GRID) for row in range(GRID)]
    columns = [(2 * column + 1) * width // (2 * GRID) for column in range(GRID)]
    bits = (image[rows][:, columns].mean(axis=2) > 127).reshape(-1)
    assert bits[-1], "not an index picture"
    return sum(1 << bit for bit in range(GRID * GRID - 1) if bits[bit])


def corner_image(width: int = 48, height: int = 32) -> np.ndarray:
    """Four quarters: red top left, green top right, blue bottom left, white bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 20, 20)
    image[: height // 2, width // 2 :] = (20, 220, 20)
    image[height // 2 :, : width // 2] = (20, 20, 220)
    image[height // 2 :, width // 2 :] = 235
    return image


def corners(image: np.ndarray) -> str:
    """The quarters of a `corner_image` however it is turned, row by row, such as "rgbw"."""
    height, width = image.shape[:2]
    names = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            pixel = image[y, x].astype(int)
            names += "w" if pixel.min() > 150 else "rgb"[int(pixel.argmax())]
    return names


def write_clip(
    path: Path,
    images: Iterable[np.ndarray],
    times: Sequence[Fraction | float] | None = None,
    *,
    rate: Fraction = Fraction(25),
    time_base: Fraction = Fraction(1, 90000),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Encode `images`, evenly at `rate` or at `times` in seconds (variable frame rate)."""
    images = iter(images)
    first = next(images)
    with av.open(str(path), "w", container_options=container_options) as container:
        defaults = {"preset": "ultrafast", "crf": "10"} if codec == "libx264" else {}
        stream = container.add_stream(
            codec, rate=rate, width=first.shape[1], height=first.shape[0], options=options or defaults
        )
        context = stream.codec_context
        context.thread_count = 1
        context.time_base = 1 / rate if times is None else time_base
        if pixel_aspect is not None:
            context.sample_aspect_ratio = pixel_aspect
        for index, image in enumerate([first, *images] if times is not None else _chain(first, images)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base = context.time_base
            frame.pts = index if times is None else round(Fraction(times[index]) / time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class _Pipe:
    """A file that cannot seek."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def write_live_clip(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[float],
    format: str,
    codec: str,
    options: dict[str, str],
) -> Path:
    """Encode as a stream: the muxer can never go back to complete its header."""
    pipe = _Pipe()
    height, width = images[0].shape[:2]
    with av.open(pipe, "w", format=format, container_options=options) as container:
        no_delay = {"bf": "0"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=30, width=width, height=height, options=no_delay)
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path.write_bytes(pipe.data)
    return path


def _chain(first: np.ndarray, rest: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    yield first
    yield from rest


def index_clip(path: Path, count: int, rate: Fraction = Fraction(25), **more: object) -> Path:
    """`count` numbered frames."""
    size = (more.pop("width", 32), more.pop("height", 32))
    return write_clip(path, (index_image(index, *size) for index in range(count)), rate=rate, **more)


def clicks(seconds: float, at: Sequence[float], sample_rate_hz: int = 16000, channels: int = 1) -> np.ndarray:
    """int16 silence, shape (num_samples, channels), with a short loud click centred on each time of `at`."""
    samples = np.zeros((round(seconds * sample_rate_hz), channels), np.int16)
    half = sample_rate_hz // 1000
    for time in at:
        centre = round(time * sample_rate_hz)
        samples[max(0, centre - half) : centre + half + 1] = 24000
    return samples


def write_wav(path: Path, samples: np.ndarray, sample_rate_hz: int = 16000) -> Path:
    """int16 (num_samples, channels) as WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(samples.tobytes())
    return path


def click_times(samples: np.ndarray, sample_rate_hz: int) -> list[float]:
    """Centres, in seconds, of the loud places in mono float samples."""
    loud = np.flatnonzero(np.abs(samples) > 0.3)
    if not len(loud):
        return []
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > sample_rate_hz // 10) + 1)
    return [float(group.mean()) / sample_rate_hz for group in groups]


def encode_sound(
    path: Path,
    samples: np.ndarray,
    codec: str,
    *,
    sample_rate_hz: int = 48000,
    offset_seconds: Fraction = Fraction(0),
    with_video: bool = False,
    format: str | None = None,
) -> Path:
    """int16 (num_samples, channels) through an encoder; optionally beside ten pictures starting at zero."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(str(path), "w", format=format) as container:
        video = None
        if with_video:
            video = container.add_stream("libx264", rate=10, width=32, height=32)
        audio = container.add_stream(codec, rate=sample_rate_hz, layout=layout)
        if video is not None:
            for index in range(10):
                frame = av.VideoFrame.from_ndarray(index_image(index), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        block = 1024
        for start in range(0, len(samples), block):
            part = np.ascontiguousarray(samples[start : start + block].reshape(1, -1))
            sound = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            sound.sample_rate = sample_rate_hz
            sound.pts = start + round(offset_seconds * sample_rate_hz)
            sound.time_base = Fraction(1, sample_rate_hz)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a rotation or mirroring into the track header of an MP4 (PyAV has no call for it)."""
    data = bytearray(path.read_bytes())
    box = data.find(b"tkhd")
    assert box > 0, "no track header"
    assert data[box + 4] == 0, "version 0 expected"
    one = 1 << 16
    struct.pack_into(">9i", data, box + 44, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
