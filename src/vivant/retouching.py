"""From files to a file: a picture and Controls in, a picture out; over time, or of a video, a video; and a manifest.

Frames are made and written one by one, and whatever stops the work leaves nothing behind. Programs call `retouch`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from vivant.controls import Controls
from vivant.errors import InputError
from vivant.keyframes import Keyframes, read_keyframes
from vivant.media.apart import check_apart
from vivant.media.image import check_image_suffix, read_image, write_image
from vivant.media.reader import read_clip
from vivant.media.resample import choose_frame_rate, tidy_rate
from vivant.media.sequence import SEQUENCE_SUFFIXES
from vivant.media.staging import Seal, StagedFile, check_target_file, output_errors
from vivant.media.types import Clip
from vivant.media.writer import DEFAULT_CRF, open_writer, output_kind
from vivant.settings import Retouch, whole_of

if TYPE_CHECKING:
    from vivant.engine import Engine
    from vivant.marks.job import JobMarks

DEFAULT_FRAME_RATE = Fraction(25)
MAX_SECONDS = 3600.0
"""Latest keyframe of a picture: an hour, beyond which a time is a slip of the pen."""

Progress = Callable[[int, int | None], None]
Frames = Generator[np.ndarray, None, None]


@dataclass(frozen=True)
class _Plan:
    """What to draw, known before anything is computed."""

    target: Path
    controls: Controls
    keyframes: Keyframes | None
    video: Clip | None
    """The source, where it moves."""
    rate: Fraction
    only: int | None
    """Number of the one frame that is wanted; None: all."""
    mark: Callable[[np.ndarray], np.ndarray] = np.asarray
    """What is done to edited frames before they are written."""
    seal: Seal | None = None
    """What is done to complete files before they get their names."""

    def at(self, number: int) -> Controls:
        if self.keyframes is None:
            return self.controls
        return self.keyframes.at(float(number / self.rate), self.controls)

    @property
    def expected(self) -> int | None:
        """How many frames there will be; None where nobody knows."""
        if self.video is None:
            return 1 + (round(self.keyframes.end * self.rate) if self.keyframes is not None else 0)
        duration = self.video.duration
        return None if duration is None else round(duration * self.rate)


def retouch(
    settings: Retouch,
    controls: Controls,
    load_engine: Callable[[], Engine[Any, Any, Any, Any, Any]],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make the output and its manifest; returns the manifest, and with it the `path` of the output.

    Args:
        controls: at all times; keyframes are added to it.
        load_engine: called once the inputs and the place of the output have been found usable.

    Raises VivantError for what a user can mend. Whatever is raised, no output is left behind.
    """
    plan = _planned(settings, controls)
    manifest_path = settings.manifest(over_time=plan.only is None)
    staged = StagedFile(manifest_path, overwrite=settings.overwrite)
    try:
        engine = load_engine()
        from vivant.manifest import describe
        from vivant.marks.job import JobMarks

        began = perf_counter()
        job = {
            **describe(settings.inputs, settings.preset, engine, None),
            "controls": asdict(controls),
            "keyframes": None if plan.keyframes is None else asdict(plan.keyframes),
            "seed": 0,  # nothing is random
        }
        marks = JobMarks(settings, job)
        made = _write(
            settings,
            replace(plan, mark=marks.apply, seal=partial(_sign, marks, plan.target)),
            engine,
            progress,
        )
        manifest = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **job,
            "settings": _described(settings),
            "marks": marks.describe(),
            **made,
            "timing": {"total_seconds": round(perf_counter() - began, 3)},
        }
        with output_errors(manifest_path):
            staged.temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        staged.commit()
        return manifest | {"path": str(plan.target)}
    finally:
        staged.discard()


def _planned(settings: Retouch, controls: Controls) -> _Plan:
    """Refuse at once what cannot work."""
    keyframes = None if settings.keyframes is None else read_keyframes(settings.keyframes, settings.sliders)
    if settings.source.suffix.lower() in SEQUENCE_SUFFIXES:
        read_image(settings.source)  # which knows best what is wrong with a picture
    clip = read_clip(settings.source, allow_truncated=settings.allow_truncated)
    video = None if clip.is_still else clip
    over_time = (video is not None or keyframes is not None) and settings.preview is None
    target = settings.target(over_time=over_time)
    whole = whole_of(target) if over_time else target
    read = {"source": settings.source} | (
        {} if settings.keyframes is None else {"keyframes": settings.keyframes}
    )
    is_many = over_time and output_kind(target) == "pictures"
    check_apart(read, (target, settings.manifest(over_time=over_time)), whole if is_many else None)
    own = None if video is None else tidy_rate(video.frame_rate)
    rate = own or DEFAULT_FRAME_RATE
    if settings.fps is not None:
        rate = choose_frame_rate(settings.fps, own, rate)
    if keyframes is not None and keyframes.end > MAX_SECONDS and video is None:
        raise InputError(
            f"{settings.keyframes} goes on for {keyframes.end:g} s; {MAX_SECONDS:g} s are the most."
        )
    only = None
    if not over_time:
        check_image_suffix(target)
        check_target_file(target, settings.overwrite)
        seconds = settings.preview or 0.0
        if not 0 <= seconds < float("inf"):
            raise InputError(f"--preview is a time in seconds from 0, got {seconds:g}.")
        only = round(seconds * rate)
    if keyframes is not None:
        for track in keyframes.tracks.values():
            for moment, _ in track:  # sums that leave a control's range are found before work begins
                keyframes.at(moment, controls)
    return _Plan(target, controls, keyframes, video, rate, only)


