"""Which square of a picture a network sees: similarity crops from landmarks, driving boxes, input limits.

Pure geometry. The published point sets (203, 106, 101, 68, 5 and 9 points) are accepted besides our mesh,
so that the published numbers can be reproduced. Pixel (x, y) means the centre of a pixel; the published code
maps the crop's centre to (size / 2, size / 2), and so do we.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vivant.face import points as mesh

# Shorter eye-to-lip vectors give no direction; the crop is then upright.
SHORTEST_AXIS_PX = 1e-3
# From this shrinking on, bilinear sampling alone would alias.
SHRINK_TO_AVERAGE = 1.5
LARGEST_AVERAGING = 6

SOURCE_MAX_DIM_PX = 1280
SOURCE_DIVISION = 2


@dataclass(frozen=True, kw_only=True)
class CropSpec:
    """The square around a face that a family was trained on, relative to the face (see `crop_square`)."""

    scale: float = 2.3
    """Side over the longer extent of the face's points."""
    vx: float = 0.0
    vy: float = -0.125
    """Shift of the centre along the face's axes, relative to the side; negative is towards the forehead."""


DRIVING_CROP = CropSpec(scale=2.2, vy=-0.1)
"""Around a driver's face (published program of LivePortrait)."""


@dataclass(frozen=True)
class Anchors:
    """Indices, per point set, whose means are the two eye centres and the lip centre."""

    eye_left: tuple[int, ...]
    eye_right: tuple[int, ...]
    lip_corners: tuple[int, ...]


ANCHORS: dict[int, Anchors] = {
    203: Anchors((0, 6, 12, 18), (24, 30, 36, 42), (48, 66)),
    106: Anchors((33, 35, 40, 39), (87, 89, 94, 93), (52, 61)),
    101: Anchors((39, 42, 45, 48), (51, 54, 57, 60), (75, 81)),
    68: Anchors((36, 39), (42, 45), (48, 54)),
    9: Anchors((2, 3), (0, 1), (5, 6)),  # animals
    5: Anchors((0,), (1,), (3, 4)),
    mesh.NUM_MESH: Anchors(
        (mesh.EYE_LEFT_OUTER, mesh.EYE_LEFT_INNER, mesh.LID_LEFT_UPPER[3], mesh.LID_LEFT_LOWER[3]),
        (mesh.EYE_RIGHT_INNER, mesh.EYE_RIGHT_OUTER, mesh.LID_RIGHT_UPPER[3], mesh.LID_RIGHT_LOWER[3]),
        (mesh.LIP_LEFT_CORNER, mesh.LIP_RIGHT_CORNER),
    ),
}
# The published sets end at the brows; the forehead of the mesh must not enlarge the crop.
MESH_EXTENT = tuple(sorted({*mesh.MULTI_PIE_68}))


@dataclass(frozen=True)
class Square:
    """A rotated square in a picture."""

    centre: np.ndarray
    """float64 (2,): x, y."""
    side: float
    angle: float
    """Radians, clockwise as seen (y points down): direction of the square's horizontal axis."""

    def corners(self, *, rotated: bool = True) -> np.ndarray:
        """float64 (4, 2), clockwise from the top left; upright about the same centre if not `rotated`."""
        half = self.side / 2
        offsets = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
        return self.centre + (offsets @ _rotation(self.angle).T if rotated else offsets)


