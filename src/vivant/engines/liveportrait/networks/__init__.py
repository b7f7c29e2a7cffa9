"""The five published networks behind four methods. Plain PyTorch, single device, no state, no files.

F appearance, M motion, W warping, G generation, S stitching and retargeting (arXiv 2407.03168, Fig. 2):

    portrait --F--> volume --\\
    portrait --M--> x_s ------W--> warped map --G--> picture
    driving  --M--> x_d -----/

As built, the modules have the keys and the arithmetic of the published weights. `fold` turns them, in place, into
an equal and faster form for inference.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.motion import Motion
from vivant.engines.liveportrait.networks.appearance import AppearanceExtractor
from vivant.engines.liveportrait.networks.folded_appearance import FoldedAppearance
from vivant.engines.liveportrait.networks.folded_generator import FoldedGenerator
from vivant.engines.liveportrait.networks.folded_warping import FoldedWarping
from vivant.engines.liveportrait.networks.generator import Generator
from vivant.engines.liveportrait.networks.stitching import StitchingRetargeting
from vivant.engines.liveportrait.networks.warping import WarpingNetwork
from vivant.face.motion_extractor import MotionExtractor
from vivant.ops.rotation import degrees_from_bins, rotation_from_degrees

__all__ = ["PublishedNetworks"]


class PublishedNetworks(nn.Module):
    """Everything that a published LivePortrait checkpoint holds."""

    appearance_extractor: AppearanceExtractor | FoldedAppearance
    warping: WarpingNetwork | FoldedWarping
    generator: Generator | FoldedGenerator

    def __init__(self, config: Config):
        super().__init__()
        if config.published is None:
            raise ValueError(f"these are the published networks, the config is for {config.networks!r}")
        sizes = config.published
        self.appearance_extractor = AppearanceExtractor(sizes)
        self.motion_extractor = MotionExtractor(
            sizes.motion_channels, config.num_keypoints, sizes.num_angle_bins
        )
        self.warping = WarpingNetwork(sizes, config.num_keypoints)
        self.generator = Generator(sizes)
        self.stitching: StitchingRetargeting | None = None
        if sizes.stitching_hidden:
            self.stitching = StitchingRetargeting(sizes, config.num_keypoints)

    def appearance(self, image: Tensor) -> tuple[Tensor, ...]:
        """Crop (B, 3, S, S) RGB in [0, 1] -> what `generate` needs of it: volume and compressed volume."""
        with self._computing(image.device):
            return self.warping.prepare(self.appearance_extractor(image))

    def motion(self, image: Tensor) -> Motion:
        """Crops (B, 3, S, S) RGB in [0, 1] -> their motion, float32."""
        heads = self.motion_extractor(image)
        angles = (degrees_from_bins(logits) for logits in (heads.pitch, heads.yaw, heads.roll))
        return Motion(
            rotation=rotation_from_degrees(*angles),
            expression=heads.expression,
            scale=heads.scale,
            translation=heads.translation,
            canonical=heads.canonical,
        )

    def generate(
        self,
        appearance: tuple[Tensor, ...],
        keypoints_source: Tensor,
        keypoints_driving: Tensor,
        source: Motion | None = None,
        driving: Motion | None = None,
        held: Tensor | None = None,
    ) -> Tensor:
        """One appearance, keypoints (1 or B, K, 3) and (B, K, 3) -> pictures (B, 3, 2S, 2S) in [0, 1].

        The two motions and `held` are there for the compact networks; here stitched keypoints say it all.
        """
        volume, compressed = appearance
        count = len(keypoints_driving)
        volume, compressed, keypoints_source = (
            x.expand(count, *x.shape[1:]) for x in (volume, compressed, keypoints_source.float())
        )
        with self._computing(volume.device):
            warped = self.warping((volume, compressed), keypoints_source, keypoints_driving.float())
            return self.generator(warped).float()

    @property
    def has_retargeting(self) -> bool:
        return self.stitching is not None

    @property
    def has_stitching(self) -> bool:
        return self.stitching is not None

    def stitch(self, source: Tensor, driven: Tensor) -> Tensor:
        """x_s (1 or T, K, 3) and x_d (T, K, 3) -> x_d + S(x_s, x_d)."""
        assert self.stitching is not None, "callers ask has_retargeting first"
        with torch.autocast(driven.device.type, enabled=False):
            return self.stitching.stitch(source.float(), driven.float())

    def retarget(
        self,
        source: Motion,
        source_keypoints: Tensor,
        driven: Motion,
        eyes: Tensor | None,
        lips: Tensor | None,
    ) -> tuple[Motion, Tensor]:
        """Offsets (T, K, 3) that open eyes (T, 2) and lips (T, 1) so far; see retargeting.RetargetingNetworks.

        The networks know only offsets from the source, so what the driven motion has done already is taken off:
        R(x_s, c_s, wanted) - R(x_s, c_s, driven). One wanted value serves both eyes (paper): their mean.
        """
        assert self.stitching is not None, "callers ask has_retargeting first"
        frames = len(driven)
        source = source.repeat(frames) if len(source) == 1 else source
        at = source_keypoints.float().expand(frames, -1, -1)
        offset = torch.zeros_like(at)
        with torch.autocast(at.device.type, enabled=False):
            if eyes is not None:
                assert source.eyes_open is not None
                offset = offset + self.stitching.open_eyes(at, source.eyes_open, eyes.mean(1, keepdim=True))
                if driven.eyes_open is not None:
                    now = driven.eyes_open.mean(1, keepdim=True)
                    offset = offset - self.stitching.open_eyes(at, source.eyes_open, now)
                driven = replace(driven, eyes_open=eyes)
            if lips is not None:
                assert source.lips_open is not None
                offset = offset + self.stitching.open_lips(at, source.lips_open, lips)
                if driven.lips_open is not None:
                    offset = offset - self.stitching.open_lips(at, source.lips_open, driven.lips_open)
                driven = replace(driven, lips_open=lips)
        return driven, offset

    def retargeting_calls(self, source: Tensor, driven: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """Example calls of the three small networks, for keypoints (1, K, 3); none where there are none."""
        if self.stitching is None:
            return {}
        open_now, wanted = source.new_full((1, 2), 0.3), source.new_full((1, 1), 0.2)
        return {
            "stitching.stitch": (source, driven),
            "stitching.open_eyes": (source, open_now, wanted),
            "stitching.open_lips": (source, open_now[:, :1], wanted),
        }

    def _computing(self, device: torch.device) -> AbstractContextManager[object]:
        """The folded networks choose their own precision, layer by layer; autocast would undo that."""
        folded = isinstance(self.generator, FoldedGenerator)
        return torch.autocast(device.type, enabled=False) if folded else nullcontext()

    @torch.no_grad()
    def fold(self, *, generator: bool = True) -> None:
        """Become the faster form, for inference only. Afterwards the keys are no longer the published ones.

        generator: also G, whose folded form writes into strided views, which graphs do not like.
        """
        plain = self.appearance_extractor, self.warping, self.generator
        assert isinstance(plain[0], AppearanceExtractor), "folded already"
        assert isinstance(plain[1], WarpingNetwork)
        assert isinstance(plain[2], Generator)
        self.appearance_extractor = FoldedAppearance(plain[0])
        self.warping = FoldedWarping(plain[1])
        if generator:
            self.generator = FoldedGenerator(plain[2])
        self.requires_grad_(False)
