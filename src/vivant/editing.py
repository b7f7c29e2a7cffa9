"""One portrait under any Controls: draw, and put into the picture what changed and nothing else.

    Controls --Engine.edit_motion--> Motion --render_edit--> frame --where it differs--> the whole picture

All controls zero is the picture itself, bit for bit. Otherwise pixels are replaced only where the drawn frame differs
from the portrait drawn without an edit, near what was to move; a head that moves is replaced as a whole. Knows no
family and no file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.controls import Controls
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.face.paste import paste_back
from vivant.ops.fetching import as_pixels

NOISE, CLEAR = 2 / 255, 8 / 255
"""Differences below the first are nothing, above the second an edit."""
GROWN = 9 / 256
"""Width of the rim that is taken along around what differs, in sides of the frame."""


class Editor:
    """A portrait ready to be edited, once or many times a second. Holds what it draws with; one thread at a time."""

    def __init__(self, engine: Engine[Any, Any, Any, Any, Any], portrait: Portrait) -> None:
        """Raises InputError where the family cannot edit."""
        self.engine, self.portrait = engine, portrait
        engine.edit_motion(portrait, Controls())
        self._state = engine.start_edit(portrait)
        self._unedited: Tensor | None = None

    def apply(self, controls: Controls) -> np.ndarray:
        """The whole picture, or the crop of a portrait that was one, uint8 RGB (H, W, 3). Raises InputError."""
        if not controls.changed:
            return self.picture.copy()
        motion = self.engine.edit_motion(self.portrait, controls)
        drawn = self._drawn(motion)
        if self._unedited is None:
            self._unedited = self._drawn(self.engine.edit_motion(self.portrait, Controls()))
        region = self.engine.edited_region(self.portrait, motion).to(drawn.device)
        where = torch.maximum(
            region * _difference(drawn, self._unedited),
            drawn.new_tensor(min(1.0, max(0.0, controls.head_moves))),
        )
        return self._shown(drawn, where)

    @property
    def picture(self) -> np.ndarray:
        """The portrait as it was given, uint8 RGB (H, W, 3). Not to be written to."""
        if self.portrait.framing is not None:
            return self.portrait.framing.image
        return as_pixels(self._reference()).cpu().numpy()

    def _drawn(self, motion: Any) -> Tensor:
        """(3, H, W) in [0, 1]."""
        frame: Tensor = self.engine.render_edit(self._state, motion)[0]
        if not bool(torch.isfinite(frame).all()):
            raise InputError(f"the edit is not a number in {self.engine.dtype}; load the engine in float32")
        return frame

    def _shown(self, drawn: Tensor, where: Tensor) -> np.ndarray:
        framing = self.portrait.framing
        if framing is None:
            base = self._reference()
            return as_pixels(base + where.cpu() * (drawn.cpu() - base)).numpy()
        mask = (where[0] * 255).round().byte().cpu().numpy()
        return paste_back(framing.image, as_pixels(drawn).cpu().numpy(), framing.crop, where=mask)

    def _reference(self) -> Tensor:
        """(3, H, W): the crop at the size of drawn frames."""
        reference = self.portrait.reference
        assert reference is not None, "a portrait that is made by `prepare` has its reference"
        size = self.engine.frame_size(self.portrait)
        return F.interpolate(reference[None].cpu(), size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def _difference(drawn: Tensor, unedited: Tensor) -> Tensor:
    """(1, H, W) in [0, 1]: where two frames (3, H, W) differ, grown by a soft rim; exactly 0 elsewhere."""
    differs = (drawn - unedited).abs().amax(0)
    clear = ((differs - NOISE) / (CLEAR - NOISE)).clamp(0, 1)[None, None]
    width = 2 * round(GROWN * drawn.shape[-1] / 2) + 1
    grown = F.max_pool2d(clear, width, 1, width // 2)
    for _ in range(2):  # two boxes are a tent
        grown = F.avg_pool2d(grown, width, 1, width // 2, count_include_pad=False)
    return grown[0]
