"""Do lips and sound belong together? Frames at 25 a second against the driver's sound."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
import torch
from torch import Tensor

from vivant.engines.refvae.sync_expert import WINDOW_COLUMNS, SyncExpert
from vivant.evaluation import metrics
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.judges.recognition import face_square
from vivant.evaluation.judges.syncnet import FRAME_PX, NUM_COLUMNS, NUM_FRAMES, SyncNet
from vivant.evaluation.metrics.sync import SyncScore
from vivant.evaluation.shown import Shown
from vivant.face.points import NUM_MESH, Landmarks
from vivant.ops.mel import mel
from vivant.ops.mfcc import mfcc

RATE_HZ = 25
SOUND_HZ = 16000
SHORTEST_SOUND = 1000
"""Samples; less is too short to be transformed."""
COLUMNS_PER_FRAME = 4
"""Of MFCC, 10 ms each."""
MAX_SECONDS = 60
"""The first minute of a clip is judged, so that long clips need no more memory."""
GREY = 110
EXPERT_PX = 96
GROWS, SINKS = 1.4, 0.4
"""SyncNet's square is this much wider than the face's box, and lies lower by this share of half the box."""


class SyncGauge:
    """sync_confidence and sync_distance (SyncNet), sync_expert_confidence and sync_expert_distance.

    One row of features per frame is kept, not pictures, for at most MAX_SECONDS.
    """

    def __init__(self, judges: Judges, sound: np.ndarray, rate_hz: float) -> None:
        """sound: (S,) at 16 kHz in [-1, 1]; rate_hz: of the frames."""
        self._syncnet, self._expert = judges.syncnet, judges.sync_expert
        self._sound, self._rate = torch.from_numpy(sound), rate_hz
        self._windows: dict[str, deque[Tensor]] = {
            name: deque(maxlen=NUM_FRAMES) for name in ("syncnet", "expert")
        }
        self._lips: dict[str, list[np.ndarray]] = {"syncnet": [], "expert": []}
        self._whole = True
        self._next = 0

    def update(self, shown: Shown) -> None:
        # At 25 a second frame k shows what had begun by k / 25 s; slower clips repeat, faster ones skip.
        while self._next / RATE_HZ < (shown.index + 1) / self._rate - 1e-9:
            self._next += 1
            self._take(shown.output, shown.output_face)

    @torch.no_grad()
    def _take(self, picture: np.ndarray, face: Landmarks | None) -> None:
        if self._next > MAX_SECONDS * RATE_HZ:
            return
        self._whole = self._whole and face is not None
        if not self._whole or face is None:
            return  # a track of the published procedure never has holes
        if self._syncnet is not None:
            window = self._windows["syncnet"]
            window.append(_lips_of(picture, face))
            if len(window) == NUM_FRAMES:
                self._lips["syncnet"].append(
                    self._syncnet.embed_lips(torch.stack(list(window), 1)[None]).numpy()
                )
        if self._expert is not None:
            window = self._windows["expert"]
            window.append(_lower_half(picture, face))
            if len(window) == NUM_FRAMES:
                self._lips["expert"].append(self._expert.embed_faces(torch.cat(list(window))[None]).numpy())

    def numbers(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._syncnet is not None:
            # The published count: whole frames of picture and sound, less five.
            count = min(
                len(self._lips["syncnet"]) - 1, len(self._sound) // (SOUND_HZ // RATE_HZ) - NUM_FRAMES
            )
            sound = _heard(self._syncnet, self._sound, count) if self._judged(count) else None
            found |= self._scored("sync", "syncnet", sound)
        if self._expert is not None:
            count = len(self._lips["expert"])
            sound = _overheard(self._expert, self._sound, count) if self._judged(count) else None
            found |= self._scored("sync_expert", "expert", sound)
        return found

    def _judged(self, count: int) -> bool:
        return self._whole and count > 0 and len(self._sound) >= SHORTEST_SOUND

    def _scored(self, prefix: str, name: str, sound: np.ndarray | None) -> dict[str, float]:
        score = SyncScore(float("nan"), float("nan"), 0)
        if sound is not None and len(sound):
            score = metrics.sync_score(np.concatenate(self._lips[name])[: len(sound)], sound)
        return {f"{prefix}_confidence": score.confidence, f"{prefix}_distance": score.distance}


@torch.no_grad()
def _heard(network: SyncNet, sound: Tensor, most: int) -> np.ndarray:
    """(N, 1024), a row for each frame that has all of its 20 columns."""
    columns = mfcc(sound).float()
    count = min(most, (columns.shape[1] - NUM_COLUMNS) // COLUMNS_PER_FRAME + 1)
    windows = [
        columns[None, :, COLUMNS_PER_FRAME * i : COLUMNS_PER_FRAME * i + NUM_COLUMNS] for i in range(count)
    ]
    return _embedded(network, windows)


@torch.no_grad()
def _overheard(network: SyncExpert, sound: Tensor, most: int) -> np.ndarray:
    """(N, C), a row for each frame that has all of its 16 columns: from column 3.2 n on."""
    columns = mel(sound.double()).float()
    starts = [16 * i // 5 for i in range(most)]
    windows = [
        columns[None, :, s : s + WINDOW_COLUMNS] for s in starts if s + WINDOW_COLUMNS <= columns.shape[1]
    ]
    return _embedded(network, windows)


def _embedded(network: SyncNet | SyncExpert, windows: list[Tensor]) -> np.ndarray:
    """A row for each window; none for sound that is too short to hold one."""
    if not windows:
        return np.zeros((0, 0), np.float32)
    return np.concatenate([network.embed_sound(part).numpy() for part in torch.stack(windows).split(64)])


def _lips_of(picture: np.ndarray, face: Landmarks) -> Tensor:
    """(3, 224, 224) BGR, 0 to 255: the published square, around the mesh's box; grey outside the picture."""
    low, high = face.xy[:NUM_MESH].min(0), face.xy[:NUM_MESH].max(0)
    half = float((high - low).max()) / 2
    x, y = (low + high) / 2
    side = 2 * GROWS * half
    left, top = x - GROWS * half, y + SINKS * half - GROWS * half
    scale = FRAME_PX / side
    matrix = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
    border = (GREY, GREY, GREY)
    square = cv2.warpAffine(
        picture, matrix, (FRAME_PX, FRAME_PX), borderMode=cv2.BORDER_CONSTANT, borderValue=border
    )
    return torch.from_numpy(np.ascontiguousarray(square[..., ::-1])).permute(2, 0, 1).float()


def _lower_half(picture: np.ndarray, face: Landmarks) -> Tensor:
    """(3, 48, 96) BGR in [0, 1]."""
    square = face_square(face, EXPERT_PX, 1.0).apply(picture)[EXPERT_PX // 2 :, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float() / 255
