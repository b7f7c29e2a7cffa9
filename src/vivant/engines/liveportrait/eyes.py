"""The eyes of a head that stands still, for edits: lids that come down, irises that look elsewhere.

The compact weights of today copy the picture where the head has not moved, eyes included, and paint once everything
has moved by some pixels, as it always had in training (docs/decisions/0016). So here eyes are left to the picture, and

- irises are moved by warping what lies between the lids;
- closed lids are drawn with the whole head moved up by SHIFT_PX, moved back, and shown above the line down to which
  the lid has come: an eye half closed has its lid half way down. Their colour is that of the skin above and below.

Heads that move are drawn by the networks alone. S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.editing_compact import EYES, closed_lids, lid_gap
from vivant.engines.liveportrait.motion import Motion, expression_gain, keypoints

SHIFT_PX = 8
STANDS_STILL = 0.05
"""Heads that move more than this, 6 pixels of 256, are painted; crop units."""
MOST = 0.98
"""Lids that have come down this far are closed."""
SOFT = 0.05
"""Width of soft edges, in eye widths."""
CREASE = 0.1
"""A lid that comes down is seen from this far above its edge on, in eye widths: open eyes' lashes go with it."""
LASHES = 0.35
"""How much darker the rim of a lid is."""
LUMA = (0.299, 0.587, 0.114)
REACH = (0.17, 0.12)
"""Irises go this far along and across the eye at most, in eye widths."""
IRIS_SPREAD = 0.27
"""How far around an iris the eye moves with it, in eye widths."""

LIDS = (points.EYE_RIGHT, points.EYE_LEFT)
PUPILS = (points.PUPIL_RIGHT, points.PUPIL_LEFT)
SKULL = (*points.HEAD[3:8], points.HEAD[10])
"""Keypoints that no expression moves: hairline, temples, ears, crown."""
UNMOVED = 0.004
"""Heads whose keypoints move less, half a pixel of 256, are where the picture has them; crop units."""

Draw = Callable[[Motion], Tensor]


@dataclass(frozen=True)
class Sitter:
    """Who is edited."""

    motion: Motion
    """One frame."""
    picture: Tensor | None
    """(1, 3, S, S) in [0, 1]: the crop that the portrait was made of; None: not at hand."""
    eyes_at: Tensor | None
    """(70, 2): where the points of the face and its pupils (image left, image right) are seen, crop units; None: where
    the networks believe them to be."""


def draw_eyes(draw: Draw, sitter: Sitter, driven: Motion, config: Config) -> Tensor | None:
    """The frame (1, 3, S, S) of a driven motion (one frame); None where the head moves, which is not drawn here.

    draw: a frame of a motion, not stitched (that would take the head back from where it is drawn aside); called once,
        and once more where lids come down.
    """
    source = sitter.motion
    gain = expression_gain(config).to(driven.expression.device)
    meant = replace(driven, expression=source.expression + gain * (driven.expression - source.expression))
    before, after = (keypoints(motion, motion.canonical, config)[0, :, :2] for motion in (source, meant))
    moved = (after - before)[list(SKULL)]
    if float(moved.norm(dim=-1).mean()) > STANDS_STILL:
        return None
    shut = [_shut(source, meant, pairs) for _, _, pairs in EYES]
    wide = [_widened(source, meant, pairs) for _, _, pairs in EYES]
    kept = driven.expression.clone()
    for index, part in enumerate(shut):
        left_alone = [PUPILS[index], *(LIDS[index] if part > 0 else ())]
        kept[:, left_alone] = source.expression[:, left_alone]
    frame = draw(replace(driven, expression=kept))
    at = (
        before[[*range(68), *PUPILS]] if sitter.eyes_at is None else sitter.eyes_at.to(before)
    ) + moved.mean(0)
    aside = None
    for index, pupil in enumerate(PUPILS):
        eye = _Eye.seen(at, index, frame.shape[-1])
        if sitter.picture is not None and not wide[index] and float(moved.norm(dim=-1).max()) < UNMOVED:
            frame = _as_pictured(frame, sitter.picture.to(frame), eye)
        frame = _looking(frame, eye, (after - before)[pupil] - moved.mean(0))
        if shut[index] > 0:
            aside = _drawn_aside(draw, driven, meant, gain, frame.shape[-1]) if aside is None else aside
            frame = _closed(frame, aside, eye, shut[index])
    return frame


def _widened(source: Motion, driven: Motion, pairs: tuple[tuple[int, int], ...]) -> bool:
    """Whether lids open further than in the picture."""
    own, now = (lid_gap((motion.canonical + motion.expression)[0], pairs) for motion in (source, driven))
    return float(now - own) > 1e-3


def _shut(source: Motion, driven: Motion, pairs: tuple[tuple[int, int], ...]) -> float:
    """Which part of the eye's opening is closed, 0 to 1."""
    own, now = (lid_gap((motion.canonical + motion.expression)[0], pairs) for motion in (source, driven))
    closed = float(1 - now / own.clamp(min=1e-3))
    return min(1.0, max(0.0, closed / MOST)) if closed > 1e-3 else 0.0


def _drawn_aside(draw: Draw, driven: Motion, meant: Motion, gain: Tensor, size: int) -> Tensor:
    """The frame with both eyes closed, painted because everything has moved, and moved back."""
    rest = closed_lids(meant.canonical + meant.expression, (1.0, 1.0))
    up = driven.translation - driven.translation.new_tensor([[0.0, 2 * SHIFT_PX / size, 0.0]])
    return torch.roll(
        draw(replace(driven, expression=driven.expression + rest / gain, translation=up)), SHIFT_PX, -2
    )


