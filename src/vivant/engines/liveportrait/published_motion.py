"""What the published program does beyond `drive`: image drivers, source videos, its order of stitching and retargeting.

`place_published` is the option `compatibility="published"`; the rest works on whole clips, apart from streaming.
Legend: T frames, K keypoints.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from vivant.engines.liveportrait.config import Config, Options
from vivant.engines.liveportrait.motion import Motion, amplify, drive, expression_mask, keypoints
from vivant.ops.smoothing import smooth_clip

if TYPE_CHECKING:
    from vivant.engines.liveportrait.retargeting import RetargetingNetworks

PROCESS_VARIANCE = 1e-5
OBSERVATION_VARIANCE = 3e-7
"""Published smoothing of source videos: a gain of about 0.97, so next to none."""

LIP_THRESHOLD = 0.03
"""Lips of a source that are opened less are not closed."""
EYE_THRESHOLD, EYE_TARGET = 0.18, 0.39
"""Source videos: where the first frame's eyes are opened less, this is what all frames are opened to."""

# Expression of a neutral face under the published motion network, (21, 3): what an image driver is
# compared with. Data of the official repository (MIT licence), as float32.
_NEUTRAL_EXPRESSION = (
    (-9.45240026e-05, 0.000242220005, -4.00973986e-05),
    (0.000208596, 0.000468054001, 1.27464e-05),
    (-0.000124601997, 0.000324972003, 4.42500004e-06),
    (0.000119652002, -0.000456623995, 5.40852016e-05),
    (-0.000265253999, -7.45979996e-05, -1.55279995e-05),
    (-3.34883989e-05, -0.000183035998, -3.4940399e-06),
    (-4.7542801e-07, -4.52465997e-07, 1.59497995e-06),
    (-0.000541295973, 0.00263280002, 7.24860001e-06),
    (-1.1694e-05, 5.00501983e-06, 9.98880023e-06),
    (8.02859972e-07, 5.19131981e-06, -0.000409344007),
    (0.000166878002, -1.98149992e-05, -8.85479967e-05),
    (-1.51535996e-05, 8.25059979e-05, 5.94011999e-06),
    (-2.61053998e-07, 2.75909997e-06, 2.21027994e-06),
    (-6.62820021e-05, -6.82859973e-05, -3.45317994e-06),
    (-0.000832620019, -0.00179591996, -2.59175999e-06),
    (6.97140013e-06, 3.65513988e-05, -1.89779996e-06),
    (-4.80875997e-06, 7.11480016e-06, -1.03235998e-05),
    (-0.000636840006, -0.00116610003, 5.62314017e-05),
    (0.000283289992, -1.45656004e-05, 1.09745997e-05),
    (-4.16022021e-06, -0.0150905997, -0.00254940009),
    (0.000222474002, 0.00562787987, 0.00272646011),
)


def neutral_expression() -> Tensor:
    """N, (21, 3) float32."""
    return torch.tensor(_NEUTRAL_EXPRESSION)


def still_reference(driving: Motion, options: Options) -> Motion:
    """The `driving_first` of a driver that is one image: its own pose with a neutral expression.

    So only expression is transferred, never pose. For the region "eyes" the comparison is with zero.
    """
    neutral = neutral_expression().to(driving.expression)
    if options.region == "eyes":
        neutral = torch.zeros_like(neutral)
    return replace(driving, expression=neutral.expand_as(driving.expression))


def drive_clip(
    source: Motion,
    driving: Motion,
    options: Options,
    config: Config,
    observation_variance: float = OBSERVATION_VARIANCE,
) -> Motion:
    """Motion of a source video under a driving video, or under one image (a driving motion of one frame).

    Differs from `drive` frame by frame, as published: expression and rotation are smoothed over the clip
    (rotation entry by entry, so no longer exactly a rotation), the driver's scale is ignored, relative motion
    leaves the source's translation alone, and expression moves only the axes that absolute motion moves.
    """
    is_image = len(driving) == 1
    frames = len(source) if is_image else min(len(source), len(driving))
    source, driving = source[:frames], driving.repeat(frames) if is_image else driving[:frames]
    # A source video compares with N in every region, "eyes" included.
    first = still_reference(driving, Options()) if is_image else driving[0]
    raw = _raw(source, driving, first, options, config)
    if not is_image:
        variances = {"process_variance": PROCESS_VARIANCE, "observation_variance": observation_variance}
        raw = replace(
            raw,
            rotation=smooth_clip(raw.rotation, **variances),
            expression=smooth_clip(raw.expression, **variances),
        )
    return _merged(source, raw, driving, options, config)


def drive_frames(source: Motion, driving: Motion, first: Motion, options: Options, config: Config) -> Motion:
    """`drive_clip` as it streams: T frames of a source video, without the smoothing that needs the whole clip."""
    return _merged(source, _raw(source, driving, first, options, config), driving, options, config)


def _raw(source: Motion, driving: Motion, first: Motion, options: Options, config: Config) -> Motion:
    return (
        drive(source, driving, first, replace(options, region="all"), config) if options.relative else driving
    )


def _merged(source: Motion, raw: Motion, driving: Motion, options: Options, config: Config) -> Motion:
    mask = expression_mask(options.region, config, whole=False).to(source.expression.device)
    poses = options.region in ("all", "pose")
    return replace(
        source,
        rotation=raw.rotation if poses else source.rotation,
        expression=torch.where(mask, raw.expression, source.expression),
        translation=driving.translation if poses and not options.relative else source.translation,
    )


