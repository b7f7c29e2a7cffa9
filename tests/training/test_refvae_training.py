"""The family's stages: each debug recipe learns its own part, and the chain of them ends in an engine that speaks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

import vivant
from vivant.engines.refvae import losses
from vivant.engines.refvae.config import mini, tiny
from vivant.engines.refvae.data import (
    Box,
    Cut,
    Footage,
    Moments,
    MomentSettings,
    Windows,
    WindowSettings,
    as_video,
    cropped,
    heard,
)
from vivant.engines.refvae.encoded import (
    RIDGE,
    Cuts,
    CutSettings,
    EncodedClip,
    EncodedClips,
    lips_of,
    read_lips,
)
from vivant.engines.refvae.losses import Features
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.recipes import RECIPES
from vivant.engines.refvae.recipes_full import features_of
from vivant.engines.refvae.stages import SyncStage, follow_scale
from vivant.engines.refvae.sync_expert import FACE_FRAMES
from vivant.errors import CheckpointError, InputError
from vivant.evaluation.judges.given import load_judges
from vivant.face.identity import IdentityNetwork
from vivant.studio.talking import TalkingClip, clip_path, read_clip, write_clip
from vivant.training.data.sessions import find_talking_clips
from vivant.training.distributed import full_tensor, shard
from vivant.training.launch import train

CPU = torch.device("cpu")
SIZE = 64
NUM_FRAMES = 54


def speaker(identity: int) -> TalkingClip:
    """A disc with a dark mouth that opens while a tone is loud."""
    rng = np.random.default_rng(identity)
    opening = np.interp(np.arange(NUM_FRAMES), np.arange(0, NUM_FRAMES + 5, 5), rng.uniform(0, 1, 12))
    loudness = np.repeat(opening, 640)
    samples = 0.4 * loudness * np.sin(np.arange(len(loudness)) * 2 * np.pi * 220 / 16000)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    face = (x - 32) ** 2 + (y - 32) ** 2 < 24**2
    colour, behind = rng.integers(120, 220, 3), rng.integers(20, 90, 3)
    frames = np.empty((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    for frame, wide in zip(frames, opening, strict=True):
        frame[:] = np.where(face[..., None], colour, behind)
        frame[((x - 32) / 10) ** 2 + ((y - 42) / (1 + 7 * wide)) ** 2 < 1] = 10
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    ring = np.stack([32 + 16 * np.cos(angle), 36 + 16 * np.sin(angle)], 1).astype(np.float32)
    return TalkingClip(
        identity=identity,
        voice="tone",
        text="",
        frames=frames,
        samples=samples.astype(np.float32),
        landmarks=np.repeat(ring[None], NUM_FRAMES, 0),
        expression=np.zeros((NUM_FRAMES, 53), np.float32),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talking")
    for identity in (3, 12, 13):
        write_clip(clip_path(folder, identity), speaker(identity))
    return folder


@pytest.fixture(scope="module")
def chain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[dict]]]:
    """Folder and statistics of the debug runs, each from the export of the one before."""
    folder, init, made = tmp_path_factory.mktemp("runs"), None, {}
    for name in ("debug_vae", "debug_sync", "debug_generator", "debug_decoder", "debug_student"):
        rows: list[dict] = []
        assert train(f"refvae/{name}", data, folder / name, init=init, device="cpu", report=rows.append)
        init = folder / name / "export"
        made[name] = folder / name, rows
    return made


def error_of(init: Path, data: Path) -> float:
    """The generator's loss on eight batches, each with one draw of noise."""
    recipe = RECIPES["debug_generator"]()
    stage = recipe.build(find_talking_clips(data), np.zeros((1, SIZE, SIZE, 3), np.uint8), init)
    torch.manual_seed(5)
    with torch.no_grad():
        cuts = stage.dataset(recipe.train, 0, 1)
        return sum(float(stage.losses(cuts[1000 + index], 0.0)["flow"]) for index in range(8)) / 8


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "export" / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    old, new = weights(before), weights(after)
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