@dataclass(frozen=True)
class _Eye:
    """Pixels (S, S) seen from an eye: u along it from corner to corner, 0 to 1, v down from its axis, same unit."""

    u: Tensor
    v: Tensor
    axes: Tensor
    """(2, 2): unit vectors along and down, rows, in the picture."""
    width: float
    """Crop units."""
    iris: Tensor
    """(2,): u and v of the middle of the iris."""
    high: float
    low: float
    """v of the middle of the upper and of the lower lid."""

    @classmethod
    def seen(cls, at: Tensor, index: int, size: int) -> _Eye:
        """index: 0 the person's right eye, 1 the left one. at: (70, 2), see `draw_eyes`."""
        _, (outer, inner), pairs = EYES[index]
        width = (at[inner] - at[outer]).norm().clamp(min=1e-3)
        along = (at[inner] - at[outer]) / width
        down = torch.stack([-along[1], along[0]])
        axes = torch.stack([along, down * torch.sign(down[1])])
        axis = (torch.arange(size, device=at.device) + 0.5) * (2 / size) - 1
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
        u, v = ((grid - at[outer]) @ axes.T / width).unbind(-1)
        # Lid points lie near thirds, where a parabola through the corners has 8/9 of its height.
        lids = ((at[list(side)] - at[outer]) @ axes[1] for side in zip(*pairs, strict=True))
        high, low = (float(lid.mean() / width) * 9 / 8 for lid in lids)
        iris = axes @ (at[68 + index] - at[outer]) / width
        return cls(u, v, axes, float(width), iris, high, low)

    @property
    def bow(self) -> Tensor:
        """(S, S): what the height of a lid is multiplied by along the eye."""
        return (4 * self.u * (1 - self.u)).clamp(-0.6, 1)


def _as_pictured(frame: Tensor, picture: Tensor, eye: _Eye) -> Tensor:
    """The frame with the eye of the picture: what moves brows or cheeks would smear it."""
    upper, lower = eye.bow * eye.high - 0.06, eye.bow * eye.low + 0.04
    inside = _step(eye.u + 0.1) * _step(1.1 - eye.u) * _step(eye.v - upper) * _step(lower - eye.v)
    return frame + inside * (picture - frame)


def _looking(frame: Tensor, eye: _Eye, shift: Tensor) -> Tensor:
    """The frame with one iris moved by `shift` (2,), crop units, between lids that stay."""
    along, across = ((eye.axes @ shift) / eye.width).tolist()
    along = min(REACH[0], max(-REACH[0], along))
    across = min(REACH[1], max(-REACH[1], across))
    if abs(along) + abs(across) < 1e-3:
        return frame
    between = (
        _step(eye.v - eye.bow * eye.high) * _step(eye.bow * eye.low - eye.v) * _step(eye.u) * _step(1 - eye.u)
    )
    off = (eye.u - eye.iris[0] - along / 2).square() + (eye.v - eye.iris[1] - across / 2).square()
    share = between * torch.exp(-off / (2 * IRIS_SPREAD**2))
    size = frame.shape[-1]
    axis = (torch.arange(size, device=frame.device) + 0.5) * (2 / size) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    way = eye.width * (eye.axes.T @ frame.new_tensor([along, across]))
    source = (grid - share[..., None] * way)[None]
    return F.grid_sample(frame, source, align_corners=False, padding_mode="border")


def _closed(frame: Tensor, aside: Tensor, eye: _Eye, part: float) -> Tensor:
    """The frame with the lid of one eye come down by `part`."""
    upper, lower = eye.bow * eye.high - 0.05, eye.bow * (eye.low + 0.06)
    lid = upper + part * (lower - upper)
    inside = _step(eye.u + 0.15) * _step(1.15 - eye.u) * _step((eye.v - upper + CREASE) / 2)
    mask = inside * _step(lid - eye.v) * min(1.0, 6 * part)
    above, below = (_skin(frame, eye, middle) for middle in (eye.high - 0.16, eye.low + 0.22))
    bulge = ((eye.u - 0.5).abs() < 0.3) & (eye.v > upper) & (eye.v < lower)
    if bool(bulge.any()):
        light = (aside * aside.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        down = ((eye.v - upper) / (lower - upper).clamp(min=1e-3)).clamp(0, 1)
        colour = above + down * (below - above)
        aside = (colour * (light / light[:, :, bulge].mean().clamp(min=1e-3)) ** 0.5).clamp(0, 1)
    rim = inside * torch.exp(-(((eye.v - lid) / SOFT).square())) * min(1.0, 2 * part)
    closed: Tensor = (frame + mask * (aside - frame)) * (1 - LASHES * rim)
    return closed


def _skin(frame: Tensor, eye: _Eye, middle: float) -> Tensor:
    """(1, 3, 1, 1): the usual colour of a band along the eye."""
    band = ((eye.u - 0.5).abs() < 0.35) & ((eye.v - middle).abs() < 0.08)
    if not bool(band.any()):
        return frame.mean((2, 3), keepdim=True)
    return frame[0][:, band].median(1).values.view(1, 3, 1, 1)


def _step(x: Tensor) -> Tensor:
    return torch.sigmoid(4 * x / SOFT)
