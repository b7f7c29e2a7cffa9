"""A studio session made by hand: an ellipse with a face-like set of points, in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vivant.studio.dataset import POSITION_SCALE, Session, SessionInfo, session_path, write_session
from vivant.studio.face_model import KEYPOINT_NAMES
from vivant.studio.parts import PART_NAMES
from vivant.studio.talking import TalkingClip, clip_path, write_clip

SIZE = 96
EXPRESSION_NAMES = ("eyeBlink_L", "eyeBlink_R", "jawOpen", *(f"shape{i}" for i in range(50)))


def make_session(identity: int, look: int = 0, num_frames: int = 4) -> Session:
    """A textured quad that moves; points, poses and labels are consistent with `project_keypoints` at rest."""
    rng = np.random.default_rng([identity, look])
    num_points = len(KEYPOINT_NAMES)
    canonical = rng.normal(size=(num_points, 3)).astype(np.float32) * np.float32([0.6, 0.6, 0.3])
    delta = rng.normal(size=(num_frames, num_points, 3)).astype(np.float32) * 0.03
    scale = np.full(num_frames, SIZE * 0.2, np.float32)
    centre = SIZE / 2 + rng.normal(size=(num_frames, 2)).astype(np.float32) * 3
    posed = canonical + delta
    xy = centre[:, None] + scale[:, None, None] * posed[..., :2] * np.float32([1, -1])
    y, x = np.mgrid[:SIZE, :SIZE]
    patches = rng.integers(40, 220, (5, 5, 3)).astype(np.uint8)
    texture = cv2.resize(patches, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    rgba = np.zeros((num_frames, SIZE, SIZE, 4), np.uint8)
    triangle_id = np.full((num_frames, SIZE // 2, SIZE // 2), -1, np.int32)
    half = SIZE * 0.3
    corners = np.float32([[-half, -half], [half, -half], [-half, half], [half, half]])
    for i in range(num_frames):
        inside = ((x + 0.5 - centre[i, 0]) / half) ** 2 + ((y + 0.5 - centre[i, 1]) / half) ** 2 < 1
        rgba[i, inside, :3] = texture[inside]
        rgba[i, inside, 3] = 255
        upper = (x - centre[i, 0]) + (y - centre[i, 1]) < 0
        cells = inside[1::2, 1::2]
        triangle_id[i][cells] = np.where(upper[1::2, 1::2], 0, 1)[cells]
    vertex_xy = centre[:, None] + corners
    info = SessionInfo(
        identity, look, 0, SIZE, KEYPOINT_NAMES, EXPRESSION_NAMES, PART_NAMES, "test", 1000.0, SIZE * 2.0
    )
    return Session(
        info,
        rgba=rgba,
        triangle_id=triangle_id,
        triangles=np.int32([[0, 1, 2], [1, 3, 2]]),
        triangle_part=np.zeros(2, np.uint8),
        vertex_xy=np.rint(vertex_xy * POSITION_SCALE).astype(np.int16),
        vertex_depth=np.zeros((num_frames, 4), np.int16),
        rotation=np.tile(np.eye(3, dtype=np.float32), (num_frames, 1, 1)),
        projection=np.concatenate([scale[:, None], centre], 1).astype(np.float32),
        camera_distance=np.full(num_frames, 10, np.float32),
        canonical=canonical,
        delta=delta,
        keypoint_xy=xy.astype(np.float32),
        keypoint_visible=np.ones((num_frames, num_points), np.uint8),
        expression=rng.uniform(size=(num_frames, 53)).astype(np.float32),
        gaze=rng.normal(size=(num_frames, 2)).astype(np.float32),
        angles=np.zeros((num_frames, 3), np.float32),
    )


def write_sessions(folder: Path, identities: range) -> Path:
    for identity in identities:
        write_session(session_path(folder, identity, 0), make_session(identity))
    return folder


def write_clips(folder: Path, identities: range, num_frames: int = 14) -> Path:
    """Clips of an ellipse that drifts."""
    for identity in identities:
        session = make_session(identity, num_frames=1)
        picture = session.rgba[0, ..., :3]
        frames = np.stack([np.roll(picture, shift, 1) for shift in range(num_frames)])
        points = session.keypoint_xy[:1, :68] + np.arange(num_frames)[:, None, None] * np.float32([1, 0])
        clip = TalkingClip(
            identity=identity,
            voice="none",
            text="",
            frames=frames,
            samples=np.zeros(640 * num_frames, np.float32),
            landmarks=points.astype(np.float32),
            expression=np.zeros((num_frames, 53), np.float32),
        )
        write_clip(clip_path(folder, identity), clip)
    return folder
