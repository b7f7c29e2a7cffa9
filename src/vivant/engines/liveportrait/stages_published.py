"""Stage I of the paper for the published networks: F, M, W, G from scratch, every term switchable.

The paper names its terms (arXiv 2407.03168, Eq. 3 and 4) and no weight; ours are settings of the recipe. Studio data
know pose, points and flow, so direct supervision stands beside the self-supervised terms. A weight of 0 removes a
term and what it would cost. Legend: B batch, K keypoints, S side of the network input (pictures have side 2S).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.engines.liveportrait import losses, points
from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.motion import Motion, keypoints
from vivant.engines.liveportrait.motion_compact import crop_at
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.stages import pictures_to_float
from vivant.ops.exact import exactly
from vivant.ops.rotation import degrees_from_rotation
from vivant.studio.dataset import Session
from vivant.training.config import TrainConfig
from vivant.training.data.clips import Alternating, Clip, ClipPairs
from vivant.training.data.portraits import Portraits, PortraitSettings

GUIDED_LANDMARKS = (36, 39, 42, 45, 48, 54, 51, 57, 62, 66)
"""Eye corners, mouth corners and lip centres; the paper says "10 landmarks of eyes and lip" and not which.

Keypoint k is guided to the k-th of these; the paper leaves the assignment open as well.
"""

DEFAULT_WEIGHTS = {
    "equivariance": 10.0,
    "keypoint_prior": 10.0,
    "head_pose": 0.05,
    "deformation_prior": 5.0,
    "perceptual": 1.0,
    "perceptual_face": 0.5,
    "perceptual_lip": 0.5,
    "gan": 0.1,
    "gan_face": 0.05,
    "gan_lip": 0.05,
    "face_identity": 0.2,
    "landmark_guidance": 10.0,
    "image": 5.0,
    "points": 2.0,
    "flow": 1.0,
}
"""Weight of each term. The last three are direct supervision by the renderer and not in the paper."""


def term_weights(settings: TrainConfig) -> dict[str, float]:
    """DEFAULT_WEIGHTS with the recipe's own. Raises ValueError for a term that does not exist."""
    weights = DEFAULT_WEIGHTS | dict(settings.extra.get("weights", {}))
    if unknown := weights.keys() - DEFAULT_WEIGHTS.keys():
        raise ValueError(f"unknown loss terms {sorted(unknown)}; there are {sorted(DEFAULT_WEIGHTS)}")
    return weights


USUAL_FACE = (0.0, 0.25)
"""Middle of the face in a crop, crop units: crops are shifted by an eighth towards the forehead."""


class PatchDiscriminator(nn.Sequential):
    """Scores overlapping patches of (B, 3, n, n); spectral norm, no batch norm."""

    def __init__(self, width: int, num_halvings: int = 3):
        layers: list[nn.Module] = []
        channels = [3, *(min(width * 2**i, 8 * width) for i in range(num_halvings))]
        for a, b in pairwise(channels):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, 2, 1)), nn.LeakyReLU(0.2)]
        layers.append(nn.utils.parametrizations.spectral_norm(nn.Conv2d(channels[-1], 1, 3, 1, 1)))
        super().__init__(*layers)


