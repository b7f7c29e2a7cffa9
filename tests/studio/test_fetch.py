"""Conversion of the published OBJ files; nothing is downloaded here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio import fetch
from vivant.studio.face_model import FaceModelMissing, face_model_path, load_face_model

STRIP = """mtllib x.mtl
v 0 0 0
v 1 0 0
v 2 0 0
v 0 1 0
v 1 1 0
v 2 1 0
vt 0 0
vt 1 0
vt 1 1
usemtl m
f 1/1 2/2 5/3 4/1
f 2/1 3/2 6/3
f 2 6 5
"""


def test_obj_is_read_and_triangulated() -> None:
    mesh = fetch.parse_obj(STRIP)
    assert mesh.vertices.shape == (6, 3)
    assert mesh.polygons.tolist() == [[0, 1, 4, 3], [1, 2, 5, -1], [1, 5, 4, -1]]
    assert mesh.polygon_uv[:2].tolist() == [[0, 1, 2, 0], [0, 1, 2, -1]]
    triangles, owner = fetch.triangulate(mesh.polygons)
    assert triangles.tolist() == [[0, 1, 4], [0, 4, 3], [1, 2, 5], [1, 5, 4]]
    assert owner.tolist() == [0, 0, 1, 2]


def test_large_polygons_are_refused() -> None:
    with pytest.raises(InputError, match="5 corners"):
        fetch.parse_obj("f 1 2 3 4 5\n")


def test_rings_count_steps_along_edges() -> None:
    polygons = fetch.parse_obj(STRIP).polygons
    # The diagonal of the quad is no edge, that of the triangles is one.
    assert fetch.rings_from(np.array([0]), polygons, 7).tolist() == [0, 1, 2, 1, 2, 2, 255]


def test_border_loops_of_a_ring_of_quads() -> None:
    inner, outer = np.arange(6), np.arange(6) + 6
    quads = np.stack([inner, np.roll(inner, -1), np.roll(outer, -1), outer], 1)
    loops = fetch.border_loops(np.concatenate([quads, [[12, 13, 14, -1]]]))
    assert [sorted(loop.tolist()) for loop in loops] == [[12, 13, 14], list(range(6)), list(range(6, 12))]


def test_changed_files_are_noticed() -> None:
    with pytest.raises(InputError, match="not the known one"):
        fetch.check({name: np.zeros(3) for name in fetch.face_points()["sha256"]})


def test_missing_model_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_FACE_MODEL", str(tmp_path))
    assert face_model_path() == tmp_path / "ict_face_light.npz"
    with pytest.raises(FaceModelMissing, match="vivant studio fetch"):
        load_face_model()


def obj_text(vertices: np.ndarray, uv: np.ndarray, polygons: np.ndarray, polygon_uv: np.ndarray) -> str:
    lines = [f"v {x:.15f} {y:.15f} {z:.15f}" for x, y, z in vertices.astype(float)]
    lines += [f"vt {u:.9g} {v:.9g}" for u, v in uv.astype(float)]
    for polygon, places in zip(polygons.tolist(), polygon_uv.tolist(), strict=True):
        lines.append(
            "f " + " ".join(f"{v + 1}/{t + 1}" for v, t in zip(polygon, places, strict=True) if v >= 0)
        )
    return "\n".join(lines)


def test_conversion_gives_the_known_arrays(face_model: object) -> None:
    with np.load(face_model_path()) as archive:
        if "poly" not in archive.files:
            pytest.skip("this face model was written by fetch itself and lacks the polygons")
        known = {name: archive[name] for name in archive.files}
    text = obj_text(known["neutral"], known["uv"], known["poly"], known["poly_uv"])
    neutral = fetch.parse_obj(text)
    identities = [neutral.vertices + mode for mode in known["identity"].astype(np.float64)]
    expressions = [neutral.vertices + mode for mode in known["expression"].astype(np.float64)]
    arrays = fetch.convert(neutral, identities, expressions)
    fetch.check(arrays)
    for name, array in arrays.items():
        wanted = known[name].reshape(array.shape)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, wanted, atol=3e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(array, wanted, err_msg=name)
