"""Training of our identity embedding: two looks of one person are closer than two people.

Supervised contrastive loss (InfoNCE, van den Oord et al. 2018) over pairs of crops of one synthetic person with
different hair, clothes, light, pose, background and colour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant.errors import InputError
from vivant.face.identity import IdentityNetwork
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.portraits import Portraits, PortraitSettings
from vivant.training.data.sessions import FromSessions

TEMPERATURE = 0.1


def contrastive(first: Tensor, second: Tensor) -> Tensor:
    """InfoNCE over unit vectors (B, D): row i of `first` belongs to row i of `second`, both ways."""
    scores = first @ second.mT / TEMPERATURE
    own = torch.arange(len(first), device=first.device)
    return 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.mT, own))


class TwoLooks(Dataset[dict[str, Tensor]]):
    """Item k: pictures (B, n, n, 3) of B different people, twice."""

    def __init__(
        self, sessions: Sequence[Session], settings: PortraitSettings, backgrounds: np.ndarray, rank: int
    ):
        self.portraits = Portraits(sessions, settings, backgrounds, rank)
        self.people: dict[int, list[Session]] = defaultdict(list)
        for session in sessions:
            self.people[session.info.identity].append(session)
        self.rank = rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.portraits.settings
        rng = np.random.default_rng([settings.seed, self.rank, index])
        chosen = rng.choice(sorted(self.people), min(settings.batch_size, len(self.people)), replace=False)

        def pictures() -> Tensor:
            rows = []
            for identity in chosen:
                looks = self.people[int(identity)]
                session = looks[int(rng.integers(len(looks)))]
                frame = int(rng.integers(len(session.rotation)))
                rows.append(self.portraits.single(session, frame, rng)["image"])
            return torch.from_numpy(np.stack(rows))

        return {"first": pictures(), "second": pictures()}


class IdentityStage:
    """One network, one term."""

    def __init__(self, sessions: Sequence[Session], backgrounds: np.ndarray):
        self.sessions, self.backgrounds = sessions, backgrounds
        self.network: nn.Module = IdentityNetwork()

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = PortraitSettings(
            size_px=int(config.extra["size_px"]),
            batch_size=config.batch_size,
            seed=config.seed,
            pairs=False,
            turn=0.1,
        )
        return TwoLooks(self.sessions, settings, self.backgrounds, rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        both = torch.cat([batch["first"], batch["second"]]).permute(0, 3, 1, 2).float() / 255
        first, second = self.network(both).chunk(2)
        return {"contrastive": contrastive(first, second)}

    def export(self, network: nn.Module, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        save_file(tensors, folder / "identity.safetensors")

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()


@dataclass(frozen=True)
class IdentityRecipe(FromSessions):
    """What `vivant train face/identity` runs."""

    train: TrainConfig

    def build(
        self, sessions: Sequence[Session], backgrounds: np.ndarray, init: Path | None = None
    ) -> IdentityStage:
        """The stage, at random. Raises InputError for `init`: no run exports what this one could start from."""
        if init is not None:
            raise InputError(f"face/identity starts from nothing and cannot use {init}; leave out --init.")
        return IdentityStage(sessions, backgrounds)


def identity(num_images: int = 60_000, batch_size: int = 48) -> IdentityRecipe:
    """Minutes on a CPU."""
    return IdentityRecipe(
        TrainConfig(
            name="identity",
            num_images=num_images,
            batch_size=batch_size,
            groups=(ParameterGroup(modules=("",), learning_rate=1e-3),),
            extra={"size_px": 96},
        )
    )


RECIPES = {"identity": identity}