@dataclass(frozen=True)
class Crop:
    """A square piece of a picture and the way back."""

    crop_to_image: np.ndarray
    """float32 (2, 3)."""
    image_to_crop: np.ndarray
    """float32 (2, 3)."""
    size_px: int
    """Side of the cropped picture."""

    @property
    def side_px(self) -> float:
        """Side of the square in pixels of the original picture."""
        return self.size_px * float(np.hypot(self.crop_to_image[0, 0], self.crop_to_image[1, 0]))

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the picture in pixels of the crop."""
        return points @ self.image_to_crop[:, :2].T + self.image_to_crop[:, 2]

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the crop in pixels of the picture."""
        return points @ self.crop_to_image[:, :2].T + self.crop_to_image[:, 2]

    def resized(self, size_px: int) -> Crop:
        """The same square sampled at another size, pixel edges kept in place."""
        return _crop_from_inverse(
            _compose(self.crop_to_image.astype(np.float64), _resizing(size_px, self.size_px)), size_px
        )

    def in_resized(self, x_scale: float, y_scale: float) -> Crop:
        """The same square in a picture that was resized by these factors."""
        scales = np.array([[x_scale], [y_scale]])
        matrix = self.crop_to_image.astype(np.float64) * scales
        matrix[:, 2:] += (scales - 1) / 2  # pixel (x, y) means the centre of a pixel
        return _crop_from_inverse(matrix, self.size_px)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The cropped picture (size, size, channels); edges repeated outside. Averages when it shrinks.

        The published code has black outside, and a hard black edge is an object that then moves with the head.
        """
        shrink = self.side_px / self.size_px
        if shrink < SHRINK_TO_AVERAGE:
            return self._sample(image, cv2.BORDER_REPLICATE)
        large = self.resized(self.size_px * min(LARGEST_AVERAGING, round(shrink)))
        size = (self.size_px, self.size_px)
        return cv2.resize(large._sample(image, cv2.BORDER_REPLICATE), size, interpolation=cv2.INTER_AREA)

    def apply_bilinear(self, image: np.ndarray) -> np.ndarray:
        """As the published code samples: four neighbours per pixel, whatever the scale; black outside."""
        return self._sample(image, cv2.BORDER_CONSTANT)

    def _sample(self, image: np.ndarray, outside: int) -> np.ndarray:
        size = (self.size_px, self.size_px)
        return cv2.warpAffine(image, self.image_to_crop, size, flags=cv2.INTER_LINEAR, borderMode=outside)


def crop_square(
    points: np.ndarray, scale: float = 2.3, vx: float = 0.0, vy: float = -0.125, *, published: bool = False
) -> Square:
    """The square that frames a face.

    points: (N, 2 or more) in pixels, N one of `ANCHORS`, 478, or above 101 (read as the first 101).
    scale: side relative to the longer extent of the points. vx, vy: shift of the centre along the face's
    horizontal and vertical axis, relative to the side. The published code drops vx; `published` does too.
    """
    eye, lip, extent = _eye_lip_extent(np.asarray(points, np.float64)[:, :2])
    axis = lip - eye
    length = float(np.linalg.norm(axis))
    up_to_down = axis / length if length > SHORTEST_AXIS_PX else np.array([0.0, 1.0])
    left_to_right = np.array([up_to_down[1], -up_to_down[0]])
    angle = float(np.arccos(np.clip(left_to_right[0], -1, 1)) * (-1 if left_to_right[1] < 0 else 1))

    face_axes = np.stack([left_to_right, up_to_down])
    middle = extent.mean(0)
    turned = (extent - middle) @ face_axes.T
    low, high = turned.min(0), turned.max(0)
    side = float((high - low).max()) * scale
    shift = np.array([0.0 if published else vx, vy]) * side
    return Square(middle + ((low + high) / 2 + shift) @ face_axes, side, angle)


def crop_transform(
    points: np.ndarray,
    size_px: int,
    scale: float = 2.3,
    vx: float = 0.0,
    vy: float = -0.125,
    rotate: bool = True,
    *,
    published: bool = False,
) -> Crop:
    """The crop of `crop_square`, turned so that the face is upright unless `rotate` is off."""
    square = crop_square(points, scale, vx, vy, published=published)
    return _square_crop(square.centre, square.side, square.angle if rotate else 0.0, size_px)


def square_crop(square: Square, size_px: int) -> Crop:
    """The crop of a square."""
    return _square_crop(square.centre, square.side, square.angle, size_px)


def driving_box(
    points: np.ndarray,
    scale: float = DRIVING_CROP.scale,
    vx: float = 0.0,
    vy: float = DRIVING_CROP.vy,
    *,
    published: bool = False,
) -> np.ndarray:
    """Upright square x0, y0, x1, y1 (float64) around a driving face; the shift follows the head's axis."""
    corners = crop_square(points, scale, vx, vy, published=published).corners(rotated=False)
    return np.concatenate([corners[0], corners[2]])


