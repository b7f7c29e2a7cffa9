"""A framing in a smaller copy of its picture."""

from __future__ import annotations

import cv2
import numpy as np

from vivant.face.crop import crop_transform
from vivant.face.framing import Framing
from vivant.face.paste import paste_back
from vivant.face.points import Landmarks


def test_pasting_into_a_smaller_picture_is_a_smaller_paste() -> None:
    smooth = np.random.default_rng(0).uniform(0, 255, (9, 12, 3)).astype(np.float32)
    picture = cv2.resize(smooth, (640, 480), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    points = np.random.default_rng(1).uniform((200, 150, 0), (400, 330, 1), (468, 3)).astype(np.float32)
    framing = Framing(picture, crop_transform(points, 256, 1.4, 0.0, 0.0, True), Landmarks(points, 1.0), 0)
    square = (
        cv2.resize(smooth[:6, :6], (256, 256), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )
    small = framing.within(322)
    assert small.image.shape == (242, 322, 3)
    assert framing.within(640) is framing
    pasted = paste_back(small.image, square, small.crop).astype(int)
    expected = cv2.resize(
        paste_back(picture, square, framing.crop), (322, 242), interpolation=cv2.INTER_AREA
    ).astype(int)
    assert np.abs(pasted - expected).mean() < 1.0
    assert np.quantile(np.abs(pasted - expected), 0.99) < 12
