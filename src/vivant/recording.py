"""From files to a file: a picture and a driving clip in, a video with sound and a JSON manifest out.

    check everything cheap -> load the engine -> prepare -> animate | encode in a thread -> commit together

Decoding, computing and encoding overlap, memory does not grow with the clip, and whatever stops the work leaves
nothing behind. Programs call `record`; nothing here knows a family, a terminal or a page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from vivant.errors import InputError
from vivant.media.audio import sound_format
from vivant.media.image import read_image
from vivant.media.overlap import BackgroundWriter, prefetch
from vivant.media.probe import number_field
from vivant.media.reader import read_clip
from vivant.media.resample import choose_frame_rate, resample
from vivant.media.sequence import SEQUENCE_SUFFIXES
from vivant.media.staging import StagedFile, check_target_file, output_errors
from vivant.media.types import Clip, Frame
from vivant.media.writer import DEFAULT_CRF, VIDEO_SUFFIXES, open_writer
from vivant.presets import load_voice
from vivant.settings import Recording

if TYPE_CHECKING:
    from vivant.animation import Animation
    from vivant.engine import Engine, Portrait
    from vivant.sources import SourceVideo

MAX_VIDEO_PIXELS = 139_264 * 256
"""Largest picture of H.264's highest level (6.2). Encoders take more, and then players show nothing."""

MOTION_SUFFIX = ".safetensors"
"""Of saved motion; as `motion_file.SUFFIX`, which imports torch."""

_QUEUED_BYTES = 256_000_000
"""Pictures waiting to be encoded take at most this much memory, or are two."""

SOUND_SUFFIXES = frozenset({".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac"})
SPOKEN_FRAME_RATE = Fraction(25)

Progress = Callable[[int, int | None], None]
"""Called with frames done and frames expected, after each frame."""


@dataclass(frozen=True)
class _Checked:
    """What the inputs say before anything is computed."""

    clip: Clip | None
    """None where sound or saved motion drives."""
    source: Clip | None
    """None where a picture is animated."""
    frame_rate: Fraction
    sound: Path | None