def _write(
    settings: Retouch, plan: _Plan, engine: Engine[Any, Any, Any, Any, Any], progress: Progress | None
) -> dict[str, Any]:
    """The output, and what there is to say about it."""
    unseen: list[int] = []
    drawn = (
        _of_picture(settings, plan, engine)
        if plan.video is None
        else _of_video(settings, plan, engine, unseen)
    )
    target = plan.target
    with closing(drawn) as frames:
        beginning = next(frames, None)
        if beginning is None:
            raise InputError(
                f"{settings.source} has no frame at {settings.preview} s; preview an earlier time."
            )
        height, width = beginning.shape[:2]
        if plan.only is not None:
            write_image(target, beginning, overwrite=settings.overwrite, seal=plan.seal)
            return {"output": {"name": target.name, "width": width, "height": height}, "num_frames": 1}
        crf = DEFAULT_CRF if settings.crf is None else settings.crf
        sound = settings.source if plan.video is not None and plan.video.has_audio else None
        count = 0
        with open_writer(
            target,
            plan.rate,
            width,
            height,
            crf=crf,
            audio_from=sound,
            overwrite=settings.overwrite,
            seal=plan.seal,
        ) as writer:
            for count, frame in enumerate(chain([beginning], frames), 1):
                writer.write(frame)
                if progress is not None:
                    progress(count, plan.expected)
    output = {
        "name": target.name,
        "width": writer.width,
        "height": writer.height,
        "frame_rate": str(plan.rate),
    }
    return {"output": output, "num_frames": count, "num_frames_without_face": len(unseen)}


def _of_picture(settings: Retouch, plan: _Plan, engine: Engine[Any, Any, Any, Any, Any]) -> Frames:
    """Frames in order, or the only one; what is asked for as in the last one is not drawn again."""
    from vivant.editing import Editor

    face = None if settings.face.strip().lower() == "none" else settings.face
    editor = Editor(engine, engine.prepare(settings.source, face=face))
    before: tuple[Controls, np.ndarray] | None = None
    numbers = [plan.only] if plan.only is not None else range(plan.expected or 0)
    for number in numbers:
        controls = plan.at(number)
        if before is None or before[0] != controls:
            picture = editor.apply(controls)
            before = controls, plan.mark(picture) if controls.changed else picture
        yield before[1]


def _of_video(
    settings: Retouch, plan: _Plan, engine: Engine[Any, Any, Any, Any, Any], unseen: list[int]
) -> Frames:
    """The video's frames, each edited as the person is in it; untouched where nothing is asked for or nobody seen."""
    from vivant.editing import Editor
    from vivant.sources import SourceVideo

    source = SourceVideo(
        engine, settings.source, face=settings.face, allow_truncated=settings.allow_truncated
    )
    with closing(source.scenes(plan.rate, hold=False)) as scenes:
        for number, scene in enumerate(scenes):
            assert scene.image is not None, "videos have pictures"
            if plan.only not in (None, number):
                continue
            controls, framing = plan.at(number), scene.faces[0]
            if framing is None:
                unseen.append(number)
            if framing is None or not controls.changed:
                yield scene.image
            else:
                yield plan.mark(Editor(engine, engine.prepare_framed([framing])).apply(controls))
            if plan.only == number:
                return


def _sign(marks: JobMarks, target: Path, file: Path) -> None:
    """Put its content credentials into a complete file, where it is signed."""
    signed = file.with_name(f"{file.stem}-signed{file.suffix}")
    try:
        with output_errors(target):
            if marks.sign(file, signed):
                os.replace(signed, file)
    finally:
        signed.unlink(missing_ok=True)


def _described(settings: Retouch) -> dict[str, Any]:
    elsewhere = {"source", "output", "preset", "keyframes", "overwrite", "certificate", "consent"}
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in elsewhere}
