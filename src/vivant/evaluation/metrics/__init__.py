"""Plain functions, one metric per file; nothing here loads weights or files.

Frames are float RGB (T, 3, H, W) in [0, 1]; T may be 1. Every definition is fixed by the versions in
`vivant.evaluation.protocol`.
"""

from vivant.evaluation.metrics.appearance import colour, colour_difference, sharpness
from vivant.evaluation.metrics.background import background_error, outside_heads
from vivant.evaluation.metrics.drift import Curve, relative_drift
from vivant.evaluation.metrics.expression import expression_error, in_head_frame
from vivant.evaluation.metrics.frechet import RunningGaussian, frechet_distance
from vivant.evaluation.metrics.gaze import gaze_angles, gaze_direction
from vivant.evaluation.metrics.identity import texture_kept
from vivant.evaluation.metrics.l1 import l1
from vivant.evaluation.metrics.landmarks import landmark_error
from vivant.evaluation.metrics.pose import pose_error, rigid_pose
from vivant.evaluation.metrics.psnr import psnr, region_psnr
from vivant.evaluation.metrics.regions import Box, region_boxes
from vivant.evaluation.metrics.seam import seam_ratio
from vivant.evaluation.metrics.series import amplitude_ratio, correlation, jitter
from vivant.evaluation.metrics.ssim import ssim
from vivant.evaluation.metrics.sync import SyncScore, sync_score
from vivant.evaluation.metrics.temporal import border_ratio, change_apart, means_apart
from vivant.evaluation.metrics.vectors import angular_error, cosine, mean_l1

__all__ = [
    "Box",
    "Curve",
    "RunningGaussian",
    "SyncScore",
    "amplitude_ratio",
    "angular_error",
    "background_error",
    "border_ratio",
    "change_apart",
    "colour",
    "colour_difference",
    "correlation",
    "cosine",
    "expression_error",
    "frechet_distance",
    "gaze_angles",
    "gaze_direction",
    "in_head_frame",
    "jitter",
    "l1",
    "landmark_error",
    "mean_l1",
    "means_apart",
    "outside_heads",
    "pose_error",
    "psnr",
    "region_boxes",
    "region_psnr",
    "relative_drift",
    "rigid_pose",
    "seam_ratio",
    "sharpness",
    "ssim",
    "sync_score",
    "texture_kept",
]
