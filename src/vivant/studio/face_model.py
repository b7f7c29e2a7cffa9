"""The parametric face: loading the ICT Face Model Light and evaluating shape, expression and gaze.

Geometry only: no colour, no hair, no camera. Units are centimetres; +x is the subject's left, +y is up
and the face looks along +z. Only the parts that the studio draws are kept, so vertex indices differ from
the file's.

Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020 (MIT licence).
Shapes: V vertices, F triangles, K keypoints.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.errors import InputError
from vivant.store import store_folder

Array = NDArray[Any]

FACE_MODEL_VARIABLE = "VIVANT_FACE_MODEL"
FACE_MODEL_FILE = "ict_face_light.npz"

# Parts of the file that are drawn. The sclera meshes carry the cornea and hide the iris meshes.
DRAWN_PARTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10)
EYEBALL_PARTS = ((8, 9), (10, 11))

# The optical axes of the file point outward at rest; turning each eye inward gives a frontal gaze.
REST_GAZE_INWARD_DEGREES = 4.0

# Lids are kept this far outside the eyeball; the profile of the ball is sampled at these angles to its axis.
LID_RINGS, LID_THICKNESS_CM = 9, 0.04
_PROFILE_DEGREES = np.arange(2.5, 100.0, 5.0)

MULTI_PIE_COUNT = 68
EXTRA_KEYPOINTS: dict[str, tuple[float, float, float]] = {
    "forehead_centre": (0, 6, 9),
    "forehead_left": (4.5, 5.5, 7.5),
    "forehead_right": (-4.5, 5.5, 7.5),
    "hairline_centre": (0, 10.5, 4),
    "temple_left": (7.5, 7.5, 0),
    "temple_right": (-7.5, 7.5, 0),
    "ear_left": (9, 1, -1),
    "ear_right": (-9, 1, -1),
    "cheek_left": (5.5, -3, 8),
    "cheek_right": (-5.5, -3, 8),
    "crown": (0, 12, -3),
}
KEYPOINT_NAMES: tuple[str, ...] = (
    *(f"landmark_{i:02d}" for i in range(MULTI_PIE_COUNT)),
    "pupil_left",
    "pupil_right",
    *EXTRA_KEYPOINTS,
)


class FaceModelMissing(InputError):
    """The face-model file is in none of the places where it is looked for."""


def face_model_path() -> Path:
    """Where the face model is: the file or folder named by VIVANT_FACE_MODEL, else in the user's store."""
    named = os.environ.get(FACE_MODEL_VARIABLE)
    path = Path(named).expanduser() if named else store_folder() / "face_model" / FACE_MODEL_FILE
    return path / FACE_MODEL_FILE if path.is_dir() else path


def rotation_matrix(yaw_degrees: float, pitch_degrees: float, roll_degrees: float) -> Array:
    """Column-vector rotation [3, 3]; positive yaw turns to image right, pitch down, roll counter-clockwise."""
    yaw, pitch, roll = np.radians([yaw_degrees, pitch_degrees, roll_degrees])
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return np.asarray(about_z @ about_y @ about_x, np.float32)


