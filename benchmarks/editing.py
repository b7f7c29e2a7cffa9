"""The table of docs/editing.md: python benchmarks/editing.py PICTURE... (default: the astronaut).

Each control over its range: whether its own measure rises at every step and by how much, and the largest change of any
measure that belongs to another part of the face.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import vivant
from vivant.editing import Editor
from vivant.evaluation.edits import OWN, sweep

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"


def main(pictures: list[str]) -> None:
    engine = vivant.load("liveportrait-mini", device="cpu", dtype="float32")
    for picture in pictures or [str(ASTRONAUT)]:
        editor = Editor(engine, engine.prepare(picture))
        print(f"\n{Path(picture).name}\n\n| control | own measure | change | rises | elsewhere |")
        print("| --- | --- | --- | --- | --- |")
        for control, (measure, _) in OWN.items():
            found = sweep(editor, control)
            rises = f"{int((np.diff(found.own) > 0).sum())} of {len(found.values) - 1}"
            most, where = found.elsewhere
            print(f"| {control} | {measure} | {found.own_span:.2f} | {rises} | {most:.2f} ({where}) |")


if __name__ == "__main__":
    main(sys.argv[1:])
