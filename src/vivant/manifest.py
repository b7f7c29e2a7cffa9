"""How an output was made, as JSON: hashes of inputs and weights, settings, versions, timing. Names no folder."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import vivant
from vivant import records
from vivant.animation import AnimationReport
from vivant.checkpoint import read_config
from vivant.engine import Engine, StreamSpec
from vivant.face.missing import MissingSpan
from vivant.media.hashing import file_sha256
from vivant.media.probe import is_pattern
from vivant.media.sequence import sequence_files
from vivant.presets import PRESETS, find_checkpoint
from vivant.session import Timing

PACKAGES = ("torch", "numpy", "safetensors", "av", "opencv-python-headless", "pillow")
FORMAT = 1


def describe(
    inputs: Mapping[str, Path], preset: str | Path, engine: Engine[Any, Any, Any, Any, Any], options: Any
) -> dict[str, Any]:
    """What is known before the first frame."""
    return {
        "format": FORMAT,
        "inputs": {role: _describe_input(path) for role, path in inputs.items()},
        "weights": _describe_weights(preset, engine),
        "options": records.to_data(options),
        "versions": _versions(),
    }


def describe_run(report: AnimationReport, seconds: float) -> dict[str, Any]:
    """What came of it: frames, where no face was seen, and how long each part took."""
    return {
        "num_frames": report.num_frames,
        "num_frames_without_face": report.num_without_face,
        "frames_without_face": _spans(report.without_face),
        "source_frames_without_face": _spans(report.without_source_face),
        "timing": {
            "total_seconds": round(seconds, 3),
            "engine_seconds": round(report.engine.seconds, 3),
            "face_seconds": round(report.face_seconds, 3),
            "paste_seconds": round(report.paste_seconds, 3),
            "frames_per_second": round(report.num_frames / seconds, 3),
        },
    }


def describe_latency(stream: StreamSpec, frame_rate_hz: float, timing: Timing) -> dict[str, Any]:
    """How late the answer to a frame would be, were the driver live at this rate and on this machine."""
    step = timing.seconds_per_frame * stream.chunk_frames
    seconds = stream.latency_seconds(frame_rate_hz, step) if timing.frames_out else None
    return {"frames": stream.latency_frames, "live_seconds": seconds and round(seconds, 3)}


def _spans(spans: Sequence[MissingSpan]) -> list[dict[str, Any]]:
    return [
        {
            "first_frame": span.first_frame,
            "last_frame": span.last_frame,
            "start_seconds": float(span.start),
            "end_seconds": float(span.end),
        }
        for span in spans
    ]


def _describe_weights(name_or_path: str | Path, engine: Engine[Any, Any, Any, Any, Any]) -> dict[str, Any]:
    preset = PRESETS.get(str(name_or_path))
    return {
        "preset": preset.name if preset is not None else Path(name_or_path).name,
        "licence": preset.licence if preset is not None else None,
        "family": engine.family,
        "weights_sha256": read_config(find_checkpoint(name_or_path))["weights_sha256"],
        "device": str(engine.device),
        "dtype": str(engine.dtype).removeprefix("torch."),
    }


def _describe_input(path: Path) -> dict[str, Any]:
    """Name and hash of a file; of a picture sequence the number of files and the hash of their hashes."""
    if not path.is_dir() and not is_pattern(path):
        return {"name": path.name, "sha256": file_sha256(path)}
    files = sequence_files(path)
    whole = hashlib.sha256("".join(file_sha256(file) for file in files).encode())
    return {"name": path.name, "num_files": len(files), "sha256": whole.hexdigest()}


def _versions() -> dict[str, str]:
    found = {"vivant": vivant.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"platform": f"{platform.system()} {platform.machine()}"}
