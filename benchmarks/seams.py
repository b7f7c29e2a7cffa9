"""Do pasted faces show where they end? A group is animated; steps along borders are compared with the picture's.

    python benchmarks/seams.py                      # three mirrored copies of the astronaut, cheek by cheek
    python benchmarks/seams.py -s GROUP.jpg -d CLIP.mp4 -o FOLDER    # another group; pictures to look at

A step is the mean difference of two pixels on both sides of a line, relative to what the unpasted picture has there
(`evaluation.metrics.seam_ratio`). Lines: the border, and the same border moved in and out by its own width, where
nothing meets. 2 pixels apart a step is an edge, the width of the border apart it is a change of colour. The baseline is
what one would do first: each drawn square put over the picture, one after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

import vivant
from vivant.evaluation.metrics import seam_ratio
from vivant.face.paste import BORDER, Patch, owners, paste_faces
from vivant.media.image import read_image, save_image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FRAME_RATE = 2
EDGE_PX = 2


def group(picture: np.ndarray) -> np.ndarray:
    """Three heads beside each other; mirrored, so that the picture itself has no seam."""
    one = picture[:400, 110:340]
    return np.ascontiguousarray(np.concatenate([one, one[:, ::-1], one], axis=1))


def plain(picture: np.ndarray, patches: list[Patch]) -> tuple[np.ndarray, np.ndarray]:
    """Squares put over the picture, and which square each pixel is of."""
    result, owner = picture.copy(), np.zeros(picture.shape[:2], np.uint8)
    height, width = picture.shape[:2]
    for index, patch in enumerate(patches, 1):
        crop = patch.crop.resized(patch.generated.shape[0])
        whole = np.full(patch.generated.shape[:2], 255, np.uint8)
        inside = cv2.warpAffine(whole, crop.crop_to_image, (width, height)) > 127
        face = cv2.warpAffine(
            patch.generated, crop.crop_to_image, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        result[inside], owner[inside] = face[inside], index
    return result, owner


def lines(owner: np.ndarray, width_px: int) -> dict[str, np.ndarray]:
    """The border, and the same further in and further out."""
    kernel = np.ones((2 * width_px + 1,) * 2, np.uint8)
    inner, outer = np.zeros_like(owner), (owner > 0).astype(np.uint8)
    for index in range(1, int(owner.max()) + 1):
        inner[cv2.erode((owner == index).astype(np.uint8), kernel) > 0] = index
    return {"inside": inner, "border": owner, "outside": cv2.dilate(outer, kernel)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("-s", "--source", type=Path)
    arguments.add_argument("-d", "--driving", type=Path, default=EXAMPLES / "driving.mp4")
    arguments.add_argument("-o", "--output", type=Path, help="a folder for the last frame of each way")
    given = arguments.parse_args()
    picture = read_image(given.source) if given.source else group(read_image(EXAMPLES / "astronaut.png"))
    engine = vivant.load("liveportrait-mini", device="cpu", dtype="float32")
    people = engine.prepare_faces(picture)
    drawn = [
        list(vivant.animate(engine, who, given.driving, frame_rate=FRAME_RATE, paste_back=False))
        for who in people
    ]
    found: dict[tuple[str, str, int], list[float]] = {}
    for squares in zip(*drawn, strict=True):
        patches = [
            Patch(square, who.framing.crop, who.framing.others)
            for square, who in zip(squares, people, strict=True)
        ]
        width_px = round(2 * BORDER * float(np.mean([patch.crop.side_px for patch in patches])))
        ways = {
            "vivant": (paste_faces(picture, patches), owners(*picture.shape[:2], patches)),
            "plain squares": plain(picture, patches),
        }
        for way, (pasted, owner) in ways.items():
            for line, where in lines(owner, width_px).items():
                for apart in (EDGE_PX, width_px):
                    ratio = seam_ratio(pasted, picture, where, apart)
                    found.setdefault((way, line, apart), []).append(ratio)
    print(f"{len(people)} faces, {len(drawn[0])} frames, borders {width_px} px wide\n")
    print("| | apart | inside | border | outside | border over inside and outside | worst frame |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for way in ways:
        for apart in (EDGE_PX, width_px):
            rows = {line: np.array(found[way, line, apart]) for line in ("inside", "border", "outside")}
            excess = 2 * rows["border"] / (rows["inside"] + rows["outside"])
            values = " | ".join(f"{rows[line].mean():.2f}" for line in rows)
            print(f"| {way} | {apart} px | {values} | {excess.mean():.2f} | {excess.max():.2f} |")
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        for way, (pasted, _) in ways.items():
            save_image(given.output / f"{way.replace(' ', '_')}.png", pasted)


if __name__ == "__main__":
    main()
