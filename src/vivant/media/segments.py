"""An output that grows in segments, each complete by itself, and is joined at the end without encoding again.

    write write write cut | write write cut | write write join
    [-- 00000.mp4 ------]   [ 00001.mp4 --]   [ 00002.mp4 -] -> one file, with its sound

Every segment is its own encoder's work and begins with a whole picture, so a segment that is made again is the same
to the byte, and so is what is joined. Segments live in a `Parts`; errors name the output that they are parts of.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.container import OutputContainer

from vivant.errors import InputError
from vivant.media.h264 import (
    DEFAULT_CRF,
    REORDERED_FRAMES,
    PictureEncoder,
    check_picture,
    close_quietly,
    encoding,
    even_size,
)
from vivant.media.image import check_pixels, save_image
from vivant.media.parts import Move, Parts, settle
from vivant.media.soundtrack import carried_sound
from vivant.media.staging import check_target_folder, output_errors
from vivant.media.writer import check_video, open_container, picture_names


class SegmentedOutput(Protocol):
    """Pictures out, in segments."""

    width: int
    """Pixels, as encoded."""
    height: int

    def write(self, image: np.ndarray) -> None:
        """Append one picture, uint8 RGB of the size given at the start."""

    def cut(self) -> None:
        """Put everything written so far on the disk; the next picture begins a segment."""

    def join(self) -> Move:
        """The whole output, complete in the folder of parts, and where it is to go."""

    def abort(self) -> None:
        """Drop the segment that was begun."""


class SegmentedVideo:
    """H.264 in MP4 or MOV, as `VideoWriter` makes it.

    Sound is added when the segments are joined, so that it is continuous; see `VideoWriter` for what is carried.
    """

    def __init__(
        self,
        target: Path,
        parts: Parts,
        name: str,
        frame_rate: Fraction,
        width: int,
        height: int,
        *,
        crf: int = DEFAULT_CRF,
        audio_from: Path | None = None,
        num_segments: int = 0,
    ) -> None:
        """name: of its parts in the folder; num_segments: how many are there already. Raises InputError."""
        check_video(target, frame_rate, width, height, crf)
        self._target, self._parts, self._name = target, parts, name
        self._given = width, height
        self.width, self.height = even_size(width, height)
        self._frame_rate, self._crf, self._audio_from = frame_rate, crf, audio_from
        self._num_segments = num_segments
        self._open: tuple[OutputContainer, PictureEncoder] | None = None

    def write(self, image: np.ndarray) -> None:
        with encoding(self._target, self.width, self.height):
            if self._open is None:
                self._open = self._begun()
            self._open[1].write(image)

    def cut(self) -> None:
        if self._open is None:
            return
        container, encoder = self._open
        with encoding(self._target, self.width, self.height):
            encoder.finish()
            container.close()
            settle(self._unfinished)
            os.replace(self._unfinished, self._segment(self._num_segments))
            settle(self._parts.folder)
        self._open = None
        self._num_segments += 1

    def join(self) -> Move:
        self.cut()
        part = f"{self._name}{self._target.suffix}"
        with encoding(self._target, self.width, self.height):
            _join(
                [self._segment(index) for index in range(self._num_segments)],
                self._parts.folder / part,
                self._target,
                self._frame_rate,
                self._audio_from,
            )
            settle(self._parts.folder / part)
        return Move(part, self._target)

    def abort(self) -> None:
        if self._open is not None:
            close_quietly(self._open[0])
            self._open = None

    def _begun(self) -> tuple[OutputContainer, PictureEncoder]:
        container = av.open(f"file:{self._unfinished}", "w", format="mp4")
        try:
            encoder = PictureEncoder(container, self._frame_rate, *self._given, crf=self._crf)
            container.start_encoding()
        except BaseException:
            close_quietly(container)
            raise
        return container, encoder

    @property
    def _unfinished(self) -> Path:
        return self._parts.folder / f"{self._name}-unfinished.mp4"

    def _segment(self, index: int) -> Path:
        return self._parts.folder / f"{self._name}-{index:05}.mp4"


class SegmentedPictures:
    """A folder of numbered pictures, as `ImageSequenceWriter` makes it."""

    def __init__(
        self,
        target: Path,
        parts: Parts,
        width: int,
        height: int,
        *,
        num_frames: int = 0,
        overwrite: bool = False,
    ) -> None:
        """num_frames: how many are there already. Raises InputError."""
        self._target = target
        self._final, self._pattern = picture_names(target)
        check_pixels(target, width, height)
        check_target_folder(self._final, (Path(self._pattern).suffix.lower(),), overwrite)
        self.width, self.height = width, height
        self._folder = parts.folder / "pictures"
        self._num_frames = self._num_settled = num_frames
        with output_errors(target):
            self._folder.mkdir(exist_ok=True)

    def write(self, image: np.ndarray) -> None:
        check_picture(image, (self.height, self.width))
        with output_errors(self._target):
            save_image(self._picture(self._num_frames), image)
        self._num_frames += 1

    def cut(self) -> None:
        with output_errors(self._target):
            for index in range(self._num_settled, self._num_frames):
                settle(self._picture(index))
            settle(self._folder)
        self._num_settled = self._num_frames

    def join(self) -> Move:
        self.cut()
        return Move(self._folder.name, self._final)

    def abort(self) -> None:
        """Pictures that were begun are written again."""

    def _picture(self, index: int) -> Path:
        return self._folder / (self._pattern % index)


class SegmentedPicture:
    """One picture, of something that has one frame."""

    def __init__(self, target: Path, parts: Parts, width: int, height: int, *, num_frames: int = 0) -> None:
        """num_frames: 1 where it is there already. Raises InputError."""
        check_pixels(target, width, height)
        self._target = target
        self.width, self.height = width, height
        self._file = parts.folder / f"picture{target.suffix}"
        self._num_frames = num_frames

    def write(self, image: np.ndarray) -> None:
        check_picture(image, (self.height, self.width))
        if self._num_frames:
            raise InputError(f"{self._target} is one picture; name it .mp4, or use a folder for more.")
        with output_errors(self._target):
            save_image(self._file, image)
        self._num_frames += 1

    def cut(self) -> None:
        with output_errors(self._target):
            settle(self._file)

    def join(self) -> Move:
        self.cut()
        return Move(self._file.name, self._target)

    def abort(self) -> None:
        """A picture that was begun is written again."""


def frame_bytes(video: Path) -> tuple[float, float, int]:
    """Mean size of whole pictures, mean size of the others, and how many whole ones there are."""
    sizes: dict[bool, list[int]] = {True: [], False: []}
    with av.open(f"file:{video}") as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                sizes[packet.is_keyframe].append(packet.size)
    whole, other = (sum(found) / max(1, len(found)) for found in (sizes[True], sizes[False]))
    return whole, other, len(sizes[True])


def _join(
    segments: list[Path], file: Path, target: Path, frame_rate: Fraction, audio_from: Path | None
) -> None:
    """Move the packets of all segments into one file, one behind the other, and the sound between them."""
    with ExitStack() as stack:
        output = open_container(file, target)
        stack.callback(close_quietly, output)
        with av.open(f"file:{segments[0]}") as first:
            source = first.streams.video[0]
            stream = output.add_stream_from_template(source)
            tick = source.time_base
            assert tick is not None, "MP4 has one"
            stream.time_base = tick
        sound = None if audio_from is None else carried_sound(audio_from, output, stack)
        output.start_encoding()
        offset = num_packets = 0
        for segment in segments:
            with av.open(f"file:{segment}") as part:
                source = part.streams.video[0]
                assert source.duration is not None
                for packet in part.demux(source):
                    if packet.pts is None:
                        continue
                    packet.pts += offset
                    # Not the segment's own: very short ones begin later, and times of decoding never go back.
                    packet.dts = round((num_packets - REORDERED_FRAMES) / frame_rate / tick)
                    num_packets += 1
                    packet.stream = stream
                    if sound is not None:
                        sound.write_until(packet.pts * tick)
                    output.mux(packet)
                offset += source.duration
        if sound is not None:
            sound.write_until(offset * tick)
            sound.close()
        output.close()
