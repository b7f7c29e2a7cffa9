"""Pictures as they come, each with its own time, and sound, into an MP4 file or to an RTMP server, at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame

from vivant.errors import InputError
from vivant.media.outlet import Outlet, fitted
from vivant.media.staging import StagedFile
from vivant.media.tracks import SOUND_HZ, sound_frame

MUXERS = {"rtmp://": "flv", "rtmps://": "flv"}
_CLOCK = Fraction(1, 1000)
"""FLV counts milliseconds."""


class Broadcast(Outlet):
    """One output. Of pictures whose size changes, the first one's is kept; they are cut or filled with black."""

    carries_sound = True

    def __init__(
        self,
        target: str,
        size: tuple[int, int],
        rate_hz: float,
        *,
        sample_rate_hz: int | None = None,
        overwrite: bool = False,
    ) -> None:
        """target: an .mp4 file, or rtmp://SERVER/APP/KEY; size: width and height; sample_rate_hz: None for silence.

        Raises InputError where it cannot be opened.
        """
        width, height = size
        self.target, self.width, self.height = target, width // 2 * 2, height // 2 * 2
        muxer = next((name for scheme, name in MUXERS.items() if target.startswith(scheme)), None)
        self._staged = None if muxer is not None else _staged(target, overwrite)
        address = target if self._staged is None else f"file:{self._staged.temporary}"
        try:
            with _telling(target):
                self._container = av.open(address, "w", format=muxer or "mp4")
                rate = Fraction(rate_hz).limit_denominator(1001)
                self._stream = self._container.add_stream("libx264", rate=rate)
                self._stream.width, self._stream.height = self.width, self.height
                self._stream.pix_fmt = "yuv420p"
                self._stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}
                context = self._stream.codec_context
                context.time_base, context.gop_size, context.thread_count = _CLOCK, 50, 1
                self._sound = None if sample_rate_hz is None else Soundtrack(self._container, sample_rate_hz)
                self._container.start_encoding()
        except BaseException:
            self.abort()
            raise
        # With sound, times count from its first sample; else from the first picture.
        self._first: float | None = None if sample_rate_hz is None else 0.0
        self._last_ms = -1

    def write(self, image: np.ndarray, seconds: float) -> None:
        """A picture, uint8 RGB (H, W, 3), and its time; times that do not grow are moved by a millisecond."""
        self._first = seconds if self._first is None else self._first
        self._last_ms = max(self._last_ms + 1, round((seconds - self._first) * 1000))
        frame = VideoFrame.from_ndarray(fitted(image, self.width, self.height), format="rgb24")
        frame.pts, frame.time_base = self._last_ms, _CLOCK
        with _telling(self.target):
            self._container.mux(self._stream.encode(frame))

    def sound(self, samples: np.ndarray) -> None:
        assert self._sound is not None, "opened with sample_rate_hz"
        with _telling(self.target):
            self._sound.write(samples)

    def close(self) -> None:
        """Finish; a file appears under its name."""
        with _telling(self.target):
            if self._sound is not None:
                self._sound.finish()
            self._container.mux(self._stream.encode(None))
            self._container.close()
        if self._staged is not None:
            self._staged.commit()

    def abort(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "_container"):
            with suppress(av.FFmpegError, OSError):
                self._container.close()
        if self._staged is not None:
            self._staged.discard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was cast until Ctrl-C is what was wanted.
        if self._last_ms >= 0 and (kind is None or kind is KeyboardInterrupt):
            self.close()
        else:
            self.abort()


class Soundtrack:
    """The sound of an output, from its time 0 on without gaps."""

    def __init__(self, container: OutputContainer, rate_hz: int) -> None:
        self._container, self._rate_hz, self._start = container, rate_hz, 0
        self._stream = container.add_stream("aac", rate=SOUND_HZ)
        self._stream.layout = "mono"

    def write(self, samples: np.ndarray) -> None:
        """The next ones: float32 mono (S,) in [-1, 1]."""
        frame = sound_frame((np.clip(samples, -1, 1) * 32767).astype(np.int16), self._rate_hz, self._start)
        self._start += len(samples)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))


@contextmanager
def _telling(target: str) -> Iterator[None]:
    """Turn what FFmpeg says of a target into InputError."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{target} cannot be written: {error}; check that it is there.") from error


def _staged(target: str, overwrite: bool) -> StagedFile:
    if not target.lower().endswith((".mp4", ".m4v")):
        raise InputError(
            f"{target} is neither an .mp4 file, an rtmp:// address, window, v4l2 nor /dev/videoN."
        )
    return StagedFile(target, overwrite=overwrite)
