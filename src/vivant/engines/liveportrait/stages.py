"""Training stages of the compact networks: what trains, on what, with which weights of which losses.

Stage `motion` learns pose and expression alone; stage `generator` learns to draw, first with the renderer's
motion (predicted motion that is still bad makes flow worse), later with a growing share of predicted motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.engines.liveportrait import losses, points
from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.generator_compact import Appearance, Generated, motion_code
from vivant.engines.liveportrait.motion_compact import CompactMotion, project
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.studio.dataset import Session
from vivant.training.config import TrainConfig
from vivant.training.data.portraits import Portraits, PortraitSettings


def pictures_to_float(images: Tensor) -> Tensor:
    """uint8 (B, n, n, 3) -> float (B, 3, n, n) in [0, 1], channels last in memory."""
    return (images.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)


class CompactStage:
    """What both stages share: networks, data, export."""

    pairs: bool

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        backgrounds: np.ndarray,
        networks: CompactNetworks,
    ):
        self.config = config
        self.sessions, self.backgrounds = sessions, backgrounds
        self.network: nn.Module = networks
        for parameter in self.network.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    @property
    def networks(self) -> CompactNetworks:
        assert isinstance(self.network, CompactNetworks)
        return self.network

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = PortraitSettings(
            size_px=int(config.extra["size_px"]),
            batch_size=config.batch_size,
            seed=config.seed,
            pairs=self.pairs,
            contrast=float(config.extra.get("contrast", 0.0)),
            near=float(config.extra.get("near", 0.0)),
            turn=float(config.extra.get("turn", 0.0)),
            camera_distance=self.networks.motion_network.camera_distance,
        )
        return Portraits(self.sessions, settings, self.backgrounds, rank)

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "liveportrait", self.config, network)


class MotionStage(CompactStage):
    """Pose, shape, expression, weights and gaze from single pictures; everything is known, so it is regression."""

    pairs = False

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        network = self.networks.motion_network
        image = disturb(pictures_to_float(batch["image"]))
        coarse = network.coarse(image)
        weight = losses.point_weights(image.device)[None, :, None]
        got = project(
            coarse.canonical,
            coarse.expression,
            coarse.rotation,
            coarse.scale,
            coarse.translation,
            network.camera_distance,
        )
        truth = true_motion(batch, "")
        want = project(
            truth.canonical,
            truth.expression,
            truth.rotation,
            truth.scale,
            truth.translation,
            network.camera_distance,
        )
        z_shape = (coarse.canonical - network.mean_shape) / network.std_shape
        want_shape = (truth.canonical - network.mean_shape) / network.std_shape
        z_expression = coarse.expression / network.std_expression
        terms = {
            "points": 8 * ((got - want).abs() * weight).mean(),
            "shape": 0.5 * F.smooth_l1_loss(z_shape, want_shape),
            "coarse": 0.5 * losses.expression_error(z_expression, truth.expression, network.std_expression),
            "rotation": 4 * (coarse.rotation - truth.rotation).abs().mean(),
            "place": 4 * (coarse.translation - truth.translation).abs().mean()
            + 4 * (coarse.scale - truth.scale).abs().mean(),
        }
        # Local networks see crops placed by the true pose, disturbed as much as a fair guess would be; for a
        # third of the batch by the guess itself.
        placed = mix(truth, detached(coarse), torch.rand(len(image), device=image.device) < 0.33)
        return terms | self._local_terms(image, placed, truth)

    def _local_terms(self, image: Tensor, placed: CompactMotion, truth: CompactMotion) -> dict[str, Tensor]:
        network = self.networks.motion_network
        z_mouth, z_right, z_left, w_mouth, w_eyes, gaze = network.local(image, placed, jitter=0.6)
        eyes = network.eye_weights

        def error(z: Tensor, region: tuple[int, ...]) -> Tensor:
            index = list(region)
            return losses.expression_error(z, truth.expression[:, index], network.std_expression[index])

        return {
            "mouth": 2 * error(z_mouth, points.MOUTH_REGION),
            "eyes": error(z_right, points.EYE_REGION_RIGHT) + error(z_left, points.EYE_REGION_LEFT),
            "weights": 8 * F.mse_loss(w_mouth[:, ~eyes], truth.weights[:, ~eyes])
            + 8 * F.mse_loss(w_eyes[:, eyes], truth.weights[:, eyes]),
            "gaze": 0.03 * (gaze - truth.gaze).abs().mean(),
        }

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()


class GeneratorStage(CompactStage):
    """Drawing the driving picture from the source picture; motion networks are frozen."""

    pairs = True

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        source, driving = pictures_to_float(batch["source"]), pictures_to_float(batch["driving"])
        self.networks.motion_network.eval()
        out, seen = draw(self.networks, batch, source, driving, self.predicted_share(progress))
        size = source.shape[-1]
        weight = losses.region_weight(batch["driving_points"], size, self.region_gain)
        visible = batch["visible"]
        near = F.avg_pool2d(weight, 4)[:, 0]
        flow_fine = F.avg_pool2d(out.flow.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        background = pictures_to_float(batch["background"])
        plate = seen.layers[:, 4:]
        alpha = batch["source_alpha"].float()[:, None] / 255
        moved = F.interpolate(visible[:, None], size=size, mode="nearest") * weight
        half = F.avg_pool2d(out.image, 2), F.avg_pool2d(driving, 2), F.avg_pool2d(weight, 2)
        quarter = tuple(F.avg_pool2d(x, 2) for x in half)
        terms = {
            "image": 6 * losses.weighted_l1(out.image, driving, weight),
            "image_half": 3 * losses.weighted_l1(*half),
            "image_quarter": 3 * losses.weighted_l1(*quarter),
            "edges": 3 * losses.gradient_l1(out.image, driving, weight),
            "warped": 2 * losses.weighted_l1(out.warped[:, :3], driving, moved),
            "painted": 0.5 * losses.weighted_l1(out.painted, driving, weight),
            "flow": 2 * losses.flow_error(out.coarse_flow, batch["flow"], visible, near)
            + 2 * losses.flow_error(flow_fine, batch["flow"], visible, near),
            "plate": 1.0 * (plate - background).abs().mean(),
            "alpha": 0.5 * (seen.layers[:, 3:4] - alpha).abs().mean(),
        }
        return terms | self._seen_terms(out, driving, batch, progress)

    def _seen_terms(
        self, out: Generated, driving: Tensor, batch: dict[str, Tensor], progress: float
    ) -> dict[str, Tensor]:
        """What the frozen motion networks see in the drawn picture: features, and mouth and eyes re-read from it."""
        network = self.networks.motion_network
        small = F.interpolate(out.image, size=128, mode="bilinear", align_corners=False, antialias=True)
        wanted = F.interpolate(driving, size=128, mode="bilinear", align_corners=False, antialias=True)
        terms = {
            "perceptual": 0.1 * losses.perceptual(lambda x: network.pose.trunk.features(x)[:4], small, wanted)
        }
        if self.critic_weight:
            truth = true_motion(batch, "driving_")
            z_mouth, z_right, z_left, *_ = network.local(out.image, truth)
            with torch.no_grad():
                y_mouth, y_right, y_left, *_ = network.local(driving, truth)
            terms["critic"] = self.critic_weight * (
                F.smooth_l1_loss(z_mouth, y_mouth)
                + F.smooth_l1_loss(z_right, y_right)
                + F.smooth_l1_loss(z_left, y_left)
            )
        return terms

    critic_weight = 0.0
    region_gain = 4.0
    share_start, share_end = 0.0, 0.0

    def configure(self, config: TrainConfig) -> None:
        """Take the stage's own settings from the recipe."""
        self.critic_weight = float(config.extra.get("critic_weight", 0.0))
        self.region_gain = float(config.extra.get("region_gain", 4.0))
        self.share_start = float(config.extra.get("predicted_start", 0.0))
        self.share_end = float(config.extra.get("predicted_end", 0.0))

    def predicted_share(self, progress: float) -> float:
        """Share of the batch that is driven by predicted instead of true motion."""
        return self.share_start + (self.share_end - self.share_start) * progress

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Source, driving, drawn, warped, painted, blend, plate: one row per pair, on predicted motion."""
        assert isinstance(network, CompactNetworks)
        source, driving = pictures_to_float(batch["source"]), pictures_to_float(batch["driving"])
        out, seen = draw(network, batch, source, driving, 1.0)
        columns = [source, driving, out.image, out.warped[:, :3], out.painted, out.blend, seen.layers[:, 4:]]
        return [torch.cat([c[i].float() for c in columns], 2) for i in range(len(source))]


def draw(
    networks: CompactNetworks,
    batch: dict[str, Tensor],
    source: Tensor,
    driving: Tensor,
    predicted_share: float,
) -> tuple[Generated, Appearance]:
    """The drawn driving picture and the source's appearance."""
    distance = networks.motion_network.camera_distance
    motions = [true_motion(batch, "source_"), true_motion(batch, "driving_")]
    if predicted_share > 0:
        with torch.no_grad():
            both = networks.motion_network(torch.cat([source, driving]))
        chosen = torch.rand(len(source), device=source.device) < predicted_share
        parts = [split(both, 0, len(source)), split(both, len(source), 2 * len(source))]
        # As in use, the source's neutral shape serves both pictures.
        parts[1].canonical = parts[0].canonical
        motions = [mix(m, p, chosen) for m, p in zip(motions, parts, strict=True)]
    kps = [project(m.canonical, m.expression, m.rotation, m.scale, m.translation, distance) for m in motions]
    codes = [motion_code(m.rotation, m.expression) for m in motions]
    seen = networks.generator.encoder(source)
    return networks.generator(seen, kps[0], kps[1], codes[0], codes[1]), seen


