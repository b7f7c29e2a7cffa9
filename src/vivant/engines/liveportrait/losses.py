"""Training objectives of the family, one small function per term. Legend: B batch, K keypoints, S picture side.

First the terms of the paper (arXiv 2407.03168, stage I, Eq. 3 and 4), then direct supervision by a renderer that
knows pose, points and flow. All return a scalar; weights are chosen by the stages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.engines.liveportrait import points
from vivant.ops.exact import exactly

Features = Callable[[Tensor], Sequence[Tensor]]
"""A frozen network: pictures (B, 3, S, S) -> feature maps."""
Embedding = Callable[[Tensor], Tensor]
"""A frozen network: pictures (B, 3, S, S) -> identity vectors (B, D)."""


# --- the paper's terms -------------------------------------------------------------------------------------


@exactly
def equivariance(points_plain: Tensor, points_transformed: Tensor, transform: Tensor) -> Tensor:
    """L_E: keypoints of a transformed picture are the transformed keypoints.

    points_* (B, K, 2 or more) crop units; transform (B, 2, 3) maps plain to transformed coordinates.
    """
    moved = points_plain[..., :2] @ transform[:, :, :2].mT + transform[:, None, :, 2]
    return (moved - points_transformed[..., :2]).abs().mean()


def keypoint_prior(keypoints: Tensor, min_distance: float = 0.1, depth: float = 0.33) -> Tensor:
    """L_L: keypoints (B, K, 3) keep apart (squared distance under `min_distance` costs) and near mean depth `depth`."""
    distance = torch.cdist(keypoints, keypoints) ** 2
    distance = distance + 10 * min_distance * torch.eye(keypoints.shape[1], device=keypoints.device)
    spread = F.relu(min_distance - distance).sum((1, 2)).mean()
    return spread + (keypoints[..., 2].mean(1) - depth).abs().mean()


def head_pose(degrees: Tensor, target_degrees: Tensor) -> Tensor:
    """L_H: mean absolute error of pitch, yaw, roll (B, 3) in degrees."""
    return (degrees - target_degrees).abs().mean()


def deformation_prior(expression: Tensor) -> Tensor:
    """L_delta: expression offsets (B, K, 3) are small."""
    return expression.abs().mean()


def perceptual(features: Features, image: Tensor, target: Tensor, scales: int = 1) -> Tensor:
    """L_P (cascaded): L1 between feature maps of pictures (B, 3, S, S), at full size and halved `scales` - 1 times."""
    total = image.new_zeros(())
    for _ in range(scales):
        with torch.no_grad():
            wanted = features(target)
        for got, want in zip(features(image), wanted, strict=True):
            total = total + (got.float() - want.float()).abs().mean() / (want.float().abs().mean() + 1e-3)
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
    return total / scales


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """L_G, discriminator side: patch scores of any shape."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """L_G, generator side."""
    return -fake.mean()


def face_identity(embed: Embedding, image: Tensor, target: Tensor) -> Tensor:
    """L_faceid: 1 - cosine of identity embeddings (B, D)."""
    with torch.no_grad():
        wanted = embed(target)
    return (1 - F.cosine_similarity(embed(image), wanted, dim=-1)).mean()


def wing(difference: Tensor, width: float = 0.05, curvature: float = 0.01) -> Tensor:
    """Wing penalty (Feng et al., CVPR 2018) of differences in crop units: logarithmic near zero, linear beyond."""
    size = difference.abs()
    join = width - width * torch.log1p(torch.tensor(width / curvature))
    return torch.where(size < width, width * torch.log1p(size / curvature), size - join).mean()


def landmark_guidance(keypoints: Tensor, landmarks: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """L_guide (Eq. 3): chosen keypoints (B, K, 3) sit on chosen landmarks (B, N, 2), by Wing loss."""
    own = keypoints[:, [k for k, _ in pairs], :2]
    return wing(own - landmarks[:, [n for _, n in pairs]])


# --- direct supervision ------------------------------------------------------------------------------------


def point_weights(device: torch.device) -> Tensor:
    """(81,): eyes and mouth count most, ears and crown least."""
    weights = torch.ones(points.NUM_POINTS, device=device)
    weights[list(points.EYE_RIGHT + points.EYE_LEFT + points.LIPS)] = 2.5
    weights[[points.PUPIL_LEFT, points.PUPIL_RIGHT]] = 2.5
    weights[list(points.HEAD)] = 0.5
    return weights


def expression_error(predicted: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """Huber on offsets (B, P, 3) divided by their spread (P, 3).

    Plain L1 sits at the median, which is zero because expressions are sparse, and learns nothing.
    """
    return F.smooth_l1_loss(predicted, target / spread)


def region_weight(exact_points: Tensor, size: int, gain: float) -> Tensor:
    """(B, 1, size, size): 1 everywhere, up to 1 + gain on eyes and mouth. exact_points (B, K, 2) crop units."""
    centres = (torch.arange(size, device=exact_points.device) + 0.5) * (2 / size) - 1
    total = exact_points.new_zeros(len(exact_points), size, size)
    for region, spread in ((points.EYE_RIGHT, 0.9), (points.EYE_LEFT, 0.9), (points.LIPS, 0.8)):
        p = exact_points[:, list(region)]
        centre = p.mean(1)
        radius = (p - centre[:, None]).norm(dim=2).amax(1).clamp(min=0.04) * spread
        scale = -0.5 / radius[:, None] ** 2
        x = torch.exp(scale * (centres - centre[:, :1]) ** 2)
        y = torch.exp(scale * (centres - centre[:, 1:]) ** 2)
        total = total + y[:, :, None] * x[:, None, :]
    return (1 + gain * total.clamp(max=1))[:, None]


def weighted_l1(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of weight * |image - target|, weight (B, 1, S, S)."""
    return ((image - target).abs() * weight).mean()


