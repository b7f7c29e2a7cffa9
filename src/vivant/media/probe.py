"""What kind of thing is this file? Answered by its content, never by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from PIL import Image

from vivant.errors import InputError
from vivant.media.container import audio_stream, opened_media, video_stream
from vivant.media.image import ANIMATED_FORMATS, is_image_file, opened_image
from vivant.media.inputs import check_input_file

MediaKind = Literal["image", "video", "audio", "sequence"]

_NUMBER_FIELD = re.compile(r"%0?\d*d")


def probe_kind(path: str | Path) -> MediaKind:
    """The kind of `path`.

    sequence: a folder, or a pattern such as `frames/*.png` or `frame_%05d.png`; image: one still picture;
    video: moving pictures, animated GIF, WebP, PNG and AVIF included; audio: sound without moving pictures,
    cover art or not. Raises InputError for anything else.
    """
    path = Path(path)
    if path.is_dir() or is_pattern(path):
        return "sequence"
    check_input_file(path)
    if is_image_file(path):
        with opened_image(path) as image:
            return "video" if is_animated(image) else "image"
    with opened_media(path) as container:
        if video_stream(container) is not None:
            return "video"
        if audio_stream(container) is not None:
            return "audio"
    raise InputError(
        f"{path} holds neither pictures nor sound that can be decoded; export it again as MP4 (H.264)."
    )


def is_pattern(path: Path) -> bool:
    """Whether `path` stands for several files. A file that really has such a name is a file."""
    return bool(_NUMBER_FIELD.search(path.name) or re.search(r"[*?\[]", path.name)) and not path.exists()


def number_field(path: Path) -> re.Match[str] | None:
    """The `%05d` in the name of a pattern, if it has one."""
    return _NUMBER_FIELD.search(path.name)


def is_animated(image: Image.Image) -> bool:
    """Whether the further frames of a picture mean movement."""
    return image.format in ANIMATED_FORMATS and getattr(image, "n_frames", 1) > 1
