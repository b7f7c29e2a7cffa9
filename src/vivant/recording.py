"""From files to a file: a picture and a driving clip in, a video with sound and a JSON manifest out.

    check everything cheap -> load the engine -> prepare -> animate | encode in a thread -> commit together

Decoding, computing and encoding overlap, memory does not grow with the clip, and whatever stops the work leaves
nothing behind. Programs call `record`; nothing here knows a family, a terminal or a page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from vivant.checked import SOUND_SUFFIXES, Checked, check, reference_of
from vivant.errors import InputError
from vivant.media.h264 import encode_threads
from vivant.media.overlap import BackgroundWriter
from vivant.media.parts import Move, Parts
from vivant.media.writer import output_kind
from vivant.presets import load_voice
from vivant.settings import Recording, neutral_picture

if TYPE_CHECKING:
    from vivant.animation import Animation
    from vivant.bookmark import Bookmark
    from vivant.engine import Engine, Portrait
    from vivant.marks.job import JobMarks
    from vivant.outputs import Drawn, Outputs, Progressed
    from vivant.sources import SourceVideo

_QUEUED_BYTES = 256_000_000
"""Pictures waiting to be encoded take at most this much memory, or are two."""

Progress = Callable[[int, int | None], None]
"""Called with frames done and frames expected, after each frame."""


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

    Raises VivantError for what a user can mend. Whatever is raised, no output is left behind, but with `resume` what
    is needed to go on, in a hidden folder.
    """
    checked = check(recording)
    made = recording.manifest
    parts = Parts.open(recording.whole)
    keep = True  # until it is known to be ours
    try:
        engine = load_engine()
        checked = checked.at_rate_of(engine, recording)
        options = make_options(engine.options_type)
        # Late, so that bad input is refused before torch is imported.
        from vivant.manifest import describe

        job = describe(recording.inputs, recording.preset, engine, options)
        job |= {"seed": recording.seed, "settings": _settings(recording), "encode_threads": encode_threads()}
        parts.begin(job, resume=recording.resume, overwrite=recording.overwrite)
        keep = recording.resume
        moves = None
        if parts.moves is None:
            moves = _make(recording, checked, engine, options, parts, job, progress)
        parts.finish(moves, overwrite=recording.overwrite)
        return dict(json.loads(made.read_text("utf-8")))
    finally:
        parts.close(keep=keep)


def _make(
    recording: Recording,
    checked: Checked,
    engine: Engine[Any, Any, Any, Any, Any],
    options: Any,
    parts: Parts,
    job: dict[str, Any],
    progress: Progress | None,
) -> list[Move]:
    """Everything, complete in the folder of parts; from where an earlier run was stopped, if it was."""
    from vivant.bookmark import Bookmark
    from vivant.manifest import describe_latency, describe_run
    from vivant.marks.job import JobMarks
    from vivant.outputs import Outputs, Progressed, Shape

    marks = JobMarks(recording, job)
    mark = None if parts.mark is None else Bookmark.load(parts.mark)
    before = Progressed() if mark is None else mark.part("recording", Progressed)
    if mark is not None:
        before = replace(before, num_resumed=before.num_resumed + 1)
    clock = _Clock(before.seconds)
    with animated(recording, checked, engine, options, mark) as animation:
        height, width = animation.frame_size
        shape = Shape(width, height, checked.frame_rate)
        outputs = Outputs(recording, parts, shape, checked.shown(recording), checked.sound, before)
        with BackgroundWriter(outputs, queue_capacity(height, width)) as background:
            for drawn in _drawn(recording, animation, checked.frame_rate, before, clock):
                background.write(replace(drawn, picture=marks.apply(drawn.picture)))
                if progress is not None:
                    progress(animation.report.num_frames, animation.num_frames_estimate)
            if not animation.report.num_frames:
                raise InputError(
                    f"no frame was written to {recording.target}; check that the input has frames."
                )
        manifest = {"created": datetime.now(UTC).isoformat(timespec="seconds"), **job}
        manifest["marks"] = marks.describe()
        manifest |= {"output": _described(recording, checked, outputs), "num_resumed": before.num_resumed}
        manifest |= describe_run(animation.report, clock.seconds)
        timing = animation.report.engine
        manifest["latency"] = describe_latency(engine.stream, float(checked.frame_rate), timing)
    for move in outputs.moves:
        _sign(parts, move, marks)
    text = json.dumps(manifest, indent=2) + "\n"
    parts.put("manifest.json", lambda path: path.write_text(text, encoding="utf-8"))
    # The output last: from then on a folder is where further outputs go, and not one that waits to be replaced.
    return [Move("manifest.json", recording.manifest), *outputs.moves]


