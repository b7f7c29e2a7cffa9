"""Held-out synthetic people: which pictures are compared, and everything that the renderer knows about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vivant.engines.liveportrait import points
from vivant.errors import InputError
from vivant.evaluation import protocol
from vivant.studio.background import sample_background
from vivant.studio.dataset import Session
from vivant.studio.flow import flow as true_flow
from vivant.training.data.portraits import NUM_LANDMARKS, Portraits, PortraitSettings, crop_window
from vivant.training.data.sessions import find_sessions


@dataclass(frozen=True)
class Person:
    """One session: a source picture and T driving pictures of the same person, in one crop."""

    name: str
    source: np.ndarray  # uint8 (S, S, 3)
    driving: np.ndarray  # uint8 (T, S, S, 3)
    background: np.ndarray  # bool (T, S, S): neither source nor driving shows the person there
    flow: np.ndarray  # float32 (T, S/2, S/2, 2): driving to source, crop units
    source_labels: dict[str, Tensor]  # of portraits.motion_labels, one row
    labels: dict[str, Tensor]  # of portraits.motion_labels, T rows
    expression_names: tuple[str, ...]

    @property
    def eye_distance(self) -> float:
        """Between the outer eye corners in the source, which faces the camera most; crop units."""
        at = self.source_labels["points"][0]
        return float((at[points.EYE_OUTER_RIGHT] - at[points.EYE_OUTER_LEFT]).norm())


def held_out_people(
    folder: Path, pairs_per_session: int, num_identities: int, size_px: int, seed: int
) -> tuple[int, Iterator[Person]]:
    """How many sessions there are, and one Person of each, in name order."""
    sessions = [s for s in find_sessions(folder, held_out=True) if s.info.identity < num_identities]
    if not sessions:
        raise InputError(f"{folder} holds no session of an identity below {num_identities}.")
    return len(sessions), _people(sessions, pairs_per_session, size_px, seed)


def most_frontal(session: Session) -> int:
    """The frame whose head angles (yaw, pitch, roll) have the smallest sum of magnitudes."""
    return int(np.abs(session.angles).sum(1).argmin())


def _people(sessions: Sequence[Session], pairs: int, size_px: int, seed: int) -> Iterator[Person]:
    settings = PortraitSettings(
        size_px=size_px,
        batch_size=1,
        seed=seed,
        augment=False,
        crop_scale=protocol.CROP_SCALE,
        crop_vy=protocol.CROP_VY,
    )
    for session in sessions:
        # Seeded by the person, not by the place in the list: a subset gives the same pictures.
        key = [seed, session.info.identity, session.info.look]
        rng = np.random.default_rng(key)
        source = most_frontal(session)
        others = [i for i in rng.permutation(len(session.rotation)).tolist() if i != source][:pairs]
        background = (sample_background(size_px, rng) * 255).round().astype(np.uint8)
        portraits = Portraits([session], settings, background[None])
        made = [portraits.pair(session, source, i, np.random.default_rng(key)) for i in others]
        yield _person(session, settings, source, others, made)


def _person(
    session: Session,
    settings: PortraitSettings,
    source: int,
    others: Sequence[int],
    made: Sequence[dict[str, np.ndarray]],
) -> Person:
    size = settings.size_px
    landmarks = session.keypoint_xy[source, :NUM_LANDMARKS]
    window = crop_window(landmarks, settings, session.info.size, np.random.default_rng(0))
    left, top = window.x - window.side / 2, window.y - window.side / 2
    flows = [true_flow(session, i, source, left, top, window.side, size // 2)[0] for i in others]
    names = ("rotation", "scale", "translation", "canonical", "expression", "weights", "gaze", "points")
    return Person(
        name=f"{session.info.identity:04d}_{session.info.look}",
        source=made[0]["source"],
        driving=np.stack([pair["driving"] for pair in made]),
        background=np.stack([(pair["source_alpha"] == 0) & (pair["driving_alpha"] == 0) for pair in made]),
        flow=np.stack(flows),
        source_labels={name: torch.from_numpy(made[0][f"source_{name}"][None]) for name in names},
        labels={
            name: torch.from_numpy(np.stack([pair[f"driving_{name}"] for pair in made])) for name in names
        },
        expression_names=session.info.expression_names,
    )
