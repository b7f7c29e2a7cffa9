"""What the inputs of a recording say before anything is computed; what cannot work is refused here.

Opens files, decodes one frame and the beginning of the sound at most, and imports no network library. Knows nothing of
how frames are made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vivant.errors import InputError
from vivant.media.apart import check_apart
from vivant.media.audio import sound_format
from vivant.media.image import read_image
from vivant.media.parts import waits_to_be_moved
from vivant.media.reader import read_clip
from vivant.media.resample import choose_frame_rate
from vivant.media.sequence import SEQUENCE_SUFFIXES
from vivant.media.soundtrack import check_carried
from vivant.media.staging import check_target_file, check_target_folder
from vivant.media.types import Clip
from vivant.media.writer import output_kind, picture_names
from vivant.settings import Recording, neutral_picture

if TYPE_CHECKING:
    from vivant.engine import Engine

MAX_VIDEO_PIXELS = 139_264 * 256
"""Largest picture of H.264's highest level (6.2). Encoders take more, and then players show nothing."""

MOTION_SUFFIX = ".safetensors"
"""Of saved motion; as `motion_file.SUFFIX`, which imports torch."""

MIN_SEED, MAX_SEED = -(2**63), 2**64 - 1
"""What generators of torch take."""

SOUND_SUFFIXES = frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac"})
SPOKEN_FRAME_RATE = Fraction(25)


@dataclass(frozen=True)
class Checked:
    """What the inputs say before anything is computed."""

    clip: Clip | None
    """None where sound or saved motion drives."""
    source: Clip | None
    """None where a picture is animated."""
    frame_rate: Fraction
    sound: Path | None

    def at_rate_of(self, engine: Engine[Any, Any, Any, Any, Any], recording: Recording) -> Checked:
        """The same at the engine's own rate, where it has one and no other is asked for."""
        own = engine.stream.frame_rate_hz
        if not engine.hears or own is None or recording.fps is not None:
            return self
        return replace(self, frame_rate=Fraction(own))

    def shown(self, recording: Recording) -> list[Clip]:
        """What is seen beside the result, if that is wanted."""
        if not recording.compare:
            return []
        assert self.clip is not None, "refused where nothing is seen to drive"
        return [self.clip, self.source or read_clip(recording.source)]


def check(recording: Recording) -> Checked:
    """Refuse at once what cannot work. Imports no network library and decodes next to nothing."""
    output = recording.target
    output_is = output_kind(output)
    is_video = output_is == "video"
    if not 0 < recording.segment_seconds < float("inf"):  # not a number is neither
        raise InputError(f"--segment-seconds is a number above 0, got {recording.segment_seconds}.")
    if not MIN_SEED <= recording.seed <= MAX_SEED:
        raise InputError(
            f"--seed is a number of at most 64 bits, got {recording.seed}; choose a smaller one."
        )
    reference_of(recording.reference_frame)
    folder = recording.whole if output_is == "pictures" else None
    check_apart(recording.inputs, (output, recording.manifest, recording.comparison), folder)
    # What a run that was stopped at its very end has moved already is not in the way.
    free = recording.overwrite or (recording.resume and waits_to_be_moved(recording.whole))
    if output_is != "pictures":
        check_target_file(output, free)
    else:
        folder, name = picture_names(output)
        if not free:
            check_target_folder(folder, (Path(name).suffix.lower(),), overwrite=False)
    check_target_file(recording.manifest, free)
    if recording.compare:
        check_target_file(recording.comparison, free)
    if recording.source.suffix.lower() in SEQUENCE_SUFFIXES:
        read_image(recording.source)  # which knows best what is wrong with a picture
    source = read_clip(recording.source, allow_truncated=recording.allow_truncated)
    height, width = source.height, source.width
    if is_video and recording.paste_back is not False and height * width > MAX_VIDEO_PIXELS:
        raise InputError(
            f"{recording.source} is {width}x{height}, more than a video holds; make it smaller, or use "
            "--no-paste-back or pictures (-o frames/%05d.png)."
        )
    paths = dict.fromkeys([recording.driving, *recording.mapped.values()])
    drivers = {path: _check_driving(recording, path) for path in paths}
    clip, driving_rate, _ = drivers[recording.driving]
    audible = [path for path, (_, _, heard) in drivers.items() if heard]
    moving = None if source.is_still else source
    if output_is == "picture" and not all(
        each is not None and each.is_still
        for each in (source, *(driver for driver, _, _ in drivers.values()))
    ):
        raise InputError(
            f"{output} is one picture, and this makes many; name it .mp4, or use pictures (-o frames/%05d.png)."
        )
    fixed = {path: rate for path, (seen, rate, _) in drivers.items() if seen is None}
    wanted = recording.fps or ("source" if moving is not None and clip is not None else "driving")
    rate = choose_frame_rate(wanted, moving.frame_rate if moving is not None else None, driving_rate)
    if recording.fps is None and fixed:
        rate = _fixed_rate(fixed)
    sound = _sound(recording, moving, audible)
    if sound is not None and (is_video or recording.compare):
        _check_sound(sound, output.suffix if is_video else ".mp4")
    return Checked(clip, moving, rate, sound)


