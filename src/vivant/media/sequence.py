"""Clips made of pictures: a folder or pattern of files, one still picture, an animated GIF or WebP."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from vivant.errors import InputError
from vivant.media.image import opened_image, read_image, to_rgb
from vivant.media.inputs import check_input_file
from vivant.media.probe import is_pattern, number_field
from vivant.media.types import Frame

DEFAULT_SEQUENCE_RATE = Fraction(25)
"""Frames per second of a picture sequence, whose files say nothing about time."""

SEQUENCE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2")
"""Which files of a folder count as pictures."""

_INSTANT_DELAY_MS = 10
_BROWSER_DELAY_MS = 100


class _PictureClip:
    """What the two readers below share: a known size, exact times, no sound."""

    def __init__(
        self, path: Path, width: int, height: int, times: list[Fraction], duration: Fraction
    ) -> None:
        self.path = path
        self.width = width
        self.height = height
        self.duration: Fraction | None = duration
        self.shown_until: Fraction | None = duration
        self.num_frames_estimate: int | None = len(times)
        self.has_audio = False
        self.is_still = len(times) == 1
        self.frame_rate = len(times) / duration
        spacings = {b - a for a, b in zip(times, [*times[1:], duration], strict=True)}
        self.is_variable = len(spacings) > 1
        self._times = times

    def close(self) -> None:
        """Nothing is kept open between frames."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ImageSequenceReader(_PictureClip):
    """Picture files as a clip with even spacing: a folder, `frames/*.png`, `frame_%05d.png`, or one still
    picture.

    Order: by the number for `%05d` (no number may be missing), otherwise by name with numbers counted as
    numbers (2 before 10). In a folder, other files and hidden files are passed over. All pictures must have
    one size. Raises InputError naming the file that does not fit.
    """

    def __init__(self, path: str | Path, frame_rate: Fraction = DEFAULT_SEQUENCE_RATE) -> None:
        path = Path(path)
        if frame_rate <= 0:
            raise InputError(f"{frame_rate} is not a frame rate for {path}; use a positive number.")
        self._files = sequence_files(path)
        height, width = read_image(self._files[0]).shape[:2]
        times = [index / frame_rate for index in range(len(self._files))]
        super().__init__(path, width, height, times, len(times) / frame_rate)

    def __iter__(self) -> Iterator[Frame]:
        for file, time in zip(self._files, self._times, strict=True):
            image = read_image(file)
            if image.shape[:2] != (self.height, self.width):
                raise InputError(
                    f"{file} is {image.shape[1]}x{image.shape[0]} but {self._files[0].name} is "
                    f"{self.width}x{self.height}; make all pictures of a sequence the same size."
                )
            yield Frame(image, time)


class AnimatedImageReader(_PictureClip):
    """An animated GIF, WebP, PNG or AVIF, played once, with its own delay for each frame.

    Delays up to 10 ms count as 100 ms, as in browsers. Transparent parts are white.
    """

    def __init__(self, path: str | Path) -> None:
        path = check_input_file(path)
        times: list[Fraction] = []
        now = Fraction(0)
        with opened_image(path) as image:
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                times.append(now)
                now += _delay(image.info.get("duration", 0))
            width, height = image.size
        super().__init__(path, width, height, times, now)

    def __iter__(self) -> Iterator[Frame]:
        with opened_image(self.path) as image:
            for index, time in enumerate(self._times):
                image.seek(index)
                yield Frame(to_rgb(image), time)


def sequence_files(path: Path) -> list[Path]:
    """The files a folder, pattern or single name stands for, in order. Raises InputError when there are
    none."""
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in SEQUENCE_SUFFIXES]
        files = sorted((file for file in found if not file.name.startswith(".")), key=_natural_order)
        if not files:
            raise InputError(
                f"{path} holds no pictures; use files such as {', '.join(SEQUENCE_SUFFIXES[:4])}."
            )
        return files
    if not is_pattern(path):
        return [check_input_file(path)]
    field = number_field(path)
    files = _numbered_files(path, field) if field else _globbed_files(path)
    if not files:
        raise InputError(f"no file matches {path}; check the folder and the pattern.")
    return files


def _numbered_files(path: Path, field: re.Match[str]) -> list[Path]:
    before, after = path.name[: field.start()], path.name[field.end() :]
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    numbered: dict[int, Path] = {}
    for file in path.parent.iterdir() if path.parent.is_dir() else ():
        match = name.fullmatch(file.name)
        if match and field.group() % int(match[1]) == match[1]:
            numbered[int(match[1])] = file
    numbers = sorted(numbered)
    for number, following in pairwise(numbers):
        if following != number + 1:
            raise InputError(f"{path}: number {number + 1} is missing; add the file or use a * pattern.")
    return [numbered[number] for number in numbers]


def _globbed_files(path: Path) -> list[Path]:
    names = glob.glob(path.name, root_dir=path.parent)
    return sorted(
        (path.parent / name for name in names if (path.parent / name).is_file()), key=_natural_order
    )


def _natural_order(file: Path) -> list[tuple[int, str]]:
    """Sort key under which frame2 comes before frame10."""
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file.name) if part
    ]


def _delay(duration_ms: float) -> Fraction:
    """A frame's delay in seconds."""
    milliseconds = round(duration_ms)
    return Fraction(milliseconds if milliseconds > _INSTANT_DELAY_MS else _BROWSER_DELAY_MS, 1000)
