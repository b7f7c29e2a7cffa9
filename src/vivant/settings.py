"""What a recording is made of: every setting of `vivant animate` that is not the family's own, with its default.

Light on purpose: the command line builds its options from this file without importing anything heavy.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vivant.controls import Sliders
from vivant.errors import InputError
from vivant.face.missing import MissingPolicy
from vivant.presets import DEFAULT_PRESET

Length = Literal["shortest", "driving", "source"]

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NUMBER_FIELD = re.compile(r"%0?\d*d")
"""What makes a name that of many pictures; as in `media.probe`, which imports more."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A picture or video, a driving clip, and what to make of them."""

    source: Path
    """Picture or video of the person to animate."""
    driving: Path = Path()
    """What moves it, unless --map says it all: a video, a GIF, a picture, a folder or pattern of pictures, or speech
    (.wav, .mp3, .flac ...)."""
    output: str | None = None
    """Video (.mp4, .mov), a folder to put it in, pictures (frames/%05d.png), or where one picture drives, one (.png,
    .jpg). [default: SOURCE--DRIVING.mp4]"""
    preset: str = DEFAULT_PRESET
    """Name (see `vivant presets`) or checkpoint folder."""
    face: str | None = None
    """Faces of the source: largest, all, numbers from 0 such as 2 or 0,2, x,y in pixels, x,y@size for a square that
    is given (its centre and side), or none where it is an aligned crop. [default: largest, or those of --map]"""
    map: tuple[str, ...] = ()
    """A driver for one face, as NUMBER=FILE; once per face. Other faces follow --driving, or the first of these."""
    driving_face: str = "largest"
    """Face of the driving clip, in the same words."""
    reference_frame: str = "auto"
    """What is neutral: auto (the calmest face of the first two seconds), a driving frame's number from 0, or a picture
    of the driver."""
    on_missing: MissingPolicy = "hold"
    """Where the driver's face is not seen: hold the last picture (of a source video the last motion), show the source,
    or fail."""
    paste_back: bool | None = None
    """The whole picture, or only the square around the face. [default: paste-back, if there is a picture]"""
    fps: str | None = None
    """Frames per second of the output: source, driving, or a number such as 25, 29.97 or 24000/1001. [default: those of
    sound or saved motion that drives, else of a source video, else the driving clip's]"""
    length: Length = "shortest"
    """How long a source video is animated: shortest, until one of both ends; driving holds the last frame of a source
    that ends first; source holds the last motion of a driver that ends first."""
    audio: Literal["driving", "source", "none"] = "driving"
    """Whose sound the output carries."""
    nod_degrees: float | None = None
    """How far the head nods with the stress of speech, 0 to 6 degrees. [default: 1.5]"""
    crf: int | None = None
    """Quality of the video: 0 is lossless, 51 worst. [default: 18, looks like the input]"""
    seed: int = 0
    """Same seed, same video."""
    compare: bool = False
    """Also write driving, source and result side by side."""
    watermark: bool = True
    """Mark the pixels of every frame, invisibly, as made with vivant."""
    credentials: bool = True
    """Sign videos and pictures with content credentials (C2PA), where the extra `marks` is installed."""
    certificate: Path | None = None
    """PEM file with key and certificates to sign with. [default: a self-made one]"""
    visible_label: bool = False
    """Write "AI-generated" into a corner."""
    consent: str | None = None
    """Who agreed to be animated, and when; kept in the manifest and in the content credentials."""
    resume: bool = False
    """Go on with a run that was killed, and keep what is done if this one is; see docs/long_runs.md."""
    segment_seconds: float = 10.0
    """A killed run loses at most this much of the output and what it was working on, in seconds of the output."""
    overwrite: bool = False
    """Replace outputs that exist."""
    allow_truncated: bool = False
    """Use what can be read of a damaged driving file."""

    def __post_init__(self) -> None:
        first = next(iter(self.mapped.values()), None)
        if self.driving == Path():
            if first is None:
                raise InputError("nothing drives; say what with -d FILE, or --map 0=FILE for single faces.")
            object.__setattr__(self, "driving", first)

    @property
    def mapped(self) -> dict[int, Path]:
        """Drivers of single faces, by the face's number. Raises InputError."""
        drivers: dict[int, Path] = {}
        for entry in self.map:
            number, equals, file = entry.partition("=")
            if not (number.strip().isdecimal() and equals and file):
                raise InputError(
                    f"--map {entry} is not understood: write the face's number and a file, 0=FILE."
                )
            if int(number) in drivers:
                raise InputError(f"--map names face {int(number)} twice; give each face one driver.")
            drivers[int(number)] = Path(file)
        return drivers

    @property
    def inputs(self) -> dict[str, Path]:
        """Everything that is read, by what it is for."""
        mapped = {f"driving of face {number}": path for number, path in self.mapped.items()}
        neutral = (
            {} if (picture := neutral_picture(self.reference_frame)) is None else {"reference frame": picture}
        )
        return {"source": self.source, "driving": self.driving, **mapped, **neutral}

    @property
    def target(self) -> Path:
        """Where the output goes: as named, or SOURCE--DRIVING.mp4 in the folder named or the current one."""
        name = f"{self.source.stem}--{self.driving.stem}.mp4"
        if self.output is None:
            return Path(name)
        path = Path(self.output).expanduser()
        return path / name if os.path.isdir(path) or self.output.endswith(("/", os.sep)) else path

    @property
    def whole(self) -> Path:
        """The file, or the folder, that the output is."""
        return whole_of(self.target)

    @property
    def manifest(self) -> Path:
        """Beside the output: how it was made."""
        return self._beside(".json")

    @property
    def comparison(self) -> Path:
        """Beside the output: driving, source and result in one row."""
        return self._beside("--compare.mp4")

    def _beside(self, ending: str) -> Path:
        whole = self.whole
        is_file = whole == self.target and whole.suffix.lower() in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
        return whole.with_name((whole.stem if is_file else whole.name) + ending)