def _fixed_rate(fixed: dict[Path, Fraction]) -> Fraction:
    """Of drivers that are not seen, and so cannot be taken at another rate. Raises InputError where they differ."""
    first, rate = next(iter(fixed.items()))
    for path, other in fixed.items():
        if other != rate:
            speaks = [one for one in (first, path) if one.suffix.lower() in SOUND_SUFFIXES]
            kept = SPOKEN_FRAME_RATE if speaks else rate
            again = path if other != kept else first
            raise InputError(
                f"{first} drives at {rate} frames per second and {path} at {other}, and one output has one rate; "
                f"record {again} again with `vivant motion record --fps {kept}`."
            )
    return rate


def _check_driving(recording: Recording, driving: Path) -> tuple[Clip | None, Fraction, bool]:
    """A driver, if it can be seen; its frames per second; whether it can be heard."""
    if driving.suffix.lower() in SOUND_SUFFIXES:
        sound_format(driving)
        if recording.compare:
            raise InputError(
                f"{driving} is sound and cannot be shown beside the result; leave --compare out."
            )
        return None, SPOKEN_FRAME_RATE, True
    if driving.suffix.lower() == MOTION_SUFFIX:
        from vivant.motion_file import MotionFile

        if not driving.is_file():
            raise InputError(f"{driving} does not exist; check the path.")
        if recording.compare:
            raise InputError(f"{driving} is saved motion and shows nothing; leave --compare out.")
        return None, MotionFile(driving).header.frame_rate, False
    clip = read_clip(driving, allow_truncated=recording.allow_truncated)
    return clip, clip.frame_rate, clip.has_audio


def _check_sound(path: Path, suffix: str) -> None:
    """Sound is added behind the last frame; by then it is too late to find that it cannot be."""
    try:
        check_carried(path, suffix)
    except InputError as error:
        if path.suffix.lower() in SOUND_SUFFIXES:  # it drives: without it there is nothing to make
            raise
        raise InputError(f"{str(error).rstrip('.')}, or leave it out with --audio none.") from error


def _sound(recording: Recording, source: Clip | None, audible: list[Path]) -> Path | None:
    """The file whose sound the output carries; of several drivers, the first that is heard."""
    if recording.audio == "source":
        if source is None:
            raise InputError(
                f"{recording.source} is a picture and has no sound; use --audio driving or none."
            )
        if not source.has_audio:
            raise InputError(f"{recording.source} has no sound; use --audio driving or none.")
        return recording.source
    return next(iter(audible), None) if recording.audio == "driving" else None


def reference_of(choice: str) -> int | Literal["auto"] | Path:
    """What --reference-frame says. Raises InputError."""
    picture = neutral_picture(choice)
    if picture is None:
        return "auto" if choice.strip().lower() == "auto" else int(choice)
    if not picture.is_file():
        raise InputError(
            f"--reference-frame {choice!r} is not understood: use auto, a number from 0 or a picture's file."
        )
    return picture
