"""Cameras of this machine, and clips played as if they were one: frames with the time at which they were captured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from vivant.errors import InputError
from vivant.media.reader import read_clip

WIDTH_PX, HEIGHT_PX = 640, 480


def captured(
    driving: str, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[np.ndarray, float]]:
    """Frames, uint8 RGB (H, W, 3), and when they were captured, in seconds of `clock`.

    driving: the number of a camera, or a clip, whose frames come at their times. Raises InputError.
    """
    return _camera(int(driving), clock) if driving.isdigit() else _played(driving, clock, sleep)


def _camera(number: int, clock: Callable[[], float]) -> Iterator[tuple[np.ndarray, float]]:
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise InputError(f"there is no camera {number}; give another number, or a clip.")
        camera.set(cv2.CAP_PROP_FRAME_WIDTH, WIDTH_PX)
        camera.set(cv2.CAP_PROP_FRAME_HEIGHT, HEIGHT_PX)
        while True:
            is_there, frame = camera.read()
            if not is_there:
                raise InputError(f"camera {number} gives no more pictures; plug it in again.")
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), clock()
    finally:
        camera.release()


def _played(
    path: str, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[tuple[np.ndarray, float]]:
    with read_clip(path) as clip:
        began: float | None = None
        for frame in clip:
            began = clock() if began is None else began
            due = began + float(frame.time)
            sleep(max(0.0, due - clock()))
            yield frame.image, due
