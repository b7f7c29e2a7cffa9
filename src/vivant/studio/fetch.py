"""Fetching the face model: download the published OBJ files, convert them and check the result.

The model is never part of this repository. `fetch_face_model` has not been run against the live repository (the
workshop had no network); the conversion is tested against the converted file and on a small made-up OBJ.
face_points.json holds what the OBJ files do not: landmark and contour indices and the fingerprints checked here.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.errors import InputError
from vivant.studio.face_model import face_model_path

Array = NDArray[Any]

COMMIT = "da5f95a607f5e6b37755b38d3385d7f2853732e5"
BASE_URL = f"https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/{COMMIT}/"
NEUTRAL_FILE = "generic_neutral_mesh.obj"
RMS_TOLERANCE = 2e-3
"""Largest relative difference between an offset's size and the known one."""
_FACE_PART, _MAX_RING, _SCLERA_PARTS = 0, 254, (8, 10)

LICENCE = """The ICT Face Model Light is published under the MIT licence:

Copyright (c) 2020 USC Institute for Creative Technologies

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS
IN THE SOFTWARE.
"""


@dataclass(frozen=True, eq=False)
class ObjMesh:
    """What an OBJ file says."""

    vertices: Array
    """[V, 3]."""
    uv: Array
    """[U, 2]."""
    polygons: Array
    """[P, 4] vertices from 0, -1 as fourth of a triangle."""
    polygon_uv: Array


