"""How sharp and what colour a frame is: single numbers whose change over a long clip is drift."""

from __future__ import annotations

import cv2
import numpy as np


def sharpness(frame: np.ndarray) -> float:
    """Mean absolute Laplacian of luma, in levels of 255, of an uint8 RGB frame (H, W, 3)."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(luma, cv2.CV_32F)).mean())


def colour(frame: np.ndarray) -> np.ndarray:
    """(3,): mean L*, a*, b* (CIE 1976, D65) of an uint8 RGB frame (H, W, 3)."""
    lab = cv2.cvtColor(np.asarray(frame, np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    return np.asarray(lab.reshape(-1, 3).mean(0), np.float64)


def colour_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Delta E 1976 between two colours (3,) in L*a*b*: about 2 is just seen."""
    return float(np.linalg.norm(np.asarray(a, np.float64) - b))
