"""The decoder that learns from what the generator draws: it sees the right pictures, in the right place and time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vivant.engines.refvae.config import tiny
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.recipes import RECIPES
from vivant.engines.refvae.stages_decoder import KINDS, LEAD, SHOWN, DecoderStage, Passages, PassageSettings
from vivant.errors import InputError
from vivant.studio.talking import TalkingClip, clip_path, read_frames, write_clip
from vivant.training.data.sessions import find_talking_clips

SIDE, NUM_FRAMES, MOUTH = 64, 45, slice(48, 68)


def clip_of(identity: int, num_frames: int = NUM_FRAMES) -> TalkingClip:
    """Frame f is as bright as its number, with a white mouth that wanders."""
    rng = np.random.default_rng(identity)
    frames = np.repeat(np.arange(num_frames, dtype=np.uint8)[:, None, None, None], SIDE, 1)
    frames = np.repeat(np.repeat(frames, SIDE, 2), 3, 3) * 4
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    face = np.stack([32 + 16 * np.cos(angle), 34 + 16 * np.sin(angle)], 1).astype(np.float32)
    face[MOUTH] = np.array([32 + rng.uniform(-4, 4), 44]) + rng.uniform(-2, 2, (20, 2))
    x, y = face[MOUTH].mean(0).round().astype(int)
    frames[:, y - 1 : y + 1, x - 1 : x + 1] = 255
    return TalkingClip(
        identity=identity,
        voice="tone",
        text="",
        frames=frames,
        samples=rng.uniform(-0.3, 0.3, num_frames * 640).astype(np.float32),
        landmarks=np.repeat(face[None], num_frames, 0),
        expression=np.zeros((num_frames, 53), np.float32),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talking")
    for identity in (12, 13):
        write_clip(clip_path(folder, identity), clip_of(identity))
    return folder


def stage_of(data: Path, cells: int = 1) -> DecoderStage:
    """Untrained; pictures of so many cells, at a width that runs in milliseconds."""
    recipe = RECIPES["debug_decoder"]()
    config = tiny()
    config = replace(config, image_size=64 * cells, generator=replace(config.generator, learned_places=cells))
    train = replace(recipe.train, extra={**recipe.train.extra, "size_px": 64 * cells})
    torch.manual_seed(0)
    return DecoderStage(config, Networks(config), find_talking_clips(data), train)


def passages(data: Path, kind: str) -> Passages:
    shares = tuple(float(other == kind) for other in KINDS)
    settings = PassageSettings(batch_size=3, seed=0, num_crops=2, shares=shares)  # type: ignore[arg-type]
    return Passages(find_talking_clips(data), settings)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_the_latents_times(
    data: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, seen = stage_of(data, cells=2), {}

    def compared(kind: str, latents: torch.Tensor, video: torch.Tensor, *rest: torch.Tensor) -> dict:
        seen.update(kind=kind, latents=latents, video=video, references=rest[0], points=rest[1])
        return {}

    monkeypatch.setattr(stage, "_compared", compared)
    batch = passages(data, kind)[4]
    stage.terms(batch)
    side = 64 if kind == "near" else 128
    assert seen["kind"] == kind
    assert seen["latents"].shape == (3, LEAD + SHOWN, 64, side // 64, side // 64)
    assert seen["video"].shape == (3, 3, 1 + 4 * (LEAD + SHOWN - 1), side, side)
    for row, (clip, first) in enumerate(zip(batch["clip"].tolist(), batch["first"].tolist(), strict=True)):
        frames = (seen["video"][row, 0, :, 1, 1] + 1) * 127.5 / 4
        assert torch.equal(frames.round(), torch.arange(4 * first, 4 * first + len(frames)).float())
        # The white spot, and landmarks that say where it is.
        bright = seen["video"][row, 0, 0] > 0.5
        spot = (bright.nonzero().float().mean(0).flip(0) + 0.5) * 2 / side - 1
        assert torch.allclose(spot, seen["points"][row, 0, MOUTH].mean(0), atol=0.08)
        if kind != "true":
            drawn = stage._kept[clip, int(batch["crop"][row])]
            assert drawn.latents.shape[0] == (NUM_FRAMES - 1) // 4 + 1
            expected = int(read_frames(drawn.path, [drawn.reference])[0, 1, 1, 0])
            assert float((seen["references"][row, 0, 0, 1, 1] + 1) * 127.5) == pytest.approx(
                expected, abs=0.5
            )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_teaches_the_decoder(data: Path, kind: str) -> None:
    stage = stage_of(data)
    terms = stage.terms(passages(data, kind)[0])
    sum(terms.values()).backward()  # type: ignore[union-attr]
    decoder = stage.networks.vae.picture_decoder
    assert all(parameter.grad is not None for parameter in decoder.parameters())
    assert any(bool(parameter.grad.any()) for parameter in decoder.parameters())
    assert all(parameter.grad is None for parameter in stage.networks.generator.parameters())


def test_lids_as_drawn_do_not_count(data: Path) -> None:
    """What nobody can hear is not held against the decoder."""
    stage, side = stage_of(data), 64
    points = torch.zeros(1, 21, 68, 2)
    points[:, :, 36:42] = torch.tensor([-0.4, -0.3]) + torch.rand(6, 2) * 0.2
    points[:, :, 42:48] = torch.tensor([0.3, -0.3]) + torch.rand(6, 2) * 0.2
    points[:, :, MOUTH] = torch.tensor([0.0, 0.4]) + torch.rand(20, 2) * 0.2
    latents, references = torch.randn(1, 6, 64, 1, 1), torch.zeros(1, 1, 3, side, side)
    video = torch.zeros(1, 3, 21, side, side)
    lids = video.clone()
    lids[:, :, :, 24:30, 21:27] = 1.0
    for kind, counts in (("whole", False), ("true", True)):
        losses = [
            stage._compared(kind, latents, part, references, points)["pixels"].item()
            for part in (video, lids)
        ]
        assert (losses[0] != losses[1]) == counts


def test_short_clips_are_refused(tmp_path: Path) -> None:
    write_clip(clip_path(tmp_path, 12), clip_of(12, 17))
    with pytest.raises(InputError, match="21 frames are needed"):
        passages(tmp_path, "near")[0]