def test_each_stage_learns_its_own_part(chain: dict[str, tuple[Path, list[dict]]], data: Path) -> None:
    rows = chain["debug_vae"][1]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    constant = math.log(RECIPES["debug_sync"]().train.batch_size)
    assert chain["debug_sync"][1][-1]["loss"] < 0.9 * constant, "better than any constant answer"
    vae, sync, generator, decoder, student = (folder for folder, _ in chain.values())
    assert error_of(generator / "export", data) < 0.95 * error_of(sync / "export", data)
    assert changed(vae, sync) == {"audio"}
    assert changed(sync, generator) == {"generator"}
    rows = chain["debug_student"][1]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"], "nearer to the teacher's way"
    old, new = weights(generator), weights(decoder)
    moved = {".".join(name.split(".")[:2]) for name in old if not torch.equal(old[name], new[name])}
    assert moved == {"vae.deep_decoder", "vae.reference_decoder", "vae.picture_decoder"}, (
        "latents stay as they are"
    )
    assert changed(decoder, student) == {"generator"}
    before, after = weights(generator), load_file(student / "snapshot.safetensors")
    for name, tensor in after.items():
        if name.startswith("network/teacher."):
            assert torch.equal(tensor, before["generator." + name.removeprefix("network/teacher.")])
    spread = weights(vae)["latent_std"]
    assert float((spread - 1).abs().mean()) > 0.05, "the scale of the latents was learned with them"
    assert (vae / "pictures.png").is_file()


def test_the_chain_ends_in_an_engine_that_speaks(
    chain: dict[str, tuple[Path, list[dict]]], data: Path
) -> None:
    clip = read_clip(clip_path(data, 3))
    engine = vivant.load(chain["debug_generator"][0] / "export", device="cpu", dtype="float32")
    # A disc is no face that a detector would find.
    portrait = engine.encode_reference(torch.from_numpy(clip.frames[:1]).permute(0, 3, 1, 2) / 255)
    state = engine.start(portrait)
    frames = [engine.step(state, torch.from_numpy(clip.samples[:10240])), engine.flush(state)]
    assert [len(part) for part in frames] == [13, 3]
    video = torch.cat(frames)
    assert 0 <= float(video.min()) < float(video.max()) <= 1


def test_evaluation_takes_the_expert(chain: dict[str, tuple[Path, list[dict]]], data: Path) -> None:
    """It hears as the engine of the same run does. That these tiny towers tell sync is not claimed."""
    export = chain["debug_sync"][0] / "export"
    expert = load_judges({"sync-expert": export / "lipsync_expert" / "model.safetensors"}).sync_expert
    assert expert is not None
    settings = MomentSettings(batch_size=2, seed=9, lead_frames=2, moments_per_clip=2, min_shift_frames=3)
    batch = Moments(find_talking_clips(data), settings)[0]
    assert batch["faces"].shape == (2, 15, 48, 96)
    assert torch.isfinite(expert.embed_faces(batch["faces"].float() / 255)).all()
    heard_alone = expert.audio_encoder(batch["sounds"])
    engine = vivant.load(export, device="cpu", dtype="float32")
    assert torch.equal(engine.networks.audio(batch["sounds"]), heard_alone)


def test_resumed_run_equals_uninterrupted_run(
    chain: dict[str, tuple[Path, list[dict]]], data: Path, tmp_path: Path
) -> None:
    init = chain["debug_sync"][0] / "export"
    # With no minutes a run stops after one step of its four.
    for folder, limits in (("whole", [None]), ("pieces", [0.0, None])):
        for minutes in limits:
            done = train(
                "refvae/debug_generator", data, tmp_path / folder,
                init=init, images=8, minutes=minutes, device="cpu",
            )  # fmt: skip
            assert done == (minutes is None)
            torch.rand(7)  # what happens between two runs must not matter
    whole, pieces = (load_file(tmp_path / folder / "snapshot.safetensors") for folder in ("whole", "pieces"))
    assert [key for key in whole if not torch.equal(whole[key], pieces[key])] == []


