"""A process of its own that opens one uploaded file and says what it is; the server never decodes uploads itself.

    python -m vivant.web.decode picture|clip SOURCE TARGET LIMITS

Memory, processor time and file size are limited before anything is read, so that a file which explodes takes only
this process with it. A picture is written again as plain PNG; of a clip one frame is decoded. The answer is one line
of JSON on standard output.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vivant.errors import InputError, VivantError

MEMORY_BYTES = 3_000_000_000
SOUND = ".wav"
PICTURES = ".clip"
"""Suffixes under which clips are kept; programs further on look at them, never at a name that a user gave."""


@dataclass(frozen=True)
class Limits:
    """What one file may take."""

    max_pixels: int
    max_seconds: float
    """Of a clip."""
    cpu_seconds: int = 30
    file_bytes: int = 500_000_000

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def restrict(most: Mapping[str, int]) -> None:
    """Limit this process for good, by the names of setrlimit without RLIMIT_, such as AS for bytes of memory.

    On systems that cannot (Windows), the parent's time limit remains.
    """
    try:
        import resource
    except ImportError:
        return
    for name, limit in most.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def picture(source: Path, target: Path, limits: Limits) -> dict[str, Any]:
    """The picture upright as PNG in `target`, and its size."""
    from PIL import ImageOps

    from vivant.media.image import opened_image, save_image, to_rgb

    with opened_image(source) as image:
        _check_pixels(image.width, image.height, limits)
        pixels = to_rgb(ImageOps.exif_transpose(image))
    save_image(target, pixels)
    return {"width": pixels.shape[1], "height": pixels.shape[0]}


def clip(source: Path, target: Path, limits: Limits) -> dict[str, Any]:
    """Size, rate, length and kind of a clip or sound; nothing is written."""
    from vivant.media.container import audio_stream, opened_media, video_stream
    from vivant.media.image import is_image_file
    from vivant.media.reader import read_clip

    if not is_image_file(source):
        with opened_media(source) as container:
            has_pictures = video_stream(container) is not None
            has_sound = audio_stream(container) is not None
            seconds = container.duration / 1_000_000 if container.duration else None
        if not has_pictures:
            if not has_sound:
                raise InputError(f"{source} has neither pictures nor sound that can be decoded")
            _check_seconds(seconds, limits)
            return {"kind": "sound", "suffix": SOUND, "seconds": seconds}
    opened = read_clip(source)
    _check_pixels(opened.width, opened.height, limits)
    length = float(opened.duration) if opened.duration is not None else None
    _check_seconds(length, limits)
    if not list(islice(opened, 1)):
        raise InputError(f"{source} has no frame that can be decoded")
    return {
        "kind": "clip",
        "suffix": PICTURES,
        "seconds": length,
        "width": opened.width,
        "height": opened.height,
        "frame_rate": float(opened.frame_rate),
        "has_sound": opened.has_audio,
    }


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise InputError(
            f"the file has {width}x{height} pixels, this server takes {limits.max_pixels / 1e6:.0f} million"
        )


def _check_seconds(seconds: float | None, limits: Limits) -> None:
    if seconds is not None and (not math.isfinite(seconds) or seconds > limits.max_seconds):
        raise InputError(f"the file lasts {seconds:.0f} s, this server takes {limits.max_seconds:.0f} s")


def main(arguments: list[str]) -> int:
    kind, source, target, limits_json = arguments
    limits = Limits(**json.loads(limits_json))
    restrict({"AS": MEMORY_BYTES, "CPU": limits.cpu_seconds, "FSIZE": limits.file_bytes, "CORE": 0})
    try:
        found = {"picture": picture, "clip": clip}[kind](Path(source), Path(target), limits)
    except VivantError as error:
        found = {"error": str(error).replace(source, "the file")}
    except MemoryError:
        found = {"error": "the file needs more memory than this server gives to one"}
    sys.stdout.write(json.dumps(found) + "\n")
    return 2 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
