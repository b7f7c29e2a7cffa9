"""The table and the sheet of docs/editing.md: python benchmarks/editing.py [PICTURE...] [--sheet SHEET.jpg]

Each control over its range (of the astronaut, if no picture is named): whether its own measure rises at every step and
by how much, and the largest change of any measure that belongs to another part of the face. The sheet shows every
control on the first picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import vivant
from vivant.controls import Controls
from vivant.editing import Editor
from vivant.evaluation.edits import OWN, sweep

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"
SHEET = {
    **dict.fromkeys(("yaw", "pitch", "roll"), (-5.0, 2.5, 5.0)),
    **dict.fromkeys(("blink", "gaze_x", "gaze_y", "brows", "smile", "aa", "ee", "oo"), (-1.0, 0.5, 1.0)),
    **dict.fromkeys(("lip_open", "grimace", "pout", "purse", "mouth_x"), (-1.0, 0.5, 1.0)),
    **dict.fromkeys(("wink_left", "calm"), (0.25, 0.5, 1.0)),
}
COLUMNS, TILE_PX = 9, 120
FACE = (0.14, 0.1, 0.86, 0.82)
"""What is shown of the face's square: left, top, right, bottom."""


def tiles(editor: Editor) -> list[Image.Image]:
    """Every control of SHEET at its values, named."""
    framing = editor.portrait.framing
    assert framing is not None
    made = []
    for name, values in SHEET.items():
        for value in values:
            square = framing.crop.resized(512).apply(editor.apply(Controls(**{name: value})))
            box = tuple(round(512 * side) for side in FACE)
            tile = Image.fromarray(square).crop(box).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
            text = f"{name} {value:g}"
            font = ImageFont.load_default(11)
            ImageDraw.Draw(tile).text((3, 1), text, "white", font, stroke_width=2, stroke_fill="black")
            made.append(tile)
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("pictures", nargs="*", type=Path, default=[ASTRONAUT])
    arguments.add_argument("--sheet", type=Path)
    given = arguments.parse_args()
    engine = vivant.load("liveportrait-mini", device="cpu", dtype="float32")
    for picture in given.pictures:
        editor = Editor(engine, engine.prepare(picture))
        if given.sheet is not None and picture == given.pictures[0]:
            made = tiles(editor)
            sheet = Image.new("RGB", (COLUMNS * TILE_PX, -(-len(made) // COLUMNS) * TILE_PX))
            for index, tile in enumerate(made):
                sheet.paste(tile, (index % COLUMNS * TILE_PX, index // COLUMNS * TILE_PX))
            sheet.save(given.sheet, quality=88)
        print(f"\n{picture.name}\n\n| control | own measure | change | rises | elsewhere |")
        print("| --- | --- | --- | --- | --- |")
        for control, (measure, _) in OWN.items():
            found = sweep(editor, control)
            rises = f"{int((np.diff(found.own) > 0).sum())} of {len(found.values) - 1}"
            most, where = found.elsewhere
            print(
                f"| {control} | {measure} | {found.own_span:.2f} | {rises} | {most:.2f} ({where}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
