"""Speed, latency and memory on this machine: the networks alone, and from files to a file.

Precisions take turns within one run, so that whatever else the machine does slows both alike and their ratio means
something even where the absolute numbers do not.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch
from torch import Tensor

from vivant.animation import animate
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.evaluation import protocol
from vivant.evaluation.reenact import resized
from vivant.evaluation.report import Report, Row, Table, describe_engine
from vivant.media.audio import read_audio
from vivant.media.overlap import BackgroundWriter
from vivant.media.reader import read_clip
from vivant.media.resample import tidy_rate
from vivant.media.writer import open_writer
from vivant.presets import load

WARM_UP_STEPS = 3
MIB = 2**20

_NOTES = (
    "Networks: seeing one driving frame and drawing one frame, portrait cached, crops already cut; median over all "
    "frames and rounds. p95 is the slower end.",
    "End to end: decode, find and follow the driver's face, networks, encode to H.264, all overlapping as in "
    "`vivant animate` without paste-back; frames over wall time from the call to the closed file, median over rounds.",
    "First frame: from the call of animate, portrait prepared, to the first finished frame. Prepare: from the picture "
    "to the portrait. Memory is the process's peak, both precisions loaded.",
)


@dataclass
class _Timed:
    """One precision's engine, portrait and measurements."""

    engine: Engine
    portrait: Portrait
    prepare_seconds: float
    chunks: list[Tensor]
    """Of driving: frames (T, 3, S, S), or samples (S,)."""
    frame_seconds: list[float] = field(default_factory=list)
    whole_fps: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)