def neutral_picture(reference_frame: str) -> Path | None:
    """The picture that --reference-frame names; None where it names a driving frame or leaves the choice."""
    word = reference_frame.strip().lower()
    return None if word == "auto" or word.isdecimal() else Path(reference_frame).expanduser()


def whole_of(target: Path) -> Path:
    """The file, or of numbered pictures (frames/%05d.png) the folder, that an output of that name is.

    Raises InputError for the current folder and the disk as a whole.
    """
    is_video = target.suffix.lower() in VIDEO_SUFFIXES
    # Other per cent signs are part of a name: 100%.png is one picture, and a--%05d.mp4 one video.
    whole = target.parent if not is_video and NUMBER_FIELD.search(target.name) else target
    if not whole.name:
        raise InputError(f"{target} would replace the current folder; name a new folder, as frames/%05d.png.")
    return whole


@dataclass(frozen=True, kw_only=True)
class Retouch:
    """A picture or video, and what to make of its edit. The edit itself is `controls.Controls`."""

    source: Path
    """Picture or video of the person to edit."""
    output: str | None = None
    """Picture (.png, .jpg, .webp); over time a video (.mp4, .mov) or pictures (frames/%05d.png). [default:
    SOURCE--edited.png or .mp4]"""
    keyframes: Path | None = None
    """Controls over time, .json or .csv (docs/editing.md); controls given beside it are added throughout."""
    preview: float | None = None
    """Write the one picture of this time in seconds, and nothing else."""
    sliders: Sliders = "vivant"
    """Whose a name is that several programs have (blink, smile): vivant, alp (AdvancedLivePortrait) or facefusion."""
    preset: str = DEFAULT_PRESET
    """Name (see `vivant presets`) or checkpoint folder."""
    face: str = "largest"
    """Face to edit: largest, a number from 0, x,y in pixels, or none where a picture is an aligned crop."""
    fps: str | None = None
    """Frames per second over time: source, or a number such as 25, 29.97 or 24000/1001. [default: those of a video, of
    a picture 25]"""
    crf: int | None = None
    """Quality of the video: 0 is lossless, 51 worst. [default: 18, looks like the input]"""
    watermark: bool = True
    """Mark the pixels of every edited frame, invisibly, as made with vivant."""
    credentials: bool = True
    """Sign videos and pictures with content credentials (C2PA), where the extra `marks` is installed."""
    certificate: Path | None = None
    """PEM file with key and certificates to sign with. [default: a self-made one]"""
    visible_label: bool = False
    """Write "AI-generated" into a corner."""
    consent: str | None = None
    """Who agreed to be edited, and when; kept in the manifest and in the content credentials."""
    overwrite: bool = False
    """Replace an output that exists."""
    allow_truncated: bool = False
    """Use what can be read of a damaged video."""

    @property
    def inputs(self) -> dict[str, Path]:
        """Everything whose pixels are used, by what it is for."""
        return {"source": self.source}

    def target(self, *, over_time: bool) -> Path:
        """Where the output goes: as named, or SOURCE--edited in the folder named or the current one."""
        name = f"{self.source.stem}--edited{'.mp4' if over_time else '.png'}"
        if self.output is None:
            return Path(name)
        path = Path(self.output).expanduser()
        return path / name if self.output.endswith(("/", os.sep)) else path

    def manifest(self, *, over_time: bool) -> Path:
        """Beside the output, whose whole name it bears: a picture and a video of one source do not meet."""
        target = self.target(over_time=over_time)
        whole = whole_of(target) if over_time or not target.name else target
        return whole.with_name(whole.name + ".json")
