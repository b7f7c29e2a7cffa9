"""Bending: the head goes where the placement says, what is far away stays, and a driver's head is found there."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from flash_engine import motions
from torch import Tensor

from vivant.engines.flashportrait import motion
from vivant.engines.flashportrait.config import tiny_differences
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.motion import ALIGNED_POINTS, POINTS_IN_CROP, Motion
from vivant.face.align import similarity
from vivant.ops.bending import bent, placement

SIDE = 64
OWN = torch.from_numpy(similarity(POINTS_IN_CROP * SIDE, ALIGNED_POINTS)).float()
"""The alignment of a face in the middle of a picture."""


def moved(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """A similarity about the picture's middle, in its pixels."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, scale)
    matrix[:, 2] += shift
    return matrix


def after(matrix: np.ndarray) -> Tensor:
    """The alignment of the same face once it has moved."""
    points = POINTS_IN_CROP * SIDE @ matrix[:, :2].T + matrix[:, 2]
    return torch.from_numpy(similarity(points, ALIGNED_POINTS)).float()


@pytest.mark.parametrize(
    ("degrees", "scale", "shift"),
    [(0, 1, (3, 0)), (0, 1, (0, -4)), (8, 1, (0, 0)), (0, 1.1, (0, 0)), (-5, 0.95, (2, 1))],
)
def test_the_middle_moves_and_the_corners_stay(
    degrees: float, scale: float, shift: tuple[float, float]
) -> None:
    noise = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(noise, size=(SIDE, SIDE), mode="bicubic")
    matrix = moved(degrees, scale, shift)
    places = placement(OWN[None], torch.stack([OWN, after(matrix)]))
    frames = bent(picture, OWN[None], places[None])
    assert frames.shape == (1, 3, 2, SIDE, SIDE)
    torch.testing.assert_close(frames[:, :, 0], picture, atol=1e-3, rtol=0)
    pixels = picture[0].permute(1, 2, 0).numpy()
    whole = cv2.warpAffine(
        pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    face = slice(26, 42), slice(24, 40)
    ours = frames[0, :, 1].permute(1, 2, 0).numpy()
    assert np.abs(ours[face] - whole[face]).max() < 0.06
    assert np.abs(pixels[face] - whole[face]).mean() > 0.02
    for corner in (ours[:3, :3] - pixels[:3, :3], ours[-3:, -3:] - pixels[-3:, -3:]):
        assert np.abs(corner).max() < 1e-3


def test_what_is_known_of_a_latent_is_the_same_in_every_window() -> None:
    """Streams of any length: the reference is bent once per latent, and forgotten when its frames were shown."""
    torch.manual_seed(0)
    config = tiny_differences()
    engine = FlashPortrait(config, FlashPortrait.build_networks(config).eval().requires_grad_(False))
    engine.networks.transformer.leave = lambda hidden, stream: (
        stream.noisy[0] / stream.noisy[1].view(-1, 1, 1, 1, 1)
    )
    portrait = engine.encode_reference(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    driven = motions(engine, 45)
    angles = torch.linspace(-0.2, 0.2, 45)
    zero = torch.zeros_like(angles)
    places = torch.stack([angles.cos(), -angles.sin(), zero, angles.sin(), angles.cos(), zero], 1)
    driven = Motion(torch.cat([driven.features[:, :-6], places], 1))
    state, frames, sizes = engine.start(portrait), [], []
    for index in range(45):
        frames.append(engine.render(state, driven[index]))
        sizes.append(state.known.shape[2])
    frames.append(engine.flush(state))
    assert max(sizes) <= 2 * config.window_latents
    wanted = bent(
        portrait.source.picture,
        portrait.source.alignment,
        torch.cat([places[:1], places]).unflatten(1, (2, 3))[None],
    )
    # Padded to whole latents, as the engine does it.
    wanted = torch.cat([wanted, wanted[:, :, -1:].expand(-1, -1, -len(places) % 4, -1, -1)], 2)
    vae = engine.networks.vae
    wanted = vae.decode_clips(vae.encode_clips(wanted))[0].movedim(1, 0)[1:46] / 2 + 0.5
    torch.testing.assert_close(torch.cat(frames)[:45], wanted.clamp(0, 1), atol=2e-3, rtol=0)


def test_a_driver_says_where_its_head_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look for the first face, one for each later one; a face that is not found is where the first one was."""
    config = tiny_differences()
    engine = FlashPortrait(config, FlashPortrait.build_networks(config).eval())
    size = config.face_features.image_size
    state = engine.start(engine.encode_reference(torch.rand(1, 3, SIDE, SIDE)))
    faces = [OWN.numpy() * size, after(moved(8, 1, (0, 0))).numpy() * size, None]
    waiting = iter(faces)
    monkeypatch.setattr(motion, "alignment_of", lambda picture, size_px: next(waiting))
    seen = engine.encode_motion(state, torch.rand(3, 3, SIDE, SIDE)).features[:, -6:].unflatten(1, (2, 3))
    assert next(waiting, "none") == "none"
    still = torch.eye(2, 3)
    torch.testing.assert_close(seen[0], still, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[2], still, atol=1e-4, rtol=0)
    angle = np.degrees(np.arctan2(float(seen[1, 1, 0]), float(seen[1, 0, 0])))
    assert angle == pytest.approx(-8, abs=0.1), "turned as the picture was"
