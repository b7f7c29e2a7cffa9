"""Shared by the face tests: the real networks (or a skip that says why) and a real face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from vivant.face.detect import FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.models import face_models_available


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def face_models() -> None:
    if not face_models_available():
        pytest.skip("the face models are not on this machine (vivant doctor --fix)")


@pytest.fixture(scope="session")
def detector(face_models: None) -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="session")
def mesh(face_models: None) -> FaceMesh:
    return FaceMesh()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """uint8 RGB (400, 400, 3): one smiling face, about 120 pixels wide, at about (183, 120)."""
    return np.ascontiguousarray(astronaut()[:400, 40:440])