def gradient_l1(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences: edges in the right place."""
    dx = (image.diff(dim=3) - target.diff(dim=3)).abs() * weight[..., 1:]
    dy = (image.diff(dim=2) - target.diff(dim=2)).abs() * weight[:, :, 1:]
    return dx.mean() + dy.mean()


def flow_error(flow: Tensor, target: Tensor, visible: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean |flow - target| where the source shows the pixel. flow, target (B, n, n, 2); visible (B, n, n)."""
    share = visible if weight is None else visible * weight
    return ((flow - target).abs().sum(-1) * share).sum() / share.sum().clamp(min=1)


# --- stage II (Eq. 5 and 6) ----------------------------------------------------------------------------------


def masked_l1(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean |image - target| (B, 3, S, S) where mask (B, 1, S, S) is 1."""
    return ((image - target).abs() * mask).sum() / (3 * mask.sum()).clamp(min=1)


def shoulder_mask(exact_points: Tensor, size: int) -> Tensor:
    """1 - M_st, (B, 1, size, size): from below the chin to the lower edge. exact_points (B, K, 2) crop units."""
    rows = (torch.arange(size, device=exact_points.device) + 0.5) * (2 / size) - 1
    chin = exact_points[:, list(points.JAW), 1].amax(1)
    soft = ((rows - chin[:, None] - 0.08) / 0.06).clamp(0, 1)
    return soft[:, None, :, None].expand(-1, 1, -1, size)


def opening_masks(exact_points: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """M_eyes and M_lip, each (B, 1, size, size): ellipses that hold eyes and brows, and mouth and chin."""
    right = _ellipse(exact_points[:, list(points.EYE_RIGHT + points.BROW_RIGHT)], size)
    left = _ellipse(exact_points[:, list(points.EYE_LEFT + points.BROW_LEFT)], size)
    return torch.maximum(right, left), _ellipse(exact_points[:, list(points.LIPS + points.JAW[4:13])], size)


def _ellipse(region: Tensor, size: int) -> Tensor:
    """1 in the ellipse around points (B, P, 2), 0 outside, soft between: (B, 1, size, size)."""
    centres = (torch.arange(size, device=region.device) + 0.5) * (2 / size) - 1
    low, high = region.amin(1), region.amax(1)
    middle, radius = (low + high) / 2, (high - low).clamp(min=0.05) * 0.72
    x = ((centres - middle[:, :1]) / radius[:, :1]) ** 2
    y = ((centres - middle[:, 1:]) / radius[:, 1:]) ** 2
    return ((1.15 - y[:, :, None] - x[:, None, :]) / 0.3).clamp(0, 1)[:, None]
