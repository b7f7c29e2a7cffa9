"""From a look and a motion to a frame: pose all geometry, draw, shade, and keep the ground truth.

A `Renderer` holds what is constant for a look (merged meshes, baked light) and scratch buffers; `render` is
deterministic. Vertex order: face model, rigid pieces, shells. Legend: V' vertices, F triangles, S image size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.studio.camera import UNIT_CM
from vivant.studio.face_model import FaceModel, rotation_matrix
from vivant.studio.geometry import Lens
from vivant.studio.glass import look_through
from vivant.studio.identity import Look
from vivant.studio.lighting import bake_transfer, environment_harmonics, light_screen, pack_light, shadow_map
from vivant.studio.materials import IRRADIANCE, NORMAL, NUM_VARYINGS, OPENNESS, POSITION, REST, SHADOW
from vivant.studio.motion import Motion
from vivant.studio.raster import FAR, draw, vertex_normals
from vivant.studio.scene import merge
from vivant.studio.shading import resolve, shade

Array = NDArray[Any]

SUPERSAMPLING = 2
HEAD_PIVOT = np.array([0.0, -6.0, -2.0], np.float32)
"""Point of the neck about which the head turns, head frame, cm."""
_TO_SAMPLES = np.array([SUPERSAMPLING, SUPERSAMPLING, 1], np.float32)
KEYPOINT_DEPTH_TOLERANCE_CM = 0.6
BAKE_DIRECTIONS = 64
BAKE_JAW, BAKE_BLINK = 0.6, 1.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One rendered frame with its ground truth; see docs of the dataset for units."""

    rgba: Array
    """[S, S, 4] bytes, premultiplied."""
    triangle_id: Array
    """[S/2, S/2] triangle at every second pixel corner, -1 background."""
    vertices: Array
    """[V', 3] image x, y in pixels and distance along the axis in cm."""
    rotation: Array
    projection: Array
    camera_distance: float
    delta: Array
    """[K, 3] keypoint offsets from canonical, 10 cm, head frame."""
    keypoint_xy: Array
    keypoint_visible: Array
    expression: Array
    gaze: Array
    angles: Array