def average_boxes(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """One box for a whole clip, as the published code chooses it."""
    return np.mean(np.stack([np.asarray(box, np.float64) for box in boxes]), axis=0)


def box_crop(box: np.ndarray, size_px: int) -> Crop:
    """Upright crop of a square box x0, y0, x1, y1."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return _square_crop(np.array([(x0 + x1) / 2, (y0 + y1) / 2]), x1 - x0, 0.0, size_px)


def upright_crop(centre: np.ndarray, side: float, line: np.ndarray, size_px: int) -> Crop:
    """Square crop whose horizontal axis runs along `line`, two points (2, 2), left one first.

    The centre maps to the crop's centre counted in pixel edges, as the landmark networks expect.
    """
    direction = line[1] - line[0]
    angle = float(np.arctan2(direction[1], direction[0]))
    turn = _rotation(angle) * (side / size_px)
    shift = np.asarray(centre, np.float64) - turn @ np.full(2, (size_px - 1) / 2)
    return _crop_from_inverse(np.concatenate([turn, shift[:, None]], axis=1), size_px)


def limited_size(
    height: int, width: int, max_dim: int = SOURCE_MAX_DIM_PX, division: int = SOURCE_DIVISION
) -> tuple[int, int, int, int]:
    """Height and width scaled to `max_dim` (0: no limit), then both cut to multiples of `division`."""
    scaled_height, scaled_width = height, width
    if 0 < max_dim < max(height, width):
        if height > width:
            scaled_height, scaled_width = max_dim, int(width * (max_dim / height))
        else:
            scaled_height, scaled_width = int(height * (max_dim / width)), max_dim
    division = max(division, 1)
    if min(scaled_height, scaled_width) < division:
        return scaled_height, scaled_width, scaled_height, scaled_width
    cut_height, cut_width = scaled_height - scaled_height % division, scaled_width - scaled_width % division
    return scaled_height, scaled_width, cut_height, cut_width


def resize_to_limit(
    image: np.ndarray, max_dim: int = SOURCE_MAX_DIM_PX, division: int = SOURCE_DIVISION
) -> np.ndarray:
    """The picture within the input limits: scaled down if too large, right and bottom cut to the divisor.

    Scaling averages; the published code samples bilinearly.
    """
    height, width, cut_height, cut_width = limited_size(image.shape[0], image.shape[1], max_dim, division)
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return image[:cut_height, :cut_width]


def _eye_lip_extent(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle of the eyes (2,), middle of the lips (2,), and the points whose box is framed (N, 2)."""
    extent = points
    if len(points) in (mesh.NUM_MESH, mesh.NUM_WITH_IRIS):
        points = points[: mesh.NUM_MESH]
        extent = points[list(MESH_EXTENT)]
    anchors = ANCHORS.get(len(points))
    if anchors is None and len(points) > 101:
        anchors = ANCHORS[101]
    if anchors is None:
        raise ValueError(f"{len(points)} points are none of the known sets {sorted(ANCHORS)}")
    left, right = points[list(anchors.eye_left)].mean(0), points[list(anchors.eye_right)].mean(0)
    return (left + right) / 2, points[list(anchors.lip_corners)].mean(0), extent


def _square_crop(centre: np.ndarray, side: float, angle: float, size_px: int) -> Crop:
    turn = _rotation(angle) * (side / size_px)
    shift = centre - turn @ np.full(2, size_px / 2)
    return _crop_from_inverse(np.concatenate([turn, shift[:, None]], axis=1), size_px)


def _crop_from_inverse(crop_to_image: np.ndarray, size_px: int) -> Crop:
    image_to_crop = cv2.invertAffineTransform(crop_to_image)
    return Crop(crop_to_image.astype(np.float32), image_to_crop.astype(np.float32), size_px)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _resizing(from_px: int, to_px: int) -> np.ndarray:
    """Pixel centres of a picture of one size in pixels of the same picture at another size."""
    ratio = to_px / from_px
    return np.array([[ratio, 0.0, (ratio - 1) / 2], [0.0, ratio, (ratio - 1) / 2]])


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map that applies `inner`, then `outer`."""
    shift = outer[:, :2] @ inner[:, 2] + outer[:, 2]
    return np.concatenate([outer[:, :2] @ inner[:, :2], shift[:, None]], axis=1)
