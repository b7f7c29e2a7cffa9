"""Seams: whether pasted faces show a step where they meet their picture, or each other."""

from __future__ import annotations

import numpy as np


def seam_ratio(pasted: np.ndarray, picture: np.ndarray, owners: np.ndarray, width_px: int) -> float:
    """Mean step across the borders of what was pasted, relative to the step that the picture has there itself.

    Both uint8 (H, W, 3). owners (H, W): which face each pixel belongs to, 0 for none. A step is the mean absolute
    difference of two pixels, `width_px` apart along x or y, that belong to different owners. 1: no seam; nan: no
    border.
    """
    steps = []
    for image in (pasted, picture):
        image = image.astype(np.float64)
        across = np.abs(image[:, width_px:] - image[:, :-width_px]).mean(-1)
        down = np.abs(image[width_px:] - image[:-width_px]).mean(-1)
        differ_x = owners[:, width_px:] != owners[:, :-width_px]
        differ_y = owners[width_px:] != owners[:-width_px]
        steps.append(np.concatenate([across[differ_x], down[differ_y]]))
    made, given = (float(step.mean()) if step.size else float("nan") for step in steps)
    return made / given