class AdversarialNetworks(nn.Module):
    """What a stage-I run trains and saves: the family's networks and three discriminators."""

    shard_whole = True
    """Read by vivant.training.distributed: parts are used by their methods, the whole by `forward`."""

    def __init__(self, networks: PublishedNetworks, discriminator_width: int):
        super().__init__()
        self.networks = networks
        self.discriminators = nn.ModuleDict(
            {name: PatchDiscriminator(discriminator_width) for name in ("gan", "gan_face", "gan_lip")}
        )

    def forward(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The terms that `compute` makes with the networks; FSDP gathers their weights around it."""
        return compute()


class PublishedStage:
    """Stage I. `features` and `embed` are frozen networks for the perceptual and the identity term."""

    def __init__(
        self,
        config: Config,
        sessions: Sequence[Session],
        backgrounds: np.ndarray,
        networks: PublishedNetworks,
        *,
        features: losses.Features,
        embed: losses.Embedding,
        settings: TrainConfig,
    ):
        self.config = config
        self.sessions, self.backgrounds = sessions, backgrounds
        self.features, self.embed = features, embed
        self.weights = term_weights(settings)
        self.network: nn.Module = AdversarialNetworks(
            networks, int(settings.extra.get("discriminator_width", 64))
        )

    @property
    def networks(self) -> PublishedNetworks:
        assert isinstance(self.network, AdversarialNetworks)
        return self.network.networks

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = PortraitSettings(
            size_px=int(config.extra["size_px"]), batch_size=config.batch_size, seed=config.seed
        )
        return Portraits(self.sessions, settings, self.backgrounds, rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        return self.network(lambda: self._terms(batch))

    def _terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        source, target = pictures_to_float(batch["source"]), pictures_to_float(batch["driving"])
        count = len(source)
        small = F.avg_pool2d(torch.cat([source, target]), 2)
        motion = self.networks.motion(small)
        kps = keypoints(motion, motion.canonical, self.config)
        seen = self.networks.appearance(small[:count])
        drawn = self.networks.generate(seen, kps[:count], kps[count:])
        terms = self._motion_terms(small, motion, kps, batch)
        terms |= self._picture_terms(drawn, target, batch.get("driving_points"))
        return {name: self.weights[name] * value for name, value in terms.items()}

    def _motion_terms(
        self, small: Tensor, motion: Motion, kps: Tensor, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What the motion networks are taught; of pictures without labels, only what needs none."""
        terms: dict[str, Tensor] = {}
        if self.weights["equivariance"]:
            moved, transform = random_similarity(small)
            other = self.networks.motion(moved)
            there = keypoints(other, other.canonical, self.config)
            terms["equivariance"] = losses.equivariance(kps, there, transform)
        if self.weights["keypoint_prior"]:
            terms["keypoint_prior"] = losses.keypoint_prior(kps)
        if self.weights["deformation_prior"]:
            terms["deformation_prior"] = losses.deformation_prior(motion.expression)
        return terms | self._labelled_terms(motion, kps, batch) if "flow" in batch else terms

    def _labelled_terms(self, motion: Motion, kps: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        truth = torch.cat([batch["source_points"], batch["driving_points"]])
        if self.weights["head_pose"]:
            rotation = torch.cat([batch["source_rotation"], batch["driving_rotation"]])
            want = torch.stack(degrees_from_rotation(rotation), 1)
            terms["head_pose"] = losses.head_pose(
                torch.stack([motion.pitch, motion.yaw, motion.roll], 1), want
            )
        pairs = list(enumerate(GUIDED_LANDMARKS))[: kps.shape[1]]
        if self.weights["landmark_guidance"]:
            terms["landmark_guidance"] = losses.landmark_guidance(kps, truth, pairs)
        if self.weights["points"]:
            own = kps[:, [k for k, _ in pairs], :2]
            terms["points"] = (own - truth[:, [n for _, n in pairs]]).abs().mean()
        if self.weights["flow"]:
            terms["flow"] = self._flow_term(kps, batch)
        return terms

    def _flow_term(self, kps: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Displacement of each keypoint against the renderer's flow at the keypoint, where it is visible."""
        source, driving = kps.chunk(2)
        at = driving[:, None, :, :2].detach()
        flow = F.grid_sample(batch["flow"].permute(0, 3, 1, 2), at, align_corners=False)[:, :, 0].mT
        seen = F.grid_sample(batch["visible"][:, None], at, align_corners=False)[:, 0, 0]
        error = ((source - driving)[..., :2] - flow).abs().sum(-1)
        return (error * seen).sum() / seen.sum().clamp(min=1)

    def _picture_terms(self, drawn: Tensor, target: Tensor, exact: Tensor | None) -> dict[str, Tensor]:
        """Global, face and lip versions of the perceptual and adversarial terms, identity, plain L1.

        Without exact points the face is where crops have it, and nobody knows where the lips are.
        """
        terms: dict[str, Tensor] = {}
        for suffix, region, radius in (
            ("", None, 1.0),
            ("_face", range(68), 0.6),
            ("_lip", points.LIPS, 0.3),
        ):
            if not self.weights["perceptual" + suffix] and not self.weights["gan" + suffix]:
                continue
            if exact is None and suffix == "_lip":
                continue
            pair = drawn, target
            if region is not None:
                if exact is None:
                    centre = drawn.new_tensor(USUAL_FACE).expand(len(drawn), 2)
                else:
                    centre = exact[:, list(region)].mean(1)
                half = torch.full_like(centre[:, 0], radius)
                side = max(32, int(radius * drawn.shape[-1]))
                zero = torch.zeros_like(half)
                pair = crop_at(drawn, centre, half, zero, side), crop_at(target, centre, half, zero, side)
            if self.weights["perceptual" + suffix]:
                terms["perceptual" + suffix] = losses.perceptual(self.features, *pair, scales=2)
            if self.weights["gan" + suffix]:
                terms["gan" + suffix] = self._adversarial("gan" + suffix, *pair)
        if self.weights["face_identity"]:
            terms["face_identity"] = losses.face_identity(self.embed, drawn, target)
        if self.weights["image"]:
            terms["image"] = (drawn - target).abs().mean()
        return terms

    def _adversarial(self, name: str, drawn: Tensor, target: Tensor) -> Tensor:
        """Both sides at once: the discriminator sees detached pictures, the generator frozen scores."""
        assert isinstance(self.network, AdversarialNetworks)
        judge = self.network.discriminators[name]
        learning = losses.hinge_discriminator(judge(target), judge(drawn.detach()))
        frozen = {k: v.detach() for k, v in judge.named_parameters()}
        return learning + losses.hinge_generator(functional_call(judge, frozen, (drawn,)))

    def export(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, AdversarialNetworks)
        checkpoint.save(folder, "liveportrait", self.config, network.networks)

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Source, driving, drawn: one row per pair."""
        assert isinstance(network, AdversarialNetworks)
        source, target = pictures_to_float(batch["source"]), pictures_to_float(batch["driving"])
        small = F.avg_pool2d(torch.cat([source, target]), 2)
        motion = network.networks.motion(small)
        kps = keypoints(motion, motion.canonical, self.config)
        first, second = kps.chunk(2)
        seen = network.networks.appearance(small[: len(source)])
        drawn = network.networks.generate(seen, first, second)
        return [torch.cat([source[i], target[i], drawn[i]], 2) for i in range(len(source))]


class AnimalStage(PublishedStage):
    """Fine-tuning on animals (appendix D): their clips, which nobody labelled, among rendered people."""

    clips: Sequence[Clip] = ()

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        people = super().dataset(config, rank, world_size)
        animals = ClipPairs(self.clips, int(config.extra["size_px"]), config.batch_size, config.seed, rank)
        return Alternating(people, animals, float(config.extra["animal_share"]))


@exactly
def random_similarity(images: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures turned, scaled and shifted at random, and the (B, 2, 3) map from old to new coordinates."""
    count = len(images)
    angle = torch.randn(count, device=images.device) * 0.2
    scale = torch.exp(torch.randn(count, device=images.device) * 0.1)
    shift = torch.randn(count, 2, device=images.device) * 0.08
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    inverse = torch.linalg.inv(linear)
    back = torch.cat([inverse, -(inverse @ shift[..., None])], 2)
    grid = F.affine_grid(back, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False, padding_mode="reflection")
    return moved, torch.cat([linear, shift[..., None]], 2)
