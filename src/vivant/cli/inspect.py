"""`vivant inspect`: which faces a picture or the first frames of a clip show, with the numbers that --face takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from vivant.face.framing import FoundFace

FRAMES_LOOKED_AT = 50
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def inspect(
    file: Annotated[Path, typer.Argument(help="Picture or clip.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Picture to write with the faces numbered, .png or .jpg."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a picture that exists.")] = False,
) -> None:
    """Number the faces of a picture, or of the first frame of a clip that shows one."""
    from vivant.errors import InputError
    from vivant.face.choose import MIN_FACE_PX
    from vivant.media.staging import StagedFile, check_target_file, output_errors

    if out is not None:
        if out.suffix.lower() not in PICTURES:
            raise InputError(f"{out} is not a picture's name; use .png or .jpg.")
        check_target_file(out, overwrite)
    where, image, faces = _look(file)
    typer.echo(f"{file}: {len(faces)} face{'' if len(faces) == 1 else 's'} in {where}")
    for number, face in enumerate(faces):
        x, y = face.detection.centre
        side = face.detection.side_px
        note = "" if side >= MIN_FACE_PX else f"  too small, at least {MIN_FACE_PX} px needed"
        typer.echo(
            f"  {number}: at {x:.0f},{y:.0f}, {side:.0f} px, score {face.detection.score:.2f}"
            f" (--face {number} or --face {x:.0f},{y:.0f}){note}"
        )
    if out is not None:
        from PIL import Image

        staged = StagedFile(out, overwrite=overwrite)
        with output_errors(out):
            Image.fromarray(_drawn(image, faces)).save(staged.temporary, _format(out))
        staged.commit()
        typer.echo(out)


def _format(path: Path) -> str:
    return {"jpg": "JPEG", "tif": "TIFF"}.get(path.suffix.lower()[1:], path.suffix[1:].upper())


def _look(file: Path) -> tuple[str, np.ndarray, list[FoundFace]]:
    """Where the faces are ("the picture", "frame 3"), that picture, its faces."""
    from itertools import islice

    from vivant.errors import FaceError
    from vivant.face.framing import list_faces
    from vivant.media.image import read_image
    from vivant.media.reader import read_clip

    if file.suffix.lower() in PICTURES:
        image = read_image(file)
        return "the picture", image, list_faces(image)
    with read_clip(file) as clip:
        for index, frame in enumerate(islice(clip, FRAMES_LOOKED_AT)):
            faces = list_faces(frame.image)
            if faces:
                return f"frame {index}", frame.image, faces
    raise FaceError(f"{file} shows no face in its first {FRAMES_LOOKED_AT} frames; choose another clip.")


def _drawn(image: np.ndarray, faces: list[FoundFace]) -> np.ndarray:
    """A copy with a square and a number on each face."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for number, face in enumerate(faces):
        (x, y), side = face.detection.centre, face.detection.side_px
        width = max(2, round(side / 40))
        box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        draw.rectangle(box, outline=(255, 220, 0), width=width)
        font = ImageFont.load_default(max(12.0, side / 4))
        draw.text(
            (box[0] + 2 * width, box[1] + width),
            str(number),
            (255, 220, 0),
            font,
            stroke_width=width,
            stroke_fill=(0, 0, 0),
        )
    return np.asarray(picture)