def record(
    recording: Recording,
    load_engine: Callable[[], Engine[Any, Any, Any, Any, Any]],
    make_options: Callable[[type], Any],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the output, the comparison if wanted, and the manifest; returns the manifest.

    Args:
        load_engine: called once the inputs and the place of the output have been found usable.
        make_options: called with the family's Options type.

    Raises VivantError for what a user can mend. Whatever is raised, no output is left behind.
    """
    checked = _check(recording)
    staged = StagedFile(recording.manifest, overwrite=recording.overwrite)
    try:
        engine = load_engine()
        options = make_options(engine.options_type)
        # Late, so that bad input is refused before torch is imported.
        from vivant.manifest import describe, describe_latency, describe_run

        manifest = describe(
            {"source": recording.source, "driving": recording.driving}, recording.preset, engine, options
        )
        manifest |= {"seed": recording.seed, "settings": _settings(recording)}
        began = perf_counter()
        with _animated(recording, checked, engine, options) as animation, ExitStack() as outputs:
            write, output = _open_outputs(recording, checked, animation, outputs)
            for index, frame in enumerate(animation, 1):
                write(frame)
                if progress is not None:
                    progress(index, animation.num_frames_estimate)
            manifest |= {"output": output, **describe_run(animation.report, perf_counter() - began)}
            rate, timing = float(checked.frame_rate), animation.report.engine
            manifest["latency"] = describe_latency(engine.stream, rate, timing)
            with output_errors(recording.manifest):
                staged.temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        staged.commit()
        return manifest
    finally:
        staged.discard()


def _check(recording: Recording) -> _Checked:
    """Refuse at once what cannot work. Imports no network library and decodes one frame at most."""
    output = recording.target
    is_video = number_field(output) is None and output.suffix.lower() in VIDEO_SUFFIXES
    if is_video:
        StagedFile(output, overwrite=recording.overwrite).discard()
    for kind, given in (("source", recording.source), ("driving file", recording.driving)):
        for made in (output, recording.manifest, recording.comparison):
            if os.path.exists(made) and os.path.exists(given) and made.samefile(given):
                raise InputError(f"{made} is the {kind} itself; choose another output.")
    if recording.compare:
        check_target_file(recording.comparison, recording.overwrite)
    if recording.source.suffix.lower() in SEQUENCE_SUFFIXES:
        read_image(recording.source)  # which knows best what is wrong with a picture
    source = read_clip(recording.source, allow_truncated=recording.allow_truncated)
    height, width = source.height, source.width
    if is_video and recording.paste_back is not False and height * width > MAX_VIDEO_PIXELS:
        raise InputError(
            f"{recording.source} is {width}x{height}, more than a video holds; make it smaller, or use "
            "--no-paste-back or pictures (-o frames/%05d.png)."
        )
    clip, driving_rate, audible = _check_driving(recording)
    moving = None if source.is_still else source
    wanted = recording.fps or ("source" if moving is not None and clip is not None else "driving")
    rate = choose_frame_rate(wanted, moving.frame_rate if moving is not None else None, driving_rate)
    return _Checked(clip, moving, rate, _sound(recording, moving, audible))


def _check_driving(recording: Recording) -> tuple[Clip | None, Fraction, bool]:
    """The driver, if it can be seen; its frames per second; whether it can be heard."""
    driving = recording.driving
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


def _sound(recording: Recording, source: Clip | None, audible: bool) -> Path | None:
    """The file whose sound the output carries."""
    if recording.audio == "source":
        if source is None:
            raise InputError(
                f"{recording.source} is a picture and has no sound; use --audio driving or none."
            )
        if not source.has_audio:
            raise InputError(f"{recording.source} has no sound; use --audio driving or none.")
        return recording.source
    return recording.driving if recording.audio == "driving" and audible else None


def _animated(
    recording: Recording, checked: _Checked, engine: Engine[Any, Any, Any, Any, Any], options: Any
) -> Animation:
    from vivant.animation import animate
    from vivant.sources import SourceVideo

    portrait: Portrait | SourceVideo
    if checked.source is None:
        portrait = engine.prepare(recording.source, face=_face(recording.face))
    else:
        truncated = recording.allow_truncated
        portrait = SourceVideo(engine, recording.source, face=recording.face, allow_truncated=truncated)
    return animate(
        engine,
        portrait,
        recording.driving,
        options=options,
        seed=recording.seed,
        frame_rate=checked.frame_rate,
        on_missing=recording.on_missing,
        reference_frame=_reference(recording.reference_frame),
        driving_face=_face(recording.driving_face),
        paste_back=recording.paste_back,
        length=recording.length,
        allow_truncated=recording.allow_truncated,
        voice=load_voice(recording.preset, recording.driving)
        if recording.driving.suffix.lower() in SOUND_SUFFIXES
        else None,
    )


def _open_outputs(
    recording: Recording, checked: _Checked, animation: Animation, outputs: ExitStack
) -> tuple[Callable[[np.ndarray], None], dict[str, Any]]:
    """What each frame is handed to, and a description of the output. All is finished, or undone, by `outputs`."""
    height, width = animation.frame_size
    rate = checked.frame_rate
    beside = _side_by_side(recording, checked, animation.frame_size, outputs) if recording.compare else None
    # Entered last, so closed first: if the output itself fails, the comparison is undone with it.
    writer = open_writer(
        recording.target,
        rate,
        width,
        height,
        crf=DEFAULT_CRF if recording.crf is None else recording.crf,
        audio_from=checked.sound,
        overwrite=recording.overwrite,
    )
    background = outputs.enter_context(BackgroundWriter(writer, _capacity(height, writer.width)))

    def write(frame: np.ndarray) -> None:
        background.write(frame)
        if beside is not None:
            beside(frame)

    described = {"name": recording.target.name, "width": writer.width, "height": writer.height}
    return write, {**described, "frame_rate": str(rate), "has_audio": writer.has_audio}


def _side_by_side(
    recording: Recording, checked: _Checked, size: tuple[int, int], outputs: ExitStack
) -> Callable[[np.ndarray], None]:
    """Writes driving, source and result in one row, all of the result's height."""
    height, width = size
    assert checked.clip is not None, "refused where nothing is seen to drive"
    shown = [
        _Column(clip, checked.frame_rate, height, outputs)
        for clip in (checked.clip, checked.source or read_clip(recording.source))
    ]
    writer = open_writer(
        recording.comparison,
        checked.frame_rate,
        sum(column.width for column in shown) + width,
        height,
        crf=DEFAULT_CRF if recording.crf is None else recording.crf,
        audio_from=checked.sound,
        overwrite=recording.overwrite,
    )
    background = outputs.enter_context(BackgroundWriter(writer, _capacity(height, writer.width)))

    def write(frame: np.ndarray) -> None:
        background.write(np.concatenate([*(column.next() for column in shown), frame], axis=1))

    return write


class _Column:
    """A clip beside the result, at its rate and height; the last frame stays."""

    def __init__(self, clip: Clip, rate: Fraction, height: int, outputs: ExitStack) -> None:
        self.width = max(1, round(clip.width * height / clip.height))
        self._size = (self.width, height)
        self._frames = outputs.enter_context(closing(_read_ahead(clip, rate)))
        self._last = np.zeros((height, self.width, 3), np.uint8)

    def next(self) -> np.ndarray:
        frame = next(self._frames, None)
        if frame is not None:
            image = Image.fromarray(frame.image).resize(self._size, Image.Resampling.BILINEAR)
            self._last = np.asarray(image)
        return self._last


def _capacity(height: int, width: int) -> int:
    """How many pictures may wait for the encoder."""
    return max(2, min(8, _QUEUED_BYTES // (height * width * 3)))


def _read_ahead(clip: Clip, rate: Fraction) -> Generator[Frame, None, None]:
    yield from prefetch(resample(clip, rate, end=clip.duration))


def _reference(choice: str) -> int | Literal["auto"] | Path:
    cleaned = choice.strip().lower()
    if cleaned == "auto" or cleaned.isdigit():
        return "auto" if cleaned == "auto" else int(cleaned)
    if not Path(choice).is_file():
        raise InputError(
            f"--reference-frame {choice!r} is not understood: use auto, a number from 0 or a picture's file."
        )
    return Path(choice)


def _face(choice: str) -> str | None:
    return None if choice.strip().lower() == "none" else choice


def _settings(recording: Recording) -> dict[str, Any]:
    """What was asked for beyond the family's options; paths are described elsewhere."""
    elsewhere = {"source", "driving", "output", "preset", "seed", "overwrite"}
    return {f.name: getattr(recording, f.name) for f in fields(recording) if f.name not in elsewhere}
