"""Plain functions of frame tensors, one metric per file.

Frames are float RGB (T, 3, H, W) in [0, 1]; T may be 1. Every definition is fixed by the versions in
`vivant.evaluation.protocol`.
"""

from vivant.evaluation.metrics.background import background_error, outside_heads
from vivant.evaluation.metrics.identity import texture_kept
from vivant.evaluation.metrics.landmarks import landmark_error
from vivant.evaluation.metrics.pose import pose_error, rigid_pose
from vivant.evaluation.metrics.psnr import psnr, region_psnr
from vivant.evaluation.metrics.regions import Box, region_boxes
from vivant.evaluation.metrics.series import amplitude_ratio, correlation, jitter
from vivant.evaluation.metrics.ssim import ssim

__all__ = [
    "Box",
    "amplitude_ratio",
    "background_error",
    "correlation",
    "jitter",
    "landmark_error",
    "outside_heads",
    "pose_error",
    "psnr",
    "region_boxes",
    "region_psnr",
    "rigid_pose",
    "ssim",
    "texture_kept",
]
