"""Stage II of the paper: stitching and retargeting networks, with everything else frozen (Eq. 5 and 6).

The compact set has no stitching network (decision 0020), so Eq. 5 is for the published one.

Nothing has a true picture here. Stitching is taught by the portrait's own shoulders: drawn under another person's
motion they shall look as in the self-reconstruction. Retargeting is taught by looking: the frozen motion networks
read the drawn picture, and what they read shall be what was asked for, while the rest of the picture stays.
Serves both sets of networks. Legend: B batch, K keypoints, S side of the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.engines.liveportrait import losses
from vivant.engines.liveportrait.config import MAX_OPEN, Config, Options
from vivant.engines.liveportrait.motion import Motion, drive, keypoints
from vivant.engines.liveportrait.motion_compact import CompactMotionNetwork
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.retargeting_compact import WIDEST_EYES, WIDEST_LIPS
from vivant.engines.liveportrait.stages import pictures_to_float
from vivant.studio.dataset import Session
from vivant.training.config import TrainConfig
from vivant.training.data.portraits import Portraits, PortraitSettings

DEFAULT_WEIGHTS = {
    "stitch_same": 20.0,
    "stitch_small": 0.3,
    "open_same": 30.0,
    "eyes_condition": 2.0,
    "lips_condition": 2.0,
    "open_small": 1.0,
}
"""Weight of each term of Eq. 5 and 6; the paper names them and gives no values."""


class RetargetingStage:
    """Trains S (published), R_eyes and R_lip. `reader` says how open eyes and lips of a picture are, and is frozen."""

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        backgrounds: np.ndarray,
        networks: CompactNetworks | PublishedNetworks,
        reader: CompactMotionNetwork | None,
        settings: TrainConfig,
    ):
        self.config = config
        self.sessions, self.backgrounds = sessions, backgrounds
        self.network: nn.Module = networks
        self._reader = reader
        self.weights = DEFAULT_WEIGHTS | dict(settings.extra.get("weights", {}))
        if unknown := self.weights.keys() - DEFAULT_WEIGHTS.keys():
            raise ValueError(f"unknown loss terms {sorted(unknown)}; there are {sorted(DEFAULT_WEIGHTS)}")

    @property
    def networks(self) -> CompactNetworks | PublishedNetworks:
        assert isinstance(self.network, CompactNetworks | PublishedNetworks)
        return self.network

    @property
    def reader(self) -> CompactMotionNetwork:
        """The network that reads drawn pictures: the compact set's own, or the one given."""
        if self._reader is not None:
            return self._reader
        assert isinstance(self.network, CompactNetworks)
        return self.network.motion_network

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = PortraitSettings(
            size_px=int(config.extra["size_px"]), batch_size=config.batch_size, seed=config.seed
        )
        return Portraits(self.sessions, settings, self.backgrounds, rank)

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "liveportrait", self.config, network)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        self.network.eval()
        source = pictures_to_float(batch["source"])
        with torch.no_grad():
            seen = _seen(self.networks, source)
            x_s = keypoints(seen, seen.canonical, self.config)
            appearance = tuple(self.networks.appearance(source))
            same = self.networks.generate(appearance, x_s, x_s, seen, seen)
        at = batch["source_points"]
        terms = self._opening_terms(appearance, (seen, x_s), same, at)
        if isinstance(self.network, PublishedNetworks):
            with torch.no_grad():
                # The cross-identity motion: somebody else, from one of his pictures to another.
                other = _seen(self.networks, pictures_to_float(batch["driving"]))
                cross = drive(seen, _rolled(other), _rolled(seen), Options(), self.config)
                x_d = keypoints(cross, cross.canonical, self.config)
            terms |= self._stitching_terms(appearance, (seen, x_s), (cross, x_d), same, at)
        return {name: self.weights[name] * value for name, value in terms.items()}

    def _stitching_terms(
        self,
        appearance: tuple[Tensor, ...],
        source: tuple[Motion, Tensor],
        driven: tuple[Motion, Tensor],
        same: Tensor,
        at: Tensor,
    ) -> dict[str, Tensor]:
        """Eq. 5."""
        stitched = self.networks.stitch(source[1], driven[1])
        image = self.networks.generate(appearance, source[1], stitched, source[0], driven[0])
        shoulders = losses.shoulder_mask(at, same.shape[-1])
        return {
            "stitch_same": losses.masked_l1(image, same, shoulders),
            "stitch_small": (stitched - driven[1]).abs().mean(),
        }

    def _opening_terms(
        self, appearance: tuple[Tensor, ...], source: tuple[Motion, Tensor], same: Tensor, at: Tensor
    ) -> dict[str, Tensor]:
        """Eq. 6, eyes and lips in one drawing: their offsets touch different points and add up (section 3.4)."""
        motion, x_s = source
        published = isinstance(self.network, PublishedNetworks)
        widest_eyes, widest_lips = (MAX_OPEN, MAX_OPEN) if published else (WIDEST_EYES, WIDEST_LIPS)
        eyes = torch.rand(len(x_s), 2, device=x_s.device) * widest_eyes
        # The published condition is one number for both eyes; ours may wink, in half of the batch.
        together = torch.rand(len(x_s), 1, device=x_s.device) < 0.5
        if published:
            together = torch.ones_like(together)
        eyes = torch.where(together, eyes[:, :1].expand(-1, 2), eyes)
        lips = torch.rand(len(x_s), 1, device=x_s.device) * widest_lips
        begin = replace(motion, eyes_open=None, lips_open=None)
        measured = self._measured(motion, same) if published else motion
        opened, offset = self.networks.retarget(measured, x_s, begin, eyes, lips)
        image = self.networks.generate(appearance, x_s, x_s + offset, motion, opened)
        read = self._read(image)
        kept = 1 - torch.maximum(*losses.opening_masks(at, same.shape[-1]))
        return {
            "open_same": losses.masked_l1(image, same, kept),
            "eyes_condition": (_value(read.eyes_open) - eyes).abs().mean(),
            "lips_condition": (_value(read.lips_open) - lips).abs().mean(),
            "open_small": offset.abs().mean(),
        }

    def _read(self, image: Tensor) -> Motion:
        """Openness of drawn pictures (B, 3, S, S), differentiable; pose is read without a gradient."""
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            reader = self.reader.to(image.device)  # one that was given is no part of the network
            with torch.no_grad():
                coarse = reader.coarse(image)
            return reader.refine(image, coarse).as_motion()

    @torch.no_grad()
    def _measured(self, motion: Motion, image: Tensor) -> Motion:
        read = self._read(image)
        return replace(motion, eyes_open=read.eyes_open, lips_open=read.lips_open)

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Source, then eyes opened 0 and 0.5, then lips opened 0 and 0.6: one row per person."""
        assert isinstance(network, CompactNetworks | PublishedNetworks)
        network.eval()
        source = pictures_to_float(batch["source"])
        seen = _seen(network, source)
        seen = seen if seen.eyes_open is not None else self._measured(seen, source)
        x_s = keypoints(seen, seen.canonical, self.config)
        appearance = tuple(network.appearance(source))
        columns = [network.generate(appearance, x_s, x_s, seen, seen).float()]
        for eyes, lips in ((0.0, None), (0.5, None), (None, 0.0), (None, 0.6)):
            wanted = [
                None if value is None else x_s.new_full((len(x_s), width), value)
                for value, width in ((eyes, 2), (lips, 1))
            ]
            opened, offset = network.retarget(seen, x_s, seen, *wanted)
            columns.append(network.generate(appearance, x_s, x_s + offset, seen, opened).float())
        return [torch.cat([column[i] for column in columns], 2) for i in range(len(source))]


def _seen(networks: CompactNetworks | PublishedNetworks, image: Tensor) -> Motion:
    return networks.motion(image).to(dtype=torch.float32)


def _rolled(motion: Motion) -> Motion:
    """Everybody's motion given to the next in the batch."""
    return Motion(**{name: value.roll(1, 0) for name, value in motion.to_tensors().items()})


def _value(ratio: Tensor | None) -> Tensor:
    assert ratio is not None, "the named points always say how open a face is"
    return ratio
