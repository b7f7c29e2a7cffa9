"""Contact sheets: many synthetic people on one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.errors import InputError
from vivant.media.staging import make_folder
from vivant.studio.background import compose, sample_background
from vivant.studio.dataset import list_sessions, read_session, render_session
from vivant.studio.face_model import load_face_model
from vivant.studio.identity import make_person

Array = NDArray[Any]
PICTURES = (".png", ".jpg", ".jpeg")


def tile(images: Sequence[Array], columns: int) -> Array:
    """Pictures of one size [S, S, 3] in rows of `columns`."""
    blank = np.full_like(images[0], 255)
    padded = [*images, *([blank] * (-len(images) % columns))]
    rows = [np.concatenate(padded[i : i + columns], 1) for i in range(0, len(padded), columns)]
    return np.concatenate(rows, 0)


def write_picture(path: Path, image: Array, quality: int = 85) -> None:
    """Write RGB u8 as PNG or JPEG."""
    check_picture_name(path)
    make_folder(path.parent)
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise InputError(f"The picture {path} cannot be written. Choose another folder.")


def check_picture_name(path: Path) -> None:
    """Raise InputError for pictures that cannot be written under that name."""
    if path.suffix.lower() not in PICTURES:
        raise InputError(f"The picture {path} cannot be written. Use a name ending in .png or .jpg.")


def contact_sheet(
    out: Path,
    identities: Sequence[int],
    frames: int = 4,
    look: int = 0,
    size: int = 192,
    seed: int = 0,
    quality: int = 85,
) -> None:
    """Render a few frames of each identity, one row per identity, into the picture `out`."""
    check_picture_name(out)
    model = load_face_model()
    images = []
    for identity in identities:
        session = render_session(model, make_person(model, identity, seed), look, frames, size, seed)
        background = sample_background(size, np.random.default_rng([seed, identity, look, 13]))
        images += [compose(rgba, background) for rgba in session.rgba]
    write_picture(out, tile(images, frames), quality)


def dataset_sheet(
    out: Path, folder: Path, frame: int = 0, columns: int = 10, size: int = 144, limit: int = 100
) -> None:
    """One frame of each session of a rendered dataset, evenly picked."""
    paths = list_sessions(folder)
    if not paths:
        raise InputError(f"There are no sessions in {folder}. Render some with `vivant studio render`.")
    picked = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).astype(int))]
    images = []
    for number, path in enumerate(picked):
        rgba = read_session(path).rgba[frame]
        image = compose(rgba, sample_background(rgba.shape[0], np.random.default_rng(number)))
        images.append(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
    write_picture(out, tile(images, columns))
