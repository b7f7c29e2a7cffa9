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
from vivant.media.staging import StagedFile, check_target_file, output_errors
from vivant.media.types import Clip, Frame
from vivant.media.writer import DEFAULT_CRF, VIDEO_SUFFIXES, open_writer
from vivant.presets import load_voice
from vivant.settings import Recording

if TYPE_CHECKING:
    from vivant.animation import Animation
    from vivant.engine import Engine

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
    """None where sound alone drives."""
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
    height, width = read_image(recording.source).shape[:2]
    if is_video and recording.paste_back is not False and height * width > MAX_VIDEO_PIXELS:
        raise InputError(
            f"{recording.source} is {width}x{height}, more than a video holds; make it smaller, or use "
            "--no-paste-back or pictures (-o frames/%05d.png)."
        )
    if recording.driving.suffix.lower() in SOUND_SUFFIXES:
        return _check_sound(recording)
    if recording.driving.suffix.lower() == MOTION_SUFFIX:
        return _check_motion(recording)
    clip = read_clip(recording.driving, allow_truncated=recording.allow_truncated)
    if recording.audio == "source":
        raise InputError(f"{recording.source} is a picture and has no sound; use --audio driving or none.")
    sound = recording.driving if recording.audio == "driving" and clip.has_audio else None
    return _Checked(clip, choose_frame_rate(recording.fps, None, clip.frame_rate), sound)


def _check_sound(recording: Recording) -> _Checked:
    """A driver that is only heard."""
    sound_format(recording.driving)
    if recording.compare:
        raise InputError(
            f"{recording.driving} is sound and cannot be shown beside the result; leave --compare out."
        )
    if recording.audio == "source":
        raise InputError(f"{recording.source} is a picture and has no sound; use --audio driving or none.")
    rate = choose_frame_rate(recording.fps, None, SPOKEN_FRAME_RATE)
    return _Checked(None, rate, recording.driving if recording.audio == "driving" else None)


def _check_motion(recording: Recording) -> _Checked:
    """A driver that was recorded."""
    from vivant.motion_file import MotionFile

    if not recording.driving.is_file():
        raise InputError(f"{recording.driving} does not exist; check the path.")
    rate = MotionFile(recording.driving).header.frame_rate
    if recording.compare:
        raise InputError(f"{recording.driving} is saved motion and shows nothing; leave --compare out.")
    if recording.audio == "source":
        raise InputError(f"{recording.source} is a picture and has no sound; use --audio none.")
    return _Checked(None, choose_frame_rate(recording.fps, None, rate), None)


def _animated(
    recording: Recording, checked: _Checked, engine: Engine[Any, Any, Any, Any, Any], options: Any
) -> Animation:
    from vivant.animation import animate

    portrait = engine.prepare(recording.source, face=_face(recording.face))
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
    clip, source = checked.clip, read_image(recording.source)
    assert clip is not None, "refused where sound alone drives"
    source = _of_height(source, height)
    frames = outputs.enter_context(closing(_read_ahead(clip, checked.frame_rate)))
    driving_width = _width_at(height, clip.width, clip.height)
    writer = open_writer(
        recording.comparison,
        checked.frame_rate,
        driving_width + source.shape[1] + width,
        height,
        crf=DEFAULT_CRF if recording.crf is None else recording.crf,
        audio_from=checked.sound,
        overwrite=recording.overwrite,
    )
    background = outputs.enter_context(BackgroundWriter(writer, _capacity(height, writer.width)))

    def write(frame: np.ndarray) -> None:
        driving = next(frames, None)
        shown = _of_height(driving.image, height) if driving is not None else np.zeros_like(frame)
        background.write(np.concatenate([shown, source, frame], axis=1))

    return write


def _capacity(height: int, width: int) -> int:
    """How many pictures may wait for the encoder."""
    return max(2, min(8, _QUEUED_BYTES // (height * width * 3)))


def _read_ahead(clip: Clip, rate: Fraction) -> Generator[Frame, None, None]:
    yield from prefetch(resample(clip, rate, end=clip.duration))


def _width_at(height: int, width: int, of_height: int) -> int:
    return max(1, round(width * height / of_height))


def _of_height(image: np.ndarray, height: int) -> np.ndarray:
    size = (_width_at(height, image.shape[1], image.shape[0]), height)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _reference(choice: str) -> int | Literal["auto"]:
    cleaned = choice.strip().lower()
    if cleaned != "auto" and not cleaned.isdigit():
        raise InputError(f"--reference-frame {choice!r} is not understood: use auto or a number from 0.")
    return "auto" if cleaned == "auto" else int(cleaned)


def _face(choice: str) -> str | None:
    return None if choice.strip().lower() == "none" else choice


def _settings(recording: Recording) -> dict[str, Any]:
    """What was asked for beyond the family's options; paths are described elsewhere."""
    elsewhere = {"source", "driving", "output", "preset", "seed", "overwrite"}
    return {f.name: getattr(recording, f.name) for f in fields(recording) if f.name not in elsewhere}