def _sign(parts: Parts, move: Move, marks: JobMarks) -> None:
    """The finished file, or each picture of a folder, with its content credentials in its place."""
    finished = parts.folder / move.part
    for file in sorted(finished.iterdir()) if finished.is_dir() else [finished]:
        signed = parts.folder / f"signed-{file.name}"
        if marks.sign(file, signed):
            parts.put(str(file.relative_to(parts.folder)), partial(os.replace, signed))


class _Clock:
    """Wall time of all runs together."""

    def __init__(self, seconds_before: float) -> None:
        self._began = perf_counter() - seconds_before

    @property
    def seconds(self) -> float:
        return perf_counter() - self._began


def _drawn(
    recording: Recording, animation: Animation, rate: Fraction, before: Progressed, clock: _Clock
) -> Iterator[Drawn]:
    """Frames, and where a segment is long enough, with what is needed to go on from there."""
    from vivant.outputs import Drawn

    last, num_segments = before.num_frames, before.num_segments
    for index, frame in enumerate(animation, before.num_frames + 1):
        mark = None
        if index - last >= rate * Fraction(recording.segment_seconds):
            mark = animation.bookmark()
        if mark is not None:
            last, num_segments = index, num_segments + 1
            now = replace(before, num_frames=index, num_segments=num_segments, seconds=clock.seconds)
            mark.keep("recording", now)
        yield Drawn(frame, mark)


def _described(recording: Recording, checked: Checked, outputs: Outputs) -> dict[str, Any]:
    is_video = output_kind(recording.target) == "video"
    return {
        "name": recording.target.name,
        "width": outputs.main.width,
        "height": outputs.main.height,
        "frame_rate": str(checked.frame_rate),
        "has_audio": is_video and checked.sound is not None,
    }


def animated(
    recording: Recording,
    checked: Checked,
    engine: Engine[Any, Any, Any, Any, Any],
    options: Any,
    resume: Bookmark | None,
) -> Animation:
    from vivant.animation import animate

    people, driving = _people(recording, checked, engine)
    speech = [path for path in recording.inputs.values() if path.suffix.lower() in SOUND_SUFFIXES]
    voice = None  # a family that is driven by sound needs none
    if speech and not engine.hears:
        voice = load_voice(recording.preset, speech[0], recording.nod_degrees)
    return animate(
        engine,
        people,
        driving,
        options=options,
        seed=recording.seed,
        frame_rate=checked.frame_rate,
        on_missing=recording.on_missing,
        reference_frame=reference_of(recording.reference_frame),
        driving_face=_face(recording.driving_face),
        paste_back=recording.paste_back,
        length=recording.length,
        allow_truncated=recording.allow_truncated,
        voice=voice,
        resume=resume,
    )


def _people(
    recording: Recording, checked: Checked, engine: Engine[Any, Any, Any, Any, Any]
) -> tuple[Portrait | list[Portrait] | SourceVideo, Path | dict[int, Path]]:
    """Who is animated, and by what: one file, or one per face."""
    from vivant.face.choose import FaceChoice
    from vivant.sources import SourceVideo

    mapped, path = recording.mapped, recording.source
    face: str | FaceChoice | None = "largest" if recording.face is None else _face(recording.face)
    if mapped and recording.face is None:
        face = FaceChoice("numbers", numbers=tuple(sorted(mapped)))
    if face is None:
        if mapped:
            raise InputError(
                "--map names faces of a picture in which they are looked for; leave --face none out."
            )
        return engine.prepare(path, face=None), recording.driving
    if checked.source is not None:
        video = SourceVideo(engine, path, face=face, allow_truncated=recording.allow_truncated)
        numbers = video.numbers
    else:
        people = engine.prepare_faces(path, face=face)
        numbers = tuple(portrait.framing.index for portrait in people if portrait.framing is not None)
    if strangers := [str(number) for number in mapped if number not in numbers]:
        raise InputError(f"--map names face {strangers[0]}, which --face {recording.face} does not animate.")
    drivers = {number: mapped.get(number, recording.driving) for number in numbers if number is not None}
    if recording.driving not in drivers.values():
        raise InputError(f"{recording.driving} drives nobody: each animated face has a driver in --map.")
    driving = drivers if mapped else recording.driving
    return (people if checked.source is None else video), driving


def queue_capacity(height: int, width: int) -> int:
    """How many pictures may wait for the encoder."""
    return max(2, min(8, _QUEUED_BYTES // (height * width * 3)))


def _face(choice: str) -> str | None:
    return None if choice.strip().lower() == "none" else choice


def _settings(recording: Recording) -> dict[str, Any]:
    """What was asked for beyond the family's options; inputs are described elsewhere, and named here."""
    elsewhere = {"source", "driving", "output", "preset", "seed", "overwrite", "resume", "certificate"}
    told = {f.name: getattr(recording, f.name) for f in fields(recording) if f.name not in elsewhere}
    told["map"] = [f"{number}={path.name}" for number, path in recording.mapped.items()]
    if (picture := neutral_picture(recording.reference_frame)) is not None:
        told["reference_frame"] = picture.name
    return told