class Renderer:
    """Renders one look at the size of its camera."""

    def __init__(self, model: FaceModel, look: Look) -> None:
        self.model, self.look = model, look
        self.scene = merge(model, look.outfit)
        samples = look.camera.size_px * SUPERSAMPLING
        self._depth = np.empty((samples, samples), np.float32)
        self._triangle = np.empty((samples, samples), np.int32)
        self._strand = np.zeros((samples, samples), np.uint8)
        self._radiance = np.empty((samples, samples, 4), np.float32)
        self.canonical = (
            self._face(np.zeros(len(model.expression_names), np.float32), np.zeros(2))[model.keypoints]
            / UNIT_CM
        ).astype(np.float32)
        self._bake()

    def _face(self, expression: Array, gaze: Array) -> Array:
        overdriven = expression.copy()
        for name in ("eyeBlink_L", "eyeBlink_R"):
            overdriven[self.model.expression_index[name]] *= self.look.person.blink_gain
        return self.model.posed(self.look.shape, overdriven, gaze, self.look.person.eye_centres)

    def _body(self, face: Array) -> tuple[Array, Array]:
        """All vertices and normals [V', 3] in the head frame, head and torso aligned."""
        normals = np.empty(face.shape, np.float32)
        vertex_normals(face, self.model.triangles, normals)
        vertices, all_normals = [face, self.scene.rigid_vertices], [normals, self.scene.rigid_normals]
        for shell in self.look.outfit.shells:
            root, normal = face[shell.source], normals[shell.source]
            if shell.grows_from is not None:
                normal = root - shell.grows_from
                normal = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6)
            grown = root + normal * shell.height[:, None]
            grown[:, 1] -= shell.droop
            vertices.append(grown)
            all_normals.append(normal)
        return np.concatenate(vertices), np.concatenate(all_normals)

    def _bake(self) -> None:
        """Bake light visibility at rest and how an open jaw and closed lids change it on the face."""
        names = self.model.expression_index
        face_count = len(self.model.neutral)

        def transfer(num_directions: int, **weights: float) -> Array:
            expression = np.zeros(len(names), np.float32)
            for name, weight in weights.items():
                expression[names[name]] = weight
            vertices, normals = self._body(self._face(expression, np.zeros(2)))
            return bake_transfer(vertices, normals, self.scene.occluders, num_directions)

        self._transfer = transfer(BAKE_DIRECTIONS)
        half = BAKE_DIRECTIONS // 2
        coarse = transfer(half)[:face_count]
        self._transfer_jaw = transfer(half, jawOpen=BAKE_JAW)[:face_count] - coarse
        self._transfer_blink = (
            transfer(half, eyeBlink_L=BAKE_BLINK, eyeBlink_R=BAKE_BLINK)[:face_count] - coarse
        )

    def _transfer_of(self, expression: Array) -> Array:
        names = self.model.expression_index
        jaw = min(1.0, float(expression[names["jawOpen"]]) / BAKE_JAW)
        blink = min(1.0, 0.5 * float(expression[names["eyeBlink_L"]] + expression[names["eyeBlink_R"]]))
        transfer = self._transfer.copy()
        transfer[: len(self._transfer_jaw)] += jaw * self._transfer_jaw + blink * self._transfer_blink
        return transfer

    def render(self, motion: Motion) -> Frame:
        """Render one frame."""
        look, scene = self.look, self.scene
        face = self._face(motion.expression, motion.gaze)
        vertices, normals = self._body(face)
        head = rotation_matrix(*(float(angle) for angle in motion.head_angles))
        torso_angles = motion.torso_angles + np.array([look.torso_yaw, 0, 0], np.float32)
        torso = rotation_matrix(*(float(angle) for angle in torso_angles))
        weight = scene.head_weight[:, None]
        centred = vertices - HEAD_PIVOT
        posed = (centred @ head.T) * weight + (centred @ torso.T) * (1 - weight) + HEAD_PIVOT
        normals = (normals @ head.T) * weight + (normals @ torso.T) * (1 - weight)
        place = look.head_place + motion.shift_cm
        screen = look.camera.project(posed + place)
        image = self._draw(motion.expression, posed.astype(np.float32), normals, place, screen, head, torso)
        head_origin = HEAD_PIVOT - head @ HEAD_PIVOT + place
        projection, distance = look.camera.head_projection(head_origin)
        keypoints = self.model.keypoints
        return Frame(
            rgba=image,
            triangle_id=self._triangle[2::4, 2::4].copy(),
            vertices=screen,
            rotation=head,
            projection=projection,
            camera_distance=distance,
            delta=(face[keypoints] / UNIT_CM - self.canonical).astype(np.float32),
            keypoint_xy=screen[keypoints, :2].copy(),
            keypoint_visible=self._visible(screen[keypoints]),
            expression=motion.expression,
            gaze=motion.gaze,
            angles=motion.head_angles,
        )

    def _draw(
        self,
        expression: Array,
        posed: Array,
        normals: Array,
        place: Array,
        screen: Array,
        head: Array,
        torso: Array,
    ) -> Array:
        look, scene = self.look, self.scene
        shadow_depth, shadow_matrix = shadow_map(posed, scene.occluders, look.light.key_direction)
        transfer = self._transfer_of(expression)
        weight = scene.head_weight[:, None]
        irradiance = (transfer @ environment_harmonics(look.environment, head)) * weight
        irradiance += (transfer @ environment_harmonics(look.environment, torso)) * (1 - weight)
        varyings = np.empty((len(posed), NUM_VARYINGS), np.float32)
        varyings[:, POSITION : POSITION + 3] = posed + place
        varyings[:, NORMAL : NORMAL + 3] = normals
        varyings[:, IRRADIANCE : IRRADIANCE + 3] = np.maximum(irradiance, 0)
        varyings[:, OPENNESS] = np.clip(transfer[:, 0] / 0.282095, 0, 1)
        varyings[:, REST : REST + 3] = scene.rest
        varyings[:, SHADOW : SHADOW + 3] = light_screen(posed, shadow_matrix)
        fine = screen * _TO_SAMPLES
        self._depth.fill(FAR)
        self._triangle.fill(-1)
        draw(
            fine,
            scene.triangles,
            scene.one_sided,
            scene.threshold,
            scene.strand,
            scene.density,
            look.surface.noise,
            self._depth,
            self._triangle,
            self._strand,
        )
        shade(
            self._triangle,
            self._strand,
            fine,
            varyings,
            scene.triangles,
            scene.triangle_part,
            scene.corner_uv,
            scene.strand_depth,
            pack_light(look.light),
            look.surface,
            shadow_depth,
            self._radiance,
        )
        for lens in look.outfit.lenses:
            self._look_through(lens, place, head)
        return resolve(self._radiance, look.light.exposure)

    def _look_through(self, lens: Lens, place: Array, head: Array) -> None:
        """Tint and gloss the samples behind a lens, which follows the head."""
        positions = (lens.piece.vertices - HEAD_PIVOT) @ head.T + HEAD_PIVOT + place
        screen = self.look.camera.project(positions) * _TO_SAMPLES
        look_through(
            screen,
            positions.astype(np.float32),
            (lens.piece.normals() @ head.T).astype(np.float32),
            lens.piece.triangles,
            lens.transmission,
            pack_light(self.look.light),
            self._depth,
            self._radiance,
            np.zeros((2, 3)),
        )

    def _visible(self, keypoints: Array) -> Array:
        """[K] 1 where nothing is in front of the keypoint [K, 3] and it lies inside the image."""
        size = self._depth.shape[0]
        y, x = np.floor(keypoints[:, 1::-1] * SUPERSAMPLING).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < size) & (y < size)
        seen = np.zeros(len(keypoints))
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                depth = self._depth[np.clip(y + dy, 0, size - 1), np.clip(x + dx, 0, size - 1)]
                seen += depth > keypoints[:, 2] - KEYPOINT_DEPTH_TOLERANCE_CM
        return (inside & (seen >= 5)).astype(np.uint8)