@dataclass(frozen=True, eq=False)
class FaceModel:
    """The drawn part of the face model; every index array points into its own V vertices."""

    neutral: Array
    """[V, 3] generic neutral face, cm."""
    identity_modes: Array
    """[I, 3V] shape offsets, to be weighted by N(0, 1)."""
    expression_modes: Array
    """[E, 3V] shape offsets, to be weighted by 0..1."""
    expression_names: tuple[str, ...]
    triangles: Array
    """[F, 3]."""
    triangle_part: Array
    """[F] part numbers of the file (0 face, 1 head and neck, 2 mouth socket, ...)."""
    corner_uv: Array
    """[F, 3, 2] texture coordinates, v up; the whole number of u is the tile."""
    vertex_part: Array
    mouth_ring: Array
    """[V] mesh rings from the inner mouth edge, 255 outside the face part."""
    eye_ring: Array
    """[V] mesh rings from the hidden lid edge, 255 outside the face part."""
    landmarks: Array
    """[68] Multi-PIE landmarks."""
    eyelids: tuple[Array, Array]
    """Left and right: closed contour of 42 vertices from the outer corner along the upper lid."""
    lip_outer: Array
    pupils: Array
    """[2] left, right."""
    eye_centres: Array
    """[2, 3] rotation centres of the eyeballs."""
    eye_centre_modes: Array
    """[I, 2, 3] how identity moves them."""

    @cached_property
    def expression_index(self) -> dict[str, int]:
        """Column of each expression by name."""
        return {name: i for i, name in enumerate(self.expression_names)}

    @cached_property
    def keypoints(self) -> Array:
        """[81] vertex of each keypoint in the order of KEYPOINT_NAMES."""
        skin = self.vertex_part < 2
        extras = []
        for point in EXTRA_KEYPOINTS.values():
            distance = ((self.neutral - np.asarray(point, np.float32)) ** 2).sum(1)
            extras.append(int(np.where(skin, distance, np.inf).argmin()))
        return np.concatenate([self.landmarks, self.pupils, np.asarray(extras)]).astype(np.int64)

    @cached_property
    def eyeballs(self) -> tuple[Array, Array]:
        """Vertices of the left and the right eyeball."""
        left, right = (np.flatnonzero(np.isin(self.vertex_part, parts)) for parts in EYEBALL_PARTS)
        return left, right

    def shape(self, identity: Array) -> Array:
        """Neutral face [V, 3] of the person with these identity weights [I]."""
        offset = identity.astype(np.float32) @ self.identity_modes
        return np.asarray(self.neutral + offset.reshape(-1, 3), np.float32)

    def eye_centres_of(self, identity: Array) -> Array:
        """Eyeball centres [2, 3] of a person."""
        return np.asarray(self.eye_centres + np.tensordot(identity, self.eye_centre_modes, 1), np.float32)

    def posed(self, shape: Array, expression: Array, gaze_degrees: Array, eye_centres: Array) -> Array:
        """Vertices [V, 3] in the head frame.

        shape is [V, 3] from `shape`, expression [E] weights, gaze_degrees (yaw, pitch) relative to the head.
        """
        active = np.flatnonzero(expression)
        vertices = shape.copy()
        if len(active):
            offset = expression[active].astype(np.float32) @ self.expression_modes[active]
            vertices += offset.reshape(-1, 3)
        for side, ball in enumerate(self.eyeballs):
            inward = -REST_GAZE_INWARD_DEGREES if side == 0 else REST_GAZE_INWARD_DEGREES
            rotation = rotation_matrix(float(gaze_degrees[0]) + inward, float(gaze_degrees[1]), 0.0)
            vertices[ball] = (vertices[ball] - eye_centres[side]) @ rotation.T + eye_centres[side]
            self._lift_lids(vertices, side, eye_centres[side])
        return vertices

    @cached_property
    def lids(self) -> tuple[Array, Array]:
        """Skin around the left and the right eye."""
        near = (self.eye_ring <= LID_RINGS) & (self.vertex_part == 0)
        left, right = (np.flatnonzero(near & (sign * self.neutral[:, 0] > 0)) for sign in (1, -1))
        return left, right

    def _lift_lids(self, vertices: Array, side: int, centre: Array) -> None:
        """Push lids that have sunk into the eyeball out along its radius, in place.

        The ball is taken as round about its optical axis: its radius depends on the angle to the axis only,
        largest at the cornea.
        """
        ball, lid = self.eyeballs[side], self.lids[side]
        axis = vertices[self.pupils[side]] - centre
        axis = axis / np.linalg.norm(axis)

        def polar(points: Array) -> tuple[Array, Array]:
            offset = points - centre
            radius = np.linalg.norm(offset, axis=1)
            return radius, np.degrees(np.arccos(np.clip(offset @ axis / radius, -1, 1)))

        ball_radius, ball_angle = polar(vertices[ball])
        profile = np.zeros(len(_PROFILE_DEGREES))
        np.maximum.at(
            profile, np.searchsorted(_PROFILE_DEGREES, ball_angle).clip(0, len(profile) - 1), ball_radius
        )
        known = profile > 0
        lid_radius, lid_angle = polar(vertices[lid])
        needed = np.interp(lid_angle, _PROFILE_DEGREES[known], profile[known]) + LID_THICKNESS_CM
        factor = np.maximum(1.0, needed / lid_radius)
        vertices[lid] = centre + (vertices[lid] - centre) * factor[:, None].astype(np.float32)


def _compacted(arrays: dict[str, Array]) -> FaceModel:
    """Keep the drawn triangles and the vertices that they, or named points, use."""
    drawn = np.isin(arrays["tri_part"], DRAWN_PARTS)
    triangles = arrays["tri"][drawn]
    named = [arrays[name].ravel() for name in ("lmk68", "pupil_vertex", "eyelid_L", "eyelid_R", "lip_outer")]
    kept = np.unique(np.concatenate([triangles.ravel(), *named]))
    new_index = np.full(len(arrays["neutral"]), -1, np.int64)
    new_index[kept] = np.arange(len(kept))
    modes = [
        arrays[name][:, kept].astype(np.float32).reshape(len(arrays[name]), -1)
        for name in ("identity", "expression")
    ]
    return FaceModel(
        neutral=arrays["neutral"][kept].astype(np.float32),
        identity_modes=modes[0],
        expression_modes=modes[1],
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        triangles=new_index[triangles].astype(np.int32),
        triangle_part=arrays["tri_part"][drawn],
        corner_uv=arrays["uv"][arrays["tri_uv"][drawn]].astype(np.float32),
        vertex_part=arrays["vertex_part"][kept],
        mouth_ring=arrays["mouth_ring"][kept],
        eye_ring=arrays["eye_ring"][kept],
        landmarks=new_index[arrays["lmk68"]],
        eyelids=(new_index[arrays["eyelid_L"]], new_index[arrays["eyelid_R"]]),
        lip_outer=new_index[arrays["lip_outer"]],
        pupils=new_index[arrays["pupil_vertex"].ravel()],
        eye_centres=arrays["eye_centre"].astype(np.float32),
        eye_centre_modes=arrays["eye_centre_identity"].astype(np.float32),
    )


@lru_cache(maxsize=2)
def _load(path: Path) -> FaceModel:
    with np.load(path) as archive:
        return _compacted({name: archive[name] for name in archive.files})


def load_face_model(path: Path | None = None) -> FaceModel:
    """The face model from `path`, or from where `face_model_path` finds it."""
    path = path or face_model_path()
    if not path.is_file():
        raise FaceModelMissing(
            f"The face model file {path} does not exist. Get it with `vivant studio fetch`, or set "
            f"{FACE_MODEL_VARIABLE} to an existing {FACE_MODEL_FILE}."
        )
    return _load(path)