def test_windows_show_one_face(data: Path) -> None:
    paths = find_talking_clips(data)
    assert [path.name[:4] for path in paths] == ["0012", "0013"], "3 is held out"
    for num_frames in (1, 9):
        settings = WindowSettings(
            cut=Cut.of(tiny()), batch_size=3, seed=0, num_frames=num_frames, max_references=3
        )
        batches, footage = [Windows(paths, settings)[index] for index in range(8)], Footage(paths)
        shown = [footage.pictures(batch, num_frames) for batch in batches]
        assert len({references.shape[1] for _, references in shown}) > 1
        for batch, (frames, _) in zip(batches, shown, strict=True):
            assert frames.shape == (3, num_frames, 64, 64, 3)
            # The ring of landmarks is centred 4 px below the face, wherever the crop is and if it is a mirror image.
            centres = (batch["points"].mean(2) + 1) * 32
            bright = (frames.float().amax(-1) > 100).float()
            grid = torch.arange(64) + 0.5
            found = (bright.sum(2) * grid).sum(-1) / bright.sum((2, 3))
            assert float((found - centres[..., 0]).abs().max()) < 1.5
        again = Windows(paths, settings)[3]
        assert all(torch.equal(again[name], batches[3][name]) for name in again)
    with pytest.raises(InputError, match="vivant studio talk"):
        find_talking_clips(data / "nothing")


def test_windows_near_the_mouth_are_a_part_of_the_face_at_its_scale(data: Path) -> None:
    paths = find_talking_clips(data)
    how = {"cut": Cut.of(tiny()), "batch_size": 3, "seed": 0, "num_frames": 9, "max_references": 2}
    batches = [Windows(paths, WindowSettings(**how, near_mouths=0.5))[index] for index in range(12)]
    sides = [int(batch["size_px"]) for batch in batches]
    assert set(sides) == {32, 64}
    for batch, side in zip(batches, sides, strict=True):
        frames, references = Footage(paths).pictures(batch, 9)
        assert frames.shape == (3, 9, side, side, 3)
        assert references.shape[2:] == (side, side, 3)
        if side == 32:
            mouths = batch["points"][:, 4, 48:68].mean(1)
            assert float(mouths.abs().max()) < 0.5
            # The same picture cut whole shows there what the near one shows.
            left, top, reach = batch["box"][0].tolist()
            whole = read_clip(paths[int(batch["clip"][0])]).frames[batch["rows"][0][:9]]
            part = Box(left, top, reach).cut(torch.from_numpy(whole), 32)
            assert torch.equal(part.flip(2) if batch["mirrored"][0] else part, frames[0])
    assert {int(Windows(paths, WindowSettings(**how))[index]["size_px"]) for index in range(12)} == {64}


