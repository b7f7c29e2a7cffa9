"""Faces as recognition and coefficient networks want to see them, cut out by the mesh."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from vivant.evaluation.judges.arcface import INPUT_PX, TEMPLATE, ArcFace
from vivant.evaluation.shown import as_tensor
from vivant.face.crop import Crop, upright_crop
from vivant.face.identity import IdentityNetwork
from vivant.face.points import (
    LIP_LEFT_CORNER,
    LIP_RIGHT_CORNER,
    NOSE_TIP,
    NUM_MESH,
    Landmarks,
    pupils,
)

FACE_SCALE = 1.4
"""Side of the square that scripts see over the longer side of the mesh's box, as SMIRK cuts its pictures."""


def five_points(face: Landmarks) -> np.ndarray:
    """(5, 2): image-left and image-right pupil, nose tip, image-left and image-right corner of the mouth."""
    return np.concatenate([pupils(face), face.xy[[NOSE_TIP, LIP_LEFT_CORNER, LIP_RIGHT_CORNER]]])


def aligned(picture: np.ndarray, face: Landmarks) -> np.ndarray:
    """uint8 (112, 112, 3): the face turned and scaled so that its five points lie nearest ArcFace's template."""
    points, template = (_complex(each) for each in (five_points(face), np.array(TEMPLATE)))
    centred = points - points.mean()
    # In complex numbers the least-squares similarity is one factor and one shift.
    factor = (centred.conj() * (template - template.mean())).sum() / (np.abs(centred) ** 2).sum()
    shift = template.mean() - factor * points.mean()
    matrix = np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
    return np.asarray(cv2.warpAffine(picture, matrix, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR), np.uint8)


def _complex(points: np.ndarray) -> np.ndarray:
    return np.asarray(points[:, 0] + 1j * points[:, 1])


@torch.no_grad()
def embed_face(network: ArcFace, picture: np.ndarray, face: Landmarks) -> np.ndarray:
    """(1, 512)."""
    return network(as_tensor(aligned(picture, face))).numpy()


@torch.no_grad()
def embed_own(network: IdentityNetwork, picture: np.ndarray) -> np.ndarray:
    """(1, D) of a portrait crop."""
    return network(as_tensor(picture)).numpy()


def face_square(face: Landmarks, size_px: int, scale: float = FACE_SCALE) -> Crop:
    """The upright square, not turned, around the face's box."""
    low, high = face.xy[:NUM_MESH].min(0), face.xy[:NUM_MESH].max(0)
    level = np.array([[0.0, 0.0], [1.0, 0.0]])
    return upright_crop((low + high) / 2, scale * float((high - low).max()), level, size_px)