def true_motion(batch: dict[str, Tensor], prefix: str) -> CompactMotion:
    """The renderer's motion of a batch."""
    names = ("rotation", "scale", "translation", "canonical", "expression", "weights", "gaze")
    return CompactMotion(**{name: batch[prefix + name] for name in names})


def split(motion: CompactMotion, start: int, stop: int) -> CompactMotion:
    return CompactMotion(**{k: v[start:stop] for k, v in vars(motion).items()})


def detached(motion: CompactMotion) -> CompactMotion:
    return CompactMotion(**{k: v.detach() for k, v in vars(motion).items()})


def mix(first: CompactMotion, second: CompactMotion, chosen: Tensor) -> CompactMotion:
    """`second` where chosen (B,) is true, else `first`."""
    return CompactMotion(
        **{
            k: torch.where(chosen.view(-1, *[1] * (v.dim() - 1)), getattr(second, k).to(v.dtype), v)
            for k, v in vars(first).items()
        }
    )


def disturb(image: Tensor) -> Tensor:
    """Colour casts, grey and pasted rectangles on (B, 3, n, n): what a camera and hands do to a face."""
    count, _, size, _ = image.shape
    device = image.device
    gain = 1 + 0.15 * torch.randn(count, 3, 1, 1, device=device)
    shift = 0.06 * torch.randn(count, 3, 1, 1, device=device)
    image = torch.addcmul(shift, image, gain).clamp_(0, 1)
    for i in torch.nonzero(torch.rand(count) < 0.15).flatten().tolist():
        image[i] = image[i].mean(0, keepdim=True)
    for i in torch.nonzero(torch.rand(count) < 0.35).flatten().tolist():
        for _ in range(int(torch.randint(1, 4, ()))):
            height, width = torch.randint(size // 20, size // 3, (2,)).tolist()
            top, left = torch.randint(0, size - height, ()), torch.randint(0, size - width, ())
            image[i, :, top : top + height, left : left + width] = torch.rand(3, 1, 1, device=device)
    return image.contiguous(memory_format=torch.channels_last)
