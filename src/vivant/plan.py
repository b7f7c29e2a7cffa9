"""What a recording would cost: frames, time, memory and disk, from a short trial of the real thing on this machine.

The trial is the beginning of the job itself, with its engine, at its size, decoding, following, encoding and joining
as `record` does, into a folder that is thrown away. Length comes from what the files say.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from vivant.checked import SOUND_SUFFIXES, Checked, check
from vivant.errors import InputError
from vivant.media.audio import read_audio
from vivant.media.h264 import KEYFRAME_EVERY_FRAMES
from vivant.media.overlap import BackgroundWriter
from vivant.media.parts import Parts
from vivant.media.segments import frame_bytes
from vivant.media.writer import output_kind
from vivant.recording import Progress, animated, queue_capacity
from vivant.settings import Recording

if TYPE_CHECKING:
    from vivant.animation import Animation
    from vivant.engine import Engine
    from vivant.runtime.footprint import Footprint
    from vivant.runtime.offload import Memory

TRIAL_FRAMES = 60
"""More than the encoder looks ahead, so that its memory is filled."""
TRIAL_SECONDS = 60.0
"""The trial ends after this long, but not before it has timed a frame."""
WARM_UP_FRAMES = 5
INDEX_BYTES_PER_PACKET = 75
"""What a muxer remembers of each packet until an MP4 is finished; measured with 200 thousand and a million."""
SIGNATURE_BYTES = 4300
"""That content credentials add to a picture; measured on PNG with two inputs."""
SOUND_PACKETS_HZ = 47
"""AAC at 48 kHz."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `vivant animate` with the same settings would take."""

    num_frames: int
    width: int
    height: int
    frame_rate: str
    output_seconds: float
    """How long the output plays."""
    run_seconds: float
    """Wall time of the whole run."""
    start_seconds: float
    """Of that: loading, looking at the source, and the first frames."""
    seconds_per_frame: float
    memory_bytes: int | None
    """Peak of the process; None on systems that do not say."""
    gpu_memory_bytes: int | None
    """Peak on the card; None where nothing is computed on one."""
    output_bytes: int
    """Output and comparison."""
    disk_bytes: int
    """The most that is used at any time: parts, and what they are joined to."""
    disk_free_bytes: int
    trial_frames: int

    @property
    def fits(self) -> bool:
        """Whether the disk has room."""
        return self.disk_bytes < self.disk_free_bytes


@dataclass(frozen=True)
class _Trial:
    """What was measured."""

    num_frames: int
    start_seconds: float
    seconds_per_frame: float
    bytes_of: Callable[[int], int]
    """Of an output with that many frames."""
    mark_bytes: int
    width: int
    height: int


class _Watch:
    """When each frame of the trial was there."""

    def __init__(self, began: float, progress: Progress | None) -> None:
        self.began = began
        self.times: list[float] = []
        self._progress = progress

    def note(self) -> None:
        """The beginning, a frame, or the end."""
        self.times.append(perf_counter())
        if self._progress is not None:
            self._progress(min(len(self.times) - 1, TRIAL_FRAMES), TRIAL_FRAMES)

    @property
    def is_enough(self) -> bool:
        return len(self.times) > 2 and self.times[-1] - self.times[0] > TRIAL_SECONDS


