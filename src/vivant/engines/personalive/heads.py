"""Heads that 68 points in the plane are of: those of the face mesh, where a checkpoint has no network for heads, and in
training the renderer's, whose clips say nothing else of poses.

A head of average shape is fitted to what moves with no expression, without perspective; then each frame gets a shape of
its own, by least squares, so that its keypoints are near its landmarks. A portrait's is kept for all that is drawn.

Letters: N frames, K keypoints. Crop units; x right, y down, z inward; row vectors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.engines.personalive.motion import Pose
from vivant.face.framing import default_detector, default_mesh
from vivant.face.points import to_68
from vivant.ops.constants import constant
from vivant.ops.fetching import as_pixels
from vivant.ops.rotation import degrees_from_rotation

STUDIO_POINTS = (27, 4, 12, 36, 45, 0, 16, 2, 14, 17, 26, 48, 30, 54, 31, 33, 35, 21, 22, 57, 8)
"""Which landmark each of the 21 implicit keypoints learns. Those that are drawn (1, 2, 3, 4, 12, 15, 20) are corners of
the jaw, outer eye corners, tip and foot of the nose, chin: neutral, so none moves with expression, and spread so that
the face crop, which is measured from them, reaches from brows to chin."""
MEAN_HEAD = (
    *((0.0, -0.338, -0.198), (-0.577, 0.492, 0.257), (0.577, 0.492, 0.257), (-0.457, -0.306, 0.006)),
    *((0.457, -0.306, 0.006), (-0.744, -0.332, 0.509), (0.744, -0.332, 0.509), (-0.703, 0.087, 0.417)),
    *((0.703, 0.087, 0.417), (-0.587, -0.487, 0.083), (0.587, -0.487, 0.083), (-0.258, 0.396, -0.155)),
    *((0.0, -0.003, -0.436), (0.258, 0.396, -0.155), (-0.129, 0.155, -0.22), (0.0, 0.16, -0.29)),
    *((0.129, 0.155, -0.22), (-0.118, -0.557, -0.198), (0.118, -0.557, -0.198), (0.0, 0.487, -0.297)),
    (0.0, 0.801, -0.174),
)
"""(K, 3), about its middle: the mean of 40 people of the studio, in units of 10 cm."""
RIGID = (0, 3, 4, 5, 6, 7, 8, 12, 14, 15, 16)
"""Of the keypoints: those that no expression moves much."""
SHAPE_WEIGHT = 0.1
"""How much the average shape counts beside what a frame says of it."""
UPRIGHT_STEPS = 12
MIDDLE_SCALE = 0.8
"""Size of a head that nobody sees; it is in the middle and looks ahead."""
WOBBLE = (0.5, 0.0035, 0.003)
"""Spread of what heads are off by in training: degrees, part of the size, crop units. Bent keypoints are then off by
0.5 px of 128, as they are with heads off the mesh (12 people, against the renderer's points). Twice as much taught
blur, for no network can know by how much a head is off."""


def heads_of(points: Tensor) -> Pose:
    """Landmarks (N, 68, 2) in crop units -> their heads, each with a shape (K, 3) of its own."""
    device = points.device
    points = points.index_select(1, constant(STUDIO_POINTS, device, torch.long))
    rigid, mean = constant(RIGID, device, torch.long), constant(MEAN_HEAD, device)
    shape, seen = mean.index_select(0, rigid), points.index_select(1, rigid)
    middle, place = shape.mean(0), seen.mean(1)
    centred, aimed = shape - middle, seen - place[:, None]
    affine = torch.linalg.solve(centred.T @ centred, centred.T @ aimed).mT  # (N, 2, 3)
    turned = _orthonormal(affine)
    flat = centred @ turned.mT
    scale = (aimed * flat).sum((1, 2)) / flat.square().sum((1, 2))
    shift = place - scale[:, None] * (turned @ middle)
    # What the frame says of each point; of what it does not say, the average.
    camera = scale[:, None, None] * turned
    weight = SHAPE_WEIGHT * scale.square()[:, None, None]
    told = camera.mT @ camera + weight * torch.eye(3, device=device)
    own = torch.linalg.solve(told, ((points - shift[:, None]) @ camera + weight * mean).mT).mT
    third = torch.linalg.cross(turned[:, 0], turned[:, 1])
    rotation = torch.cat([turned, third[:, None]], 1).mT
    degrees = torch.stack(degrees_from_rotation(rotation), -1)
    return Pose(degrees, scale[:, None], F.pad(shift, (0, 1)), own)


def _orthonormal(rows: Tensor) -> Tensor:
    """(N, 2, 3) -> the nearest with rows of length 1 at right angles (Newton's iteration)."""
    rows = rows / rows.square().sum((1, 2), keepdim=True).div(2).sqrt()
    for _ in range(UPRIGHT_STEPS):
        rows = 1.5 * rows - 0.5 * (rows @ rows.mT) @ rows
    return rows


def wobbled(heads: Pose) -> Pose:
    """As the mesh sees them, each off by something else."""
    degrees, size, place = WOBBLE
    return Pose(
        heads.degrees + degrees * torch.randn_like(heads.degrees),
        heads.scale * (1 + size * torch.randn_like(heads.scale)),
        heads.translation + place * torch.randn_like(heads.translation),
        heads.canonical,
    )


def middle_head(device: torch.device) -> Pose:
    """One frame, of a picture without a face."""
    none = torch.zeros(1, 3, device=device)
    scale = torch.full((1, 1), MIDDLE_SCALE, device=device)
    return Pose(none, scale, none.clone(), constant(MEAN_HEAD, device)[None])


def heads_in(pictures: Tensor, last: Pose) -> Pose:
    """Pictures (T, 3, H, W) in [0, 1] -> the heads of their largest faces; where there is none, the last one's."""
    seen = []
    for picture in pictures:
        points = _points_in(picture)
        last = last if points is None else heads_of(points[None].to(pictures.device))
        seen.append(last)
    columns = zip(*(vars(head).values() for head in seen), strict=True)
    return Pose(*(torch.cat(column) for column in columns))


def _points_in(picture: Tensor) -> Tensor | None:
    """(68, 2) crop units."""
    pixels = as_pixels(picture).cpu().numpy()
    found = default_detector().detect(pixels, tiles=False)
    landmarks = default_mesh().landmarks(pixels, found[0]) if found else None
    if landmarks is None:
        return None
    height, width = pixels.shape[:2]
    return (2 * torch.from_numpy(to_68(landmarks)[:68]).float() + 1) / torch.tensor([width, height]) - 1
