"""SyncNet: do lips and sound belong together? (J. S. Chung, A. Zisserman, "Out of time", 2016).

Keys are those of the released syncnet_v2.model. Lips are five frames (3, 5, 224, 224), BGR, 0 to 255, not normalised;
sound is 20 columns of MFCC (1, 13, 20). The scores are in `metrics.sync`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from vivant import published

NUM_FRAMES, FRAME_PX = 5, 224
NUM_COLUMNS, NUM_COEFFICIENTS = 20, 13


def _sound() -> nn.Sequential:
    layers: list[nn.Module] = []
    num_in = 1
    for width, pool in ((64, nn.MaxPool2d(1, 1)), (192, nn.MaxPool2d(3, (1, 2))), (384, None), (256, None)):
        layers += [nn.Conv2d(num_in, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [pool] if pool is not None else []
        num_in = width
    layers += [nn.Conv2d(256, 256, 3, 1, 1), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(256, 512, (5, 4)), nn.BatchNorm2d(512), nn.ReLU()]
    return nn.Sequential(*layers)


def _lips() -> nn.Sequential:
    def layer(
        num_in: int, num_out: int, kernel: tuple[int, int, int], stride: int, padding: int
    ) -> list[nn.Module]:
        convolution = nn.Conv3d(num_in, num_out, kernel, (1, stride, stride), (0, padding, padding))
        return [convolution, nn.BatchNorm3d(num_out), nn.ReLU()]

    pool, padded_pool = (nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, padding, padding)) for padding in (0, 1))
    return nn.Sequential(
        *layer(3, 96, (5, 7, 7), 2, 0),
        pool,
        *layer(96, 256, (1, 5, 5), 2, 1),
        padded_pool,
        *(part for _ in range(3) for part in layer(256, 256, (1, 3, 3), 1, 1)),
        pool,
        *layer(256, 512, (1, 6, 6), 1, 0),
    )


def _last() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Both towers; their outputs are compared by distance, not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud, self.netfcaud = _sound(), _last()
        self.netcnnlip, self.netfclip = _lips(), _last()

    def embed_sound(self, windows: Tensor) -> Tensor:
        """(B, 1, 13, 20) -> (B, 1024)."""
        out: Tensor = self.netfcaud(self.netcnnaud(windows).flatten(1))
        return out

    def embed_lips(self, frames: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224) -> (B, 1024)."""
        out: Tensor = self.netfclip(self.netcnnlip(frames).flatten(1))
        return out


def load_syncnet(path: Path) -> SyncNet:
    """The network with the weights of syncnet_v2.model. Raises CheckpointError where it is another file."""
    network = SyncNet()
    found = published.check_tensors(path, published.read_file(path))
    expected = network.state_dict()
    # The released file is old and may lack the counters, which inference does not read.
    found = {
        key: found.get(key, expected[key]) for key in expected if key.endswith("num_batches_tracked")
    } | found
    published.check_fit(path, found, expected, "")
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)