def make_plan(
    recording: Recording,
    load_engine: Callable[[], Engine[Any, Any, Any, Any, Any]],
    make_options: Callable[[type], Any],
    progress: Progress | None = None,
) -> Plan:
    """Try the beginning and say what the whole would take. Raises what `record` would, as far as the trial sees it.

    progress: called with frames tried and frames to try.
    """
    checked = check(recording)
    began = perf_counter()
    engine = load_engine()
    checked = checked.at_rate_of(engine, recording)
    options = make_options(engine.options_type)
    with TemporaryDirectory(prefix="vivant-plan-") as folder:
        trial = _tried(_trial_of(recording, Path(folder)), checked, engine, options, _Watch(began, progress))
        num_frames = _num_frames(recording, checked, engine, options, trial)
    output_bytes = trial.bytes_of(num_frames) + _credential_bytes(recording, num_frames)
    # Segments, what they are joined to, and that with its credentials; pictures are moved.
    copies = 2 + recording.credentials if output_kind(recording.target) == "video" else 1
    index_bytes = round(num_frames * (1 + SOUND_PACKETS_HZ / checked.frame_rate) * INDEX_BYTES_PER_PACKET)
    # Bookmarks are set behind whole segments: two, while one takes the place of the other.
    is_marked = num_frames / checked.frame_rate >= recording.segment_seconds
    process = _process_bytes()
    return Plan(
        num_frames=num_frames,
        width=trial.width,
        height=trial.height,
        frame_rate=str(checked.frame_rate),
        output_seconds=float(num_frames / checked.frame_rate),
        run_seconds=trial.start_seconds + num_frames * trial.seconds_per_frame,
        start_seconds=trial.start_seconds,
        seconds_per_frame=trial.seconds_per_frame,
        memory_bytes=None if process is None else process + index_bytes,
        gpu_memory_bytes=_gpu_bytes(engine),
        output_bytes=output_bytes,
        disk_bytes=copies * output_bytes + (2 * trial.mark_bytes if is_marked else 0),
        disk_free_bytes=shutil.disk_usage(recording.whole.absolute().parent).free,
        trial_frames=trial.num_frames,
    )


def count_memory(
    preset: str, make_options: Callable[[type], Any], dtype: str = "bfloat16"
) -> dict[Memory, Footprint]:
    """What each `--memory` would take on a GPU, without one, without weights and without running anything.

    For a preset whose weights are not here, at the published size. Raises InputError for families that are small.
    """
    from importlib import import_module

    import torch

    from vivant import checkpoint, records
    from vivant.engines import engine_class, rehearsal
    from vivant.presets import PRESETS, find_checkpoint
    from vivant.runtime.footprint import count_modes
    from vivant.runtime.precision import choose_dtype

    known = PRESETS.get(preset)
    if known is not None and not (known.folder / checkpoint.WEIGHTS).is_file():
        family = known.family
        rehearse = rehearsal(family)
        config = import_module(f"vivant.engines.{family}.config").published()
    else:
        header = checkpoint.read_config(find_checkpoint(preset))
        family = header["family"]
        rehearse = rehearsal(family)
        config = records.from_data(engine_class(family).config_type, header["config"])
    engine = engine_class(family)
    options = make_options(engine.options_type)
    return count_modes(
        lambda: engine.build_networks(config),
        lambda networks: rehearse(networks, config, options),
        choose_dtype(dtype, torch.device("cuda")),
    )


def _credential_bytes(recording: Recording, num_frames: int) -> int:
    """Of pictures, which are signed one by one; a video's one signature is nothing beside it."""
    from vivant.marks import credentials

    suffix = recording.target.suffix.lower()
    is_signed = recording.credentials and credentials.is_available() and suffix in credentials.SIGNED_SUFFIXES
    return num_frames * SIGNATURE_BYTES if is_signed and output_kind(recording.target) != "video" else 0


def _trial_of(recording: Recording, folder: Path) -> Recording:
    """The same into another folder. Nothing is looked ahead for, so that each frame costs what it costs."""
    target = recording.target
    name = f"made/{target.name}" if recording.whole != target else f"made{target.suffix}"
    neutral = "0" if recording.reference_frame.strip().lower() == "auto" else recording.reference_frame
    return replace(
        recording,
        output=str(folder / name),
        reference_frame=neutral,
        credentials=False,
        resume=False,
        overwrite=False,
    )