def place_published(
    networks: RetargetingNetworks,
    source: Motion,
    source_keypoints: Tensor,
    driving: Motion,
    first: Motion,
    options: Options,
    config: Config,
    *,
    source_moves: bool = False,
) -> tuple[Motion, Tensor]:
    """Driven motion and keypoints (T, K, 3) in the published order; `source` (one frame) a picture, or of a video."""
    if options.relative_to == "neutral":
        first = still_reference(driving[0], Options() if source_moves else options)
    of_video = drive_frames if source_moves else drive
    driven = of_video(source, driving, first, options, config)
    where = keypoints(driven, driven.canonical, config)
    if config.subject == "animal" and options.moves_points(config):
        where = moved_points(source, driving, first, options, config)
    elif options.moves_points(config) and not source_moves:
        begin = drive(source, first, first, options, config)
        where = expression_friendly(source_keypoints, where, keypoints(begin, begin.canonical, config))
    options = replace(options, stitching=stitches(networks, options, config))
    return finish_published(networks, source, source_keypoints, driven, where, driving, options)


def stitches(networks: RetargetingNetworks, options: Options, config: Config) -> bool:
    """As asked; else if the checkpoint can, but for animals, whose shoulders the human network does not know."""
    if options.stitching is not None:
        return options.stitching
    return networks.has_stitching and config.subject is None


def finish_published(
    networks: RetargetingNetworks,
    source: Motion,
    source_keypoints: Tensor,
    driven: Motion,
    where: Tensor,
    driving: Motion,
    options: Options,
    eyes_target: float | None = None,
) -> tuple[Motion, Tensor]:
    """Retargeting, stitching, lip normalisation and multiplier, in the published order.

    Args:
        source, source_keypoints: 1 or T frames.
        driven, where: T frames before anything is corrected.
        driving: T frames, whose openness is the target as it is (of the eyes, the left one's).
        eyes_target: source videos: openness of every frame's eyes (`source_video_eyes`).
    """
    frames = len(where)
    source = source.repeat(frames) if len(source) == 1 else source
    stitched = networks.has_stitching if options.stitching is None else options.stitching
    if options.retargets_eyes or options.retargets_lips:
        if options.relative:  # the driven motion is discarded
            driven, where = source, source_keypoints.expand(frames, -1, -1)
        driven, offset = networks.retarget(
            source, source_keypoints, _unmeasured(driven), *_raw_openness(driving, options)
        )
        where = where + offset
        where = networks.stitch(source_keypoints, where) if stitched else where
    else:
        where = networks.stitch(source_keypoints, where) if stitched else where
        lips = eyes = None
        if options.normalize_lip and options.relative and source.lips_open is not None:
            lips = torch.zeros_like(source.lips_open)
        if eyes_target is not None:
            eyes = source.scale.new_full((frames, 2), eyes_target)
        if lips is not None and source.lips_open is not None:
            changed, offset = networks.retarget(source, source_keypoints, _unmeasured(driven), None, lips)
            closed = (source.lips_open < LIP_THRESHOLD)[..., None]
            driven = replace(driven, expression=torch.where(closed, driven.expression, changed.expression))
            where = torch.where(closed, where, where + offset)
        if eyes is not None:
            driven, offset = networks.retarget(source, source_keypoints, _unmeasured(driven), eyes, None)
            where = where + offset
    return driven, amplify(source_keypoints, where, options.driving_multiplier)


def source_video_eyes(source: Motion) -> float:
    """Published target for the eyes of a source video, from its first frame."""
    assert source.eyes_open is not None
    mean = float(source.eyes_open[0].mean())
    return EYE_TARGET if mean < EYE_THRESHOLD else mean


def _raw_openness(driving: Motion, options: Options) -> tuple[Tensor | None, Tensor | None]:
    """The driver's own ratios, or the fixed ones: eyes (T, 2), lips (T, 1)."""
    eyes = lips = None
    if options.eyes_open is not None:
        eyes = driving.scale.new_full((len(driving), 2), options.eyes_open)
    elif options.eye_retargeting:
        assert driving.eyes_open is not None
        eyes = driving.eyes_open[:, :1].expand(-1, 2)
    if options.lips_open is not None:
        lips = driving.scale.new_full((len(driving), 1), options.lips_open)
    elif options.lip_retargeting:
        lips = driving.lips_open
    return eyes, lips


def _unmeasured(motion: Motion) -> Motion:
    return replace(motion, eyes_open=None, lips_open=None)


def moved_points(source: Motion, driving: Motion, first: Motion, options: Options, config: Config) -> Tensor:
    """x_s + m (y_i - y_0), y the portrait's shape under the driver's own motion, m the ratio of sizes: (T, K, 3)."""
    absolute = replace(options, relative=False)
    own = keypoints(source, source.canonical, config)
    begin = drive(source, first, first, absolute, config)
    now = drive(source, driving, first, absolute, config)
    y_0 = keypoints(begin, begin.canonical, config)
    return own + size_ratio(own, y_0) * (keypoints(now, now.canonical, config) - y_0)


def expression_friendly(source_keypoints: Tensor, driven: Tensor, driven_first: Tensor) -> Tensor:
    """x_s + m (x_d,i - x_d,0) with m = sqrt(V(x_s) / V(x_d,0)), V the volume of the convex hull.

    Keypoints (1, K, 3), (T, K, 3), (1, K, 3). In relative motion x_d,0 = x_s, so this changes nothing.
    """
    return source_keypoints + size_ratio(source_keypoints, driven_first) * (driven - driven_first)


def size_ratio(first: Tensor, second: Tensor) -> float:
    """Square root of the ratio of hull volumes of two point sets (1, K, 3)."""
    volumes = [ConvexHull(points[0].double().cpu().numpy()).volume for points in (first, second)]
    return float(np.sqrt(volumes[0] / volumes[1]))