def test_few_clips_are_kept_and_all_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, whose name the meta device bears here: what is kept, and that nothing is kept beyond the room."""
    paths = find_talking_clips(data)
    footage, meta = Footage(paths), torch.device("meta")
    footage._room = 1
    rows = torch.arange(3)
    assert footage._taken(0, rows, meta).shape == (3, SIZE, SIZE, 3)
    assert footage._taken(1, rows, meta).shape == (3, SIZE, SIZE, 3)
    assert list(footage._kept) == [0], "one clip fills the room"


def test_cuts_keep_latents_and_sounds_together(data: Path) -> None:
    paths, networks = find_talking_clips(data), Networks(tiny())
    settings = CutSettings(
        batch_size=2, seed=0, num_latents=12, block_latents=4, max_references=3, from_start=0.5, num_crops=2
    )
    cuts = [Cuts(paths, settings)[index] for index in range(8)]
    assert {bool(cut["first"].any()) for cut in cuts} == {True, False}
    assert len({cut["references"].shape[1] for cut in cuts}) > 1
    encoded = EncodedClips(tiny(), paths, seed=0)
    known = [networks.audio.eval()(heard(read_clip(path), 2)).flatten(1) for path in paths]
    for cut in cuts:
        latents, references, features, mouths = encoded.batch(networks, cut)
        assert torch.equal(mouths, torch.ones(2, 1, 1, 1, 1))
        assert latents.shape == (2, 12, 64, 1, 1)
        assert references.shape == (*cut["references"].shape, 64, 1, 1)
        for row, (clip, first) in enumerate(zip(cut["clip"].tolist(), cut["first"].tolist(), strict=True)):
            start = 0 if first == 0 else 4 * first - 3
            count = 45 if first == 0 else 48
            torch.testing.assert_close(features[row], known[clip][start : start + count])
    (whole,) = encoded.clips(networks, [(0, 0)])
    frames, _ = cropped(
        read_clip(paths[0]), NUM_FRAMES // 2, Cut.of(tiny()), np.random.default_rng([0, 0, 0, 61])
    )
    mean, _ = networks.vae.encode(as_video(frames[None, :53]))
    torch.testing.assert_close(whole.mean, networks.standardised(mean)[0], atol=1e-4, rtol=1e-4)


def test_cells_with_the_mouth_weigh_more() -> None:
    points = torch.zeros(5, 68, 2)
    points[:, 48:, 0], points[:, 48:, 1] = torch.linspace(0.1, 0.4, 20), 0.25  # right of the middle, below it
    weights = EncodedClips(mini(), [], 0, mouth_weight=12)._mouth(points)[0, 0]
    assert weights.shape == (4, 4)
    assert int(weights.argmax()) == 2 * 4 + 2
    assert float(weights.max()) > 2 * float(weights.min())
    assert float(weights.mean()) == pytest.approx(1, abs=1e-4)


def test_lips_are_read_from_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    says, clips = torch.randn(48, 8, generator=generator), []
    for offset in (3.0, -5.0):
        mean = torch.randn(400, 12, 2, 2, generator=generator)
        lips = (mean - mean.mean(0)).flatten(1) @ says
        nothing = torch.zeros(1)
        clips.append(EncodedClip(mean + offset, nothing, nothing, nothing, nothing, lips))
    reading = read_lips(clips)
    spread = torch.cat([clip.lips for clip in clips]).std(0)
    torch.testing.assert_close(reading * spread, says * 800 / (800 + RIDGE), atol=0.3, rtol=0.1)
    target = torch.randn(2, 3, 12, 2, 2, generator=generator)
    assert float(losses.lips_read(target, target, reading)) == 0
    unseen = torch.linalg.svd(reading)[0][:, -1].view(12, 2, 2)
    assert float(losses.lips_read(target + unseen, target, reading)) < 1e-6
    assert float(losses.lips_read(target + reading[:, 0].view(12, 2, 2), target, reading)) > 1e-3


def test_lips_of_a_mouth_that_opens() -> None:
    points = np.zeros((9, 68, 2), np.float32)
    points[:, 36:42, 0], points[:, 42:48, 0] = -0.5, 0.5
    points[:, 60, 0], points[:, 64, 0] = -0.2, 0.2
    points[:, 66, 1] = np.arange(9) / 10
    lips = lips_of(points)
    assert lips.shape == (3, 8), "of the first frame, of four, of four"
    assert float(lips[:, 1::2].abs().max()) < 1e-6, "as wide as ever"
    opening = lips[:, ::2].flatten()
    assert opening.diff()[3:].numpy() == pytest.approx(0.1, abs=1e-5)
    assert float(opening[:4].std()) == 0


def test_clips_that_are_too_short_are_named(data: Path) -> None:
    paths = find_talking_clips(data)
    moments = MomentSettings(batch_size=3, seed=0, lead_frames=2, moments_per_clip=3, min_shift_frames=40)
    with pytest.raises(InputError, match=f"54 frames, {FACE_FRAMES + 80} are needed"):
        Moments(paths, moments)[0]
    windows = WindowSettings(cut=Cut.of(tiny()), batch_size=1, seed=0, num_frames=57, max_references=1)
    with pytest.raises(InputError, match="54 frames, 57 are needed"):
        Windows(paths, windows)[0]


def test_losses_are_zero_where_nothing_is_wrong() -> None:
    zeros = torch.zeros(2, 3, 4, 2, 2)
    assert float(losses.divergence(zeros, zeros)) == 0
    assert float(losses.divergence(zeros + 1, zeros)) == 6, "half a unit in 3 x 2 x 2 numbers of each latent"
    lips = torch.eye(4)[:2]
    assert float(losses.contrastive(lips, lips)) < 1e-5
    assert float(losses.contrastive(lips, lips.flip(0))) == pytest.approx(1 / losses.TEMPERATURE, abs=1e-4)
    assert float(losses.contrastive(lips[:1].expand(2, -1), lips)) > 0.6, "no constant answer is a good one"
    torch.manual_seed(0)
    rows = losses.dropped(torch.ones(1000, 2, 3), torch.zeros(3), 0.1)[..., 0]
    assert torch.equal(rows[:, 0], rows[:, 1])
    assert 0.85 < float(rows.mean()) < 0.95
    assert 0.6 < float(losses.context_times(1000, CPU).max()) <= losses.CONTEXT_NOISE


def test_perceptual_term_sees_a_difference() -> None:
    features: Features = features_of(IdentityNetwork().eval())
    clip = torch.rand(1, 3, 2, 64, 64) * 2 - 1
    drawn = (clip + 0.1 * torch.randn_like(clip)).requires_grad_()
    assert float(losses.perceptual(features, clip, clip)) == 0
    term = losses.perceptual(features, drawn, clip)
    term.backward()
    assert float(term.detach()) > 0
    assert drawn.grad is not None


def test_the_scale_of_latents_is_followed() -> None:
    networks = Networks(tiny())
    torch.manual_seed(0)
    for _ in range(300):
        follow_scale(networks, 3 + 2 * torch.randn(4, 64, 2, 4, 4))
    assert float((networks.latent_mean - 3).abs().max()) < 0.3
    assert float((networks.latent_std - 2).abs().max()) < 0.3


def test_recomputing_gives_the_same_gradients(data: Path) -> None:
    gradients = []
    for recompute in (False, True):
        recipe = RECIPES["debug_vae"]()
        recipe.train.extra["recompute"] = recompute
        torch.manual_seed(0)
        stage = recipe.build(find_talking_clips(data), np.zeros((1, SIZE, SIZE, 3), np.uint8))
        torch.manual_seed(1)
        stage.losses(stage.dataset(recipe.train, 0, 1)[0], 0.0)["pixels"].backward()
        gradients.append(stage.networks.vae.feature_encoder[0].conv.weight.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_recipes_know_their_sizes(chain: dict[str, tuple[Path, list[dict]]]) -> None:
    vae, generator, sync = (
        RECIPES[name]().dry_run() for name in ("full_vae_512x73", "full_generator", "full_sync")
    )
    assert vae["trained"] == pytest.approx(901.5e6, rel=1e-3)
    assert generator["trained"] == pytest.approx(1031.9e6, rel=1e-3)
    assert sync["parameters"] > vae["parameters"], "the face tower comes on top"
    with torch.device("meta"):
        numbers = sum(tensor.numel() for tensor in Networks(mini()).state_dict().values())
    assert numbers * 2 < 15_000_000, "in half precision"
    with pytest.raises(CheckpointError, match="another architecture"):
        RECIPES["mini_sync"]().build([], np.zeros((1, 2, 2, 3)), chain["debug_vae"][0] / "export")
    assert RECIPES["mini_sync"]().stage is SyncStage


def test_sharded_weights_give_the_same_gradients(data: Path, tmp_path: Path) -> None:
    """FSDP2 with one process: what is outside `forward` would meet weights that are not gathered."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    gradients = []
    for sharded in (False, True):
        recipe = RECIPES["debug_generator"]()
        recipe = replace(recipe, train=replace(recipe.train, sharding="fsdp" if sharded else "replicate"))
        torch.manual_seed(0)
        stage = recipe.build(find_talking_clips(data), np.zeros((1, SIZE, SIZE, 3), np.uint8))
        if sharded:
            dist.init_process_group("gloo", store=store, rank=0, world_size=1)
            shard(stage.network)
        torch.manual_seed(1)
        stage.losses(stage.dataset(recipe.train, 0, 1)[0], 0.0)["flow"].backward()
        parameters = dict(stage.network.named_parameters())
        gradients.append({n: full_tensor(p.grad) for n, p in parameters.items() if p.grad is not None})
    dist.destroy_process_group()
    assert gradients[0].keys() == gradients[1].keys()
    assert "networks.generator.leave.weight" in gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)