def _tried(
    trial: Recording, checked: Checked, engine: Engine[Any, Any, Any, Any, Any], options: Any, watch: _Watch
) -> _Trial:
    from vivant.marks.job import JobMarks
    from vivant.outputs import Drawn, Outputs, Progressed, Shape

    marks = JobMarks(trial, {})
    parts = Parts.open(trial.whole)
    try:
        with animated(trial, checked, engine, options, None) as animation:
            height, width = animation.frame_size
            shape = Shape(width, height, checked.frame_rate)
            outputs = Outputs(trial, parts, shape, checked.shown(trial), checked.sound, Progressed())
            watch.note()
            mark_bytes = 0
            with BackgroundWriter(outputs, queue_capacity(height, width)) as background:
                for frame in islice(animation, TRIAL_FRAMES):
                    background.write(Drawn(marks.apply(frame)))
                    watch.note()
                    if watch.is_enough:
                        break
                mark_bytes = _mark_bytes(animation)
            watch.note()
        times, num_frames = watch.times, len(watch.times) - 2
        if num_frames < 1:
            raise InputError(f"{trial.driving} gives no frame; check that the input has frames.")
        warm = min(WARM_UP_FRAMES, num_frames - 1)
        seconds_per_frame = (times[-1] - times[warm]) / (num_frames - warm)
        return _Trial(
            num_frames=num_frames,
            start_seconds=max(0.0, times[warm] - watch.began - warm * seconds_per_frame),
            seconds_per_frame=seconds_per_frame,
            bytes_of=_sizes([parts.folder / move.part for move in outputs.moves], trial, num_frames, shape),
            mark_bytes=mark_bytes,
            width=outputs.main.width,
            height=outputs.main.height,
        )
    finally:
        parts.close(keep=False)


def _sizes(made: list[Path], trial: Recording, num_frames: int, shape: Any) -> Callable[[int], int]:
    """Bytes by number of frames. Whole pictures are counted apart: segments begin with them."""
    segment = max(1, math.ceil(shape.frame_rate * Fraction(trial.segment_seconds)))
    parts: list[tuple[float, float]] = []  # per whole picture beyond the others, per frame
    for path in made:
        if path.is_dir():
            parts.append((0.0, sum(file.stat().st_size for file in path.iterdir()) / num_frames))
            continue
        whole, other, num_whole = frame_bytes(path)
        rest = path.stat().st_size - num_whole * whole - (num_frames - num_whole) * other
        parts.append((max(0.0, whole - other), other + rest / num_frames))

    def of(count: int) -> int:
        num_whole = math.ceil(count / segment) * math.ceil(min(segment, count) / KEYFRAME_EVERY_FRAMES)
        return round(sum(num_whole * extra + count * each for extra, each in parts))

    return of


def _num_frames(
    recording: Recording,
    checked: Checked,
    engine: Engine[Any, Any, Any, Any, Any],
    options: Any,
    trial: _Trial,
) -> int:
    """From what the files say; speech is counted through."""
    spoken = [path for path in set(recording.inputs.values()) if path.suffix.lower() in SOUND_SUFFIXES]
    if engine.hears:
        spoken = [recording.driving]
    counts = [sum(1 for _ in read_audio(path, 16000, 1 / checked.frame_rate)) for path in spoken]
    with animated(recording, checked, engine, options, None) as animation:
        expected = animation.expected_frames(max(counts, default=None))
    if expected is None:
        raise InputError(f"{recording.driving} does not say how long it is; save it again as MP4 or WAV.")
    return max(expected, trial.num_frames)


def _mark_bytes(animation: Animation) -> int:
    after = islice(animation, TRIAL_FRAMES)  # some may be drawn ahead, and are to be shown first
    while (mark := animation.bookmark()) is None and next(after, None) is not None:
        pass
    return 0 if mark is None else sum(tensor.nbytes for tensor in mark.tensors.values())


def _process_bytes() -> int | None:
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _gpu_bytes(engine: Engine[Any, Any, Any, Any, Any]) -> int | None:
    if engine.device.type != "cuda":
        return None
    import torch

    return int(torch.cuda.max_memory_reserved(engine.device))
