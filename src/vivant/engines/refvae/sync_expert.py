"""The lip-sync expert: one tower hears 200 ms of sound, one sees five mouths; close where they belong together.

Its audio tower is what the generator listens with (arXiv 2606.01620, reference 36); both towers together measure sync.
Keys are those of the published file (Wav2Lip, arXiv 2008.10010). Widths can be narrower than published, for towers of
our own. Every layer is convolution, batch normalisation, sum with its input where marked, ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

PUBLISHED_WIDTHS = (32, 64, 128, 256, 512)
WINDOW_COLUMNS = 16
"""Columns of the mel spectrogram that one video frame hears: 200 ms."""
FACE_FRAMES = 5


class _Layer(NamedTuple):
    """One line of the published tables: widths as places in the list of widths, kernel, stride, padding, sum."""

    num_in: int
    num_out: int
    kernel: int
    stride: int | tuple[int, int]
    padding: int
    sums: bool = False


_INPUT = -1

_AUDIO = (
    _Layer(_INPUT, 0, 3, 1, 1),
    _Layer(0, 0, 3, 1, 1, True),
    _Layer(0, 0, 3, 1, 1, True),
    _Layer(0, 1, 3, (3, 1), 1),
    _Layer(1, 1, 3, 1, 1, True),
    _Layer(1, 1, 3, 1, 1, True),
    _Layer(1, 2, 3, 3, 1),
    _Layer(2, 2, 3, 1, 1, True),
    _Layer(2, 2, 3, 1, 1, True),
    _Layer(2, 3, 3, (3, 2), 1),
    _Layer(3, 3, 3, 1, 1, True),
    _Layer(3, 3, 3, 1, 1, True),
    _Layer(3, 4, 3, 1, 0),
    _Layer(4, 4, 1, 1, 0),
)
_FACE = (
    _Layer(_INPUT, 0, 7, 1, 3),
    _Layer(0, 1, 5, (1, 2), 1),
    _Layer(1, 1, 3, 1, 1, True),
    _Layer(1, 1, 3, 1, 1, True),
    _Layer(1, 2, 3, 2, 1),
    _Layer(2, 2, 3, 1, 1, True),
    _Layer(2, 2, 3, 1, 1, True),
    _Layer(2, 2, 3, 1, 1, True),
    _Layer(2, 3, 3, 2, 1),
    _Layer(3, 3, 3, 1, 1, True),
    _Layer(3, 3, 3, 1, 1, True),
    _Layer(3, 4, 3, 2, 1),
    _Layer(4, 4, 3, 1, 1, True),
    _Layer(4, 4, 3, 1, 1, True),
    _Layer(4, 4, 3, 2, 1),
    _Layer(4, 4, 3, 1, 0),
    _Layer(4, 4, 1, 1, 0),
)


class _ConvNormRelu(nn.Module):
    def __init__(self, num_in: int, num_out: int, layer: _Layer):
        super().__init__()
        self.sums = layer.sums
        self.conv_block = nn.Sequential(
            nn.Conv2d(num_in, num_out, layer.kernel, layer.stride, layer.padding), nn.BatchNorm2d(num_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_block(x)
        return F.relu(y + x if self.sums else y)


def _tower(layers: Sequence[_Layer], num_in: int, widths: Sequence[int]) -> nn.Sequential:
    def width(place: int) -> int:
        return num_in if place == _INPUT else widths[place]

    return nn.Sequential(
        *(_ConvNormRelu(width(layer.num_in), width(layer.num_out), layer) for layer in layers)
    )


def audio_tower(widths: Sequence[int] = PUBLISHED_WIDTHS) -> nn.Sequential:
    """Mel windows (B, 1, 80, 16) in [-4, 4] -> features (B, C, 1, 1), never negative."""
    return _tower(_AUDIO, 1, widths)


def face_tower(widths: Sequence[int] = PUBLISHED_WIDTHS) -> nn.Sequential:
    """Five lower half faces (B, 15, 48, 96), frame after frame, BGR in [0, 1] -> features (B, C, 1, 1)."""
    return _tower(_FACE, 3 * FACE_FRAMES, widths)


class SyncExpert(nn.Module):
    """Both towers."""

    def __init__(self, widths: Sequence[int] = PUBLISHED_WIDTHS):
        super().__init__()
        self.audio_encoder, self.face_encoder = audio_tower(widths), face_tower(widths)

    def embed_sound(self, windows: Tensor) -> Tensor:
        """(B, 1, 80, 16) -> unit vectors (B, C)."""
        return F.normalize(self.audio_encoder(windows).flatten(1), dim=1)

    def embed_faces(self, faces: Tensor) -> Tensor:
        """(B, 15, 48, 96) -> unit vectors (B, C)."""
        return F.normalize(self.face_encoder(faces).flatten(1), dim=1)


def give_ears(audio: nn.Module, expert: Mapping[str, Tensor]) -> None:
    """Start an audio tower from a lip-sync expert's, in place, unless its widths are others."""
    own, prefix = audio.state_dict(), "audio_encoder."
    found = {key.removeprefix(prefix): value for key, value in expert.items() if key.startswith(prefix)}
    if {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in found.items()}:
        audio.load_state_dict(found)
