"""Training sessions on disk: one safetensors file per person and look, written in parallel.

Image axes: origin at the top left, x right, y down, pixel centres at .5. Colour is premultiplied by coverage and
tone mapped; backgrounds are composed at training time. Legend: N frames, S image size, V' vertices, F triangles,
K keypoints, E expression shapes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from vivant.errors import InputError
from vivant.media.staging import make_folder, output_errors
from vivant.studio.face_model import KEYPOINT_NAMES, FaceModel, load_face_model
from vivant.studio.facts import packed, unpacked
from vivant.studio.identity import Person, make_look, make_person
from vivant.studio.motion import session_motions
from vivant.studio.parts import PART_NAMES
from vivant.studio.renderer import Frame, Renderer
from vivant.studio.together import each

Array = NDArray[Any]

GENERATOR_VERSION = "5"
POSITION_SCALE = 32
"""vertex_xy holds pixels times this."""
MOST_PX = 896
"""Of a picture: beyond 1023 pixels nothing can be said, and shoulders reach beyond pictures."""
MM_PER_CM = 10.0


@dataclass(frozen=True)
class SessionInfo:
    """Metadata of a session."""

    identity: int
    look: int
    seed: int
    size: int
    keypoint_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    part_names: tuple[str, ...]
    generator: str
    depth_offset_mm: float
    """vertex_depth plus this is the distance along the camera axis in mm."""
    focal_px: float


@dataclass(frozen=True, eq=False)
class Session:
    """Frames of one person in one look with ground truth."""

    info: SessionInfo
    rgba: Array
    """u8 [N, S, S, 4] colour premultiplied by coverage, and coverage."""
    triangle_id: Array
    """i32 [N, S/2, S/2] visible triangle at pixel (2i+1, 2j+1), -1 background."""
    triangles: Array
    """i32 [F, 3]."""
    triangle_part: Array
    """u8 [F], see parts.Part."""
    vertex_xy: Array
    """i16 [N, V', 2] pixels times POSITION_SCALE."""
    vertex_depth: Array
    """i16 [N, V'] distance along the camera axis, mm, less info.depth_offset_mm."""
    rotation: Array
    """f32 [N, 3, 3] head to camera, column vectors; camera x right, y up, z towards the camera."""
    projection: Array
    """f32 [N, 3] (s, tx, ty); see camera.project_keypoints."""
    camera_distance: Array
    """f32 [N] 10 cm."""
    canonical: Array
    """f32 [K, 3] 10 cm, head frame, neutral face of this person."""
    delta: Array
    """f32 [N, K, 3] 10 cm, head frame."""
    keypoint_xy: Array
    """f32 [N, K, 2] pixels."""
    keypoint_visible: Array
    """u8 [N, K]."""
    expression: Array
    """f32 [N, E]."""
    gaze: Array
    """f32 [N, 2] yaw, pitch, degrees against the head."""
    angles: Array
    """f32 [N, 3] head yaw, pitch, roll, degrees."""


_ARRAYS = tuple(f.name for f in fields(Session) if f.name != "info")


def session_path(folder: Path, identity: int, look: int) -> Path:
    """Where a session lies in a dataset folder."""
    return folder / f"{identity:04d}_{look}.safetensors"


def write_session(path: Path, session: Session) -> None:
    """Write to a temporary name first, so that a reader never meets half a file."""
    arrays = {name: np.ascontiguousarray(getattr(session, name)) for name in _ARRAYS}
    make_folder(path.parent)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with output_errors(path):
        save_file(arrays, temporary, packed(vars(session.info)))
        temporary.replace(path)


def read_session(path: Path) -> Session:
    """Read a session written by `write_session`."""
    if not path.is_file():
        raise InputError(f"There is no session {path}. Render some with `vivant studio render`.")
    with safe_open(path, framework="numpy") as file:
        metadata = unpacked(file.metadata())
        arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    for name in ("keypoint_names", "expression_names", "part_names"):
        metadata[name] = tuple(metadata[name])
    return Session(SessionInfo(**metadata), **arrays)


def part_mask(session: Session, frame: int) -> Array:
    """Part of the person at every second pixel, u8 [S/2, S/2] (see parts.Part); 255 is background."""
    triangle = session.triangle_id[frame]
    return np.where(triangle >= 0, session.triangle_part[triangle], 255).astype(np.uint8)


def list_sessions(folder: Path) -> list[Path]:
    """All finished sessions of a dataset folder, by identity and look."""
    return sorted(folder.glob("[0-9]*_[0-9]*.safetensors"))


def _fixed(values: Array) -> Array:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


def check_size(size: int) -> None:
    """Raise InputError for pictures that a session cannot hold."""
    if size % 4 or not 32 <= size <= MOST_PX:
        raise InputError(f"The size {size} does not work. Choose a multiple of 4 from 32 to {MOST_PX}.")


def make_session(renderer: Renderer, frames: Sequence[Frame], seed: int) -> Session:
    """Pack rendered frames."""
    look, model = renderer.look, renderer.model
    vertices = np.stack([frame.vertices for frame in frames])
    depth_mm = vertices[..., 2] * MM_PER_CM
    offset = float(np.rint(np.median(depth_mm)))
    info = SessionInfo(
        look.person.number,
        look.number,
        seed,
        look.camera.size_px,
        KEYPOINT_NAMES,
        model.expression_names,
        PART_NAMES,
        GENERATOR_VERSION,
        offset,
        look.camera.focal_px,
    )

    def stacked(name: str, dtype: type) -> Array:
        return np.stack([getattr(frame, name) for frame in frames]).astype(dtype)

    floats = (
        "rotation",
        "projection",
        "camera_distance",
        "delta",
        "keypoint_xy",
        "expression",
        "gaze",
        "angles",
    )
    return Session(
        info=info,
        rgba=stacked("rgba", np.uint8),
        triangle_id=stacked("triangle_id", np.int32),
        triangles=renderer.scene.triangles,
        triangle_part=renderer.scene.triangle_part,
        vertex_xy=_fixed(vertices[..., :2] * POSITION_SCALE),
        vertex_depth=_fixed(depth_mm - offset),
        canonical=renderer.canonical,
        keypoint_visible=stacked("keypoint_visible", np.uint8),
        **{name: stacked(name, np.float32) for name in floats},
    )


def render_session(
    model: FaceModel, person: Person, look: int, num_frames: int, size_px: int, seed: int
) -> Session:
    """Render one session of a person."""
    renderer = Renderer(model, make_look(model, person, look, size_px, seed))
    rng = np.random.default_rng([seed, person.number, look, 7])
    motions = session_motions(model.expression_names, num_frames, rng)
    return make_session(renderer, [renderer.render(motion) for motion in motions], seed)


def _render_identity(
    identity: int, out: Path, looks: int, num_frames: int, size_px: int, seed: int, overwrite: bool
) -> int:
    cv2.setNumThreads(1)
    missing = [look for look in range(looks) if overwrite or not session_path(out, identity, look).exists()]
    if missing:
        model = load_face_model()
        person = make_person(model, identity, seed)
        for look in missing:
            write_session(
                session_path(out, identity, look),
                render_session(model, person, look, num_frames, size_px, seed),
            )
    return identity


def render_dataset(
    out: Path,
    identities: Sequence[int],
    looks: int = 2,
    frames: int = 20,
    size: int = 288,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Render sessions of synthetic people into the folder `out`; returns their paths.

    identities are rendered in the given order, `looks` sessions of `frames` frames each, `size` pixels square.
    The same numbers and seed give the same bytes. workers is the number of processes. progress is called with
    (finished, all) identities. Sessions that exist are kept unless overwrite is set.
    """
    check_size(size)
    load_face_model()
    make_folder(out)
    render = partial(
        _render_identity,
        out=out,
        looks=looks,
        num_frames=frames,
        size_px=size,
        seed=seed,
        overwrite=overwrite,
    )
    each(render, identities, workers, progress)
    return [session_path(out, identity, look) for identity in identities for look in range(looks)]