def measure_speed(
    name_or_path: str | Path,
    portrait: str | Path,
    clip: str | Path,
    *,
    dtypes: Sequence[str] = ("bfloat16", "float32"),
    device: str = "auto",
    num_threads: int = 2,
    num_frames: int = 60,
    rounds: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Time a preset or checkpoint folder.

    Args:
        portrait, clip: paths of a picture with a face and of a driving clip; for a family that hears, one with sound.
        dtypes: precisions, the one that targets are about first, the one that it is compared with last.
        num_threads: of torch and OpenCV, restored afterwards.
        num_frames: per round and precision; fewer where the clip is shorter.
        rounds: how often the precisions take turns.
        progress: called with (rounds done, all), each round and precision counting once.
    """
    if not dtypes or rounds < 1 or num_frames < 1:
        raise InputError(f"give at least one dtype, round and frame, got {dtypes}, {rounds}, {num_frames}")
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with _threads(num_threads):
        timed = {name: _prepared(name_or_path, name, device, portrait, clip, num_frames) for name in dtypes}
        done = 0
        for _ in range(rounds):
            for one in timed.values():
                _networks(one)
                _end_to_end(one, Path(clip), num_frames)
                done += 1
                if progress is not None:
                    progress(done, rounds * len(timed))
    first = timed[dtypes[0]]
    height, width = first.engine.frame_size(first.portrait)
    settings: dict[str, str | float] = {
        "frame": f"{width}x{height}",
        "threads": num_threads,
        "cores": os.cpu_count() or 0,
        "frames": len(first.chunks) * first.engine.stream.chunk_frames,
        "rounds": rounds,
        "load average before": round(load_average, 1),
    }
    return _report(timed, settings)


def _prepared(
    name_or_path: str | Path, dtype: str, device: str, portrait: str | Path, clip: str | Path, num_frames: int
) -> _Timed:
    engine = load(name_or_path, device, dtype)
    begin = perf_counter()
    made = engine.prepare(portrait)
    _wait(engine)
    seconds = perf_counter() - begin
    chunk = engine.stream.chunk_frames
    length = chunk * engine.stream.samples_per_frame if engine.hears else chunk
    whole = (_heard if engine.hears else _seen)(engine, Path(clip), max(num_frames, chunk))
    chunks = [part.to(engine.device) for part in whole.split(length) if len(part) == length]
    if not chunks:
        raise InputError(f"{clip} is shorter than the {chunk} frames that {engine.family} takes at once")
    return _Timed(engine, made, seconds, chunks)


def _seen(engine: Engine, clip: Path, num_frames: int) -> Tensor:
    """(T, 3, S, S) of its beginning."""
    with read_clip(clip) as frames:
        return torch.cat([_square(frame.image, engine.crop_size_px) for frame in islice(frames, num_frames)])


def _heard(engine: Engine, clip: Path, num_frames: int) -> Tensor:
    """(S,) of its beginning."""
    stream = engine.stream
    assert stream.sample_rate_hz is not None
    assert stream.frame_rate_hz is not None
    num_samples = num_frames * stream.samples_per_frame
    (piece,) = islice(read_audio(clip, stream.sample_rate_hz, num_samples / stream.sample_rate_hz), 1)
    return torch.from_numpy(piece.samples)


def _networks(timed: _Timed) -> None:
    engine = timed.engine
    state = engine.start(timed.portrait)
    for index, chunk in enumerate([*timed.chunks[:WARM_UP_STEPS], *timed.chunks]):
        begin = perf_counter()
        engine.render(state, engine.encode_motion(state, chunk))
        _wait(engine)
        if index >= min(WARM_UP_STEPS, len(timed.chunks)):
            timed.frame_seconds.append((perf_counter() - begin) / engine.stream.chunk_frames)


def _end_to_end(timed: _Timed, clip: Path, num_frames: int) -> None:
    with tempfile.TemporaryDirectory(prefix="vivant-speed-") as folder:
        begin = perf_counter()
        with animate(timed.engine, timed.portrait, clip, paste_back=False) as animation:
            height, width = animation.frame_size
            own = timed.engine.stream.frame_rate_hz
            rate = animation.frame_rate or (Fraction(own) if own else tidy_rate(read_clip(clip).frame_rate))
            count = 0
            with BackgroundWriter(open_writer(Path(folder) / "out.mp4", rate, width, height)) as writer:
                for frame in islice(animation, num_frames):
                    if count == 0:
                        timed.first_seconds.append(perf_counter() - begin)
                    writer.write(frame)
                    count += 1
        timed.whole_fps.append(count / (perf_counter() - begin))


def _report(timed: dict[str, _Timed], settings: dict[str, str | float]) -> Report:
    first, last = next(iter(timed)), next(reversed(timed))
    numbers = _numbers(timed[first], timed[last] if len(timed) > 1 else None)
    subject = describe_engine(timed[first].engine) | {"precision": " / ".join(timed)}
    ratios = Table(
        title=f"{first} over {last}",
        columns=("", "ratio"),
        rows=(("networks", numbers["networks_fps_ratio"]), ("end to end", numbers["end_to_end_fps_ratio"])),
    )
    return Report(
        protocol=protocol.SPEED,
        title="Speed on this machine",
        subject=subject,
        settings=settings,
        numbers=numbers,
        tables=(_table(timed), ratios) if len(timed) > 1 else (_table(timed),),
        targets=protocol.SPEED_TARGETS,
        notes=(*_NOTES, f"Peak memory: {numbers['peak_memory_mib']:.0f} MiB."),
    )


def _numbers(first: _Timed, last: _Timed | None) -> dict[str, float]:
    whole = float(np.median(first.whole_fps))
    nan = float("nan")
    return {
        "networks_fps": _networks_fps(first),
        "networks_fps_ratio": _networks_fps(first) / _networks_fps(last) if last else nan,
        "end_to_end_fps": whole,
        "end_to_end_fps_ratio": whole / float(np.median(last.whole_fps)) if last else nan,
        "first_frame_ms": 1000 * float(np.median(first.first_seconds)),
        "peak_memory_mib": _peak_memory(first.engine),
    }


def _table(timed: dict[str, _Timed]) -> Table:
    rows: list[Row] = [
        (
            name,
            _networks_fps(one),
            1000 * float(np.median(one.frame_seconds)),
            1000 * float(np.percentile(one.frame_seconds, 95)),
            float(np.median(one.whole_fps)),
            1000 * float(np.median(one.first_seconds)),
            1000 * one.prepare_seconds,
        )
        for name, one in timed.items()
    ]
    columns = ("", "networks fps", "ms per frame", "p95 ms", "end-to-end fps", "first frame ms", "prepare ms")
    return Table(title="Frames per second and milliseconds", columns=columns, rows=tuple(rows))


def _networks_fps(timed: _Timed) -> float:
    return 1 / float(np.median(timed.frame_seconds))


def _square(image: np.ndarray, size_px: int) -> Tensor:
    """(1, 3, S, S): the middle of a picture; what is on it does not matter for time."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.ascontiguousarray(image[top : top + side, left : left + side])
    return resized(torch.from_numpy(middle).permute(2, 0, 1)[None].float() / 255, size_px)


def _wait(engine: Engine) -> None:
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)


def _peak_memory(engine: Engine) -> float:
    """MiB: of the card where the engine is on one, else of the process; nan on systems that do not say."""
    if engine.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(engine.device)) / MIB
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """That many threads for torch and OpenCV."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