@lru_cache(maxsize=1)
def face_points() -> dict[str, Any]:
    """Indices and fingerprints of the face model."""
    text = resources.files("vivant.studio").joinpath("face_points.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def parse_obj(text: str) -> ObjMesh:
    """Read vertices, texture places and faces of three or four corners."""
    vertices, uv, polygons, polygon_uv = [], [], [], []
    for number, line in enumerate(text.splitlines(), 1):
        kind, _, rest = line.partition(" ")
        words = rest.split()
        if kind == "v":
            vertices.append([float(word) for word in words[:3]])
        elif kind == "vt":
            uv.append([float(word) for word in words[:2]])
        elif kind == "f":
            corners = [word.split("/") for word in words]
            if len(corners) not in (3, 4):
                raise InputError(f"OBJ line {number} has {len(corners)} corners; only 3 or 4 are understood.")
            missing = [-1] * (4 - len(corners))
            polygons.append([int(corner[0]) - 1 for corner in corners] + missing)
            has_uv = all(len(corner) > 1 and corner[1] for corner in corners)
            polygon_uv.append([int(corner[1]) - 1 if has_uv else 0 for corner in corners] + missing)
    return ObjMesh(
        np.array(vertices, np.float64).reshape(-1, 3),
        np.array(uv, np.float32).reshape(-1, 2),
        np.array(polygons, np.int32).reshape(-1, 4),
        np.array(polygon_uv, np.int32).reshape(-1, 4),
    )


def triangulate(polygons: Array) -> tuple[Array, Array]:
    """Triangles [T, 3] of polygons [P, 4] (fan from the first corner) and the polygon of each [T]."""
    fans = np.stack([polygons[:, [0, 1, 2]], polygons[:, [0, 2, 3]]], 1)
    kept = np.stack([np.ones(len(polygons), bool), polygons[:, 3] >= 0], 1)
    owner = np.repeat(np.arange(len(polygons))[:, None], 2, 1)
    return fans[kept], owner[kept]


def _edges(polygons: Array) -> Array:
    """Undirected edges [E, 2] of polygons, with repetition."""
    is_quad = polygons[:, 3] >= 0
    pairs = [polygons[:, [0, 1]], polygons[:, [1, 2]]]
    pairs += [polygons[is_quad][:, [2, 3]], polygons[is_quad][:, [3, 0]], polygons[~is_quad][:, [2, 0]]]
    return np.sort(np.concatenate(pairs), 1)


def rings_from(start: Array, polygons: Array, num_vertices: int) -> Array:
    """Steps along polygon edges from the start vertices, u8 [V]; 255 where there is no way."""
    edges = np.unique(_edges(polygons), axis=0)
    ring = np.full(num_vertices, 255, np.uint8)
    ring[start] = 0
    for step in range(1, _MAX_RING + 1):
        reached = ring[edges] == step - 1
        fresh = np.concatenate([edges[reached[:, 0], 1], edges[reached[:, 1], 0]])
        fresh = fresh[ring[fresh] == 255]
        if len(fresh) == 0:
            break
        ring[fresh] = step
    return ring


def border_loops(polygons: Array) -> list[Array]:
    """Connected sets of vertices on the open borders of a mesh, by size."""
    edges, counts = np.unique(_edges(polygons), axis=0, return_counts=True)
    border = edges[counts == 1]
    label = {int(v): int(v) for v in np.unique(border)}

    def root(vertex: int) -> int:
        while label[vertex] != vertex:
            vertex = label[vertex]
        return vertex

    for a, b in border.tolist():
        label[root(a)] = root(b)
    loops: dict[int, list[int]] = {}
    for vertex in label:
        loops.setdefault(root(vertex), []).append(vertex)
    return sorted((np.array(loop) for loop in loops.values()), key=len)


def convert(neutral: ObjMesh, identities: Sequence[Array], expressions: Sequence[Array]) -> dict[str, Array]:
    """Arrays of the face-model file from the neutral mesh and the vertices [V, 3] of every other OBJ file."""
    points = face_points()
    count = len(neutral.vertices)
    triangles, owner = triangulate(neutral.polygons)
    triangle_uv, _ = triangulate(neutral.polygon_uv)
    starts = np.array(points["part_first_polygon"])
    polygon_part = np.searchsorted(starts, np.arange(len(neutral.polygons)), side="right") - 1
    vertex_part = np.zeros(count, np.uint8)
    for part in reversed(range(len(starts) - 1)):  # at seams the first part owns the vertices
        vertex_part[triangles[polygon_part[owner] == part]] = part
    skin = neutral.polygons[polygon_part == _FACE_PART]
    *eyes, mouth, _neck = border_loops(skin)
    identity = np.stack([offset - neutral.vertices for offset in identities])
    sclera = [vertex_part == part for part in _SCLERA_PARTS]
    return {
        "neutral": neutral.vertices.astype(np.float32),
        "identity": identity.astype(np.float16),
        "expression": np.stack([shape - neutral.vertices for shape in expressions]).astype(np.float32),
        "expression_names": np.array(points["expression_names"]),
        "uv": neutral.uv,
        "tri": triangles.astype(np.int32),
        "tri_uv": triangle_uv.astype(np.int32),
        "tri_part": polygon_part[owner].astype(np.uint8),
        "vertex_part": vertex_part,
        "mouth_ring": rings_from(mouth, skin, count),
        "eye_ring": rings_from(np.concatenate(eyes), skin, count),
        "eye_centre": np.array(points["eye_centre"], np.float32),
        "eye_centre_identity": np.stack([identity[:, part].mean(1) for part in sclera], 1).astype(np.float32),
        **{name: np.array(points[name], np.int32)
           for name in ("lmk68", "eyelid_L", "eyelid_R", "lip_outer", "pupil_vertex")},
    }  # fmt: skip


def check(arrays: dict[str, Array]) -> None:
    """Compare with the known fingerprints; raises InputError when the published files are not the known ones."""
    points = face_points()
    for name, known in points["sha256"].items():
        if hashlib.sha256(np.ascontiguousarray(arrays[name]).tobytes()).hexdigest() != known:
            raise InputError(f"The array {name} of the face model is not the known one. Fetch again; if it "
                             "stays so, the published files have changed.")  # fmt: skip
    for name, known in points["rms_cm"].items():
        rms = np.sqrt((arrays[name].astype(np.float64) ** 2).mean((1, 2)))
        if len(rms) != len(known) or not np.allclose(rms, known, rtol=RMS_TOLERANCE, atol=1e-6):
            raise InputError(f"The {name} shapes of the face model are not the known ones. Fetch again.")


def _download(name: str, folder: Path) -> str:
    """Text of a published file; kept in the folder so that an interrupted fetch goes on where it stopped."""
    path = folder / name
    if not path.is_file():
        url = f"{BASE_URL}FaceXModel/{name}"
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                data = response.read()
        except (
            OSError,
            http.client.HTTPException,
        ) as error:  # among them URLError, and what ends amid a file
            raise InputError(f"{url} cannot be read ({error}). Check the network and fetch again.") from error
        temporary = path.with_suffix(".part")
        temporary.write_bytes(data)
        temporary.replace(path)
    return path.read_text("utf-8")


def fetch_face_model(path: Path | None = None, progress: Callable[[int, int], None] | None = None) -> Path:
    """Download, convert and check the face model (about 500 MB of OBJ text); returns where it lies.

    path is the file to write, by default where `load_face_model` looks. Show LICENCE to the user first.
    progress is called with (downloaded, all) files.
    """
    path = path or face_model_path()
    cache = path.parent / "obj"
    cache.mkdir(parents=True, exist_ok=True)
    points = face_points()
    identities = [f"identity{i:03d}.obj" for i in range(points["num_identity_modes"])]
    expressions = [f"{name}.obj" for name in points["expression_names"]]
    files = [NEUTRAL_FILE, *identities, *expressions]
    vertices = []
    neutral: ObjMesh | None = None
    for number, name in enumerate(files, 1):
        mesh = parse_obj(_download(name, cache))
        neutral = neutral or mesh
        vertices.append(mesh.vertices)
        if progress:
            progress(number, len(files))
    assert neutral is not None
    arrays = convert(neutral, vertices[1 : 1 + len(identities)], vertices[1 + len(identities) :])
    check(arrays)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    temporary.replace(path)
    (path.parent / "LICENSE-ICT-FaceKit.txt").write_text(LICENCE, "utf-8")
    return path
