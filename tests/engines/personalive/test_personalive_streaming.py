"""Drawing, crops, interpolation, schedule and the window against the official code: 24 calls with networks stubbed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from golden_inputs import official
from seeded_weights import seeded_input
from torch import Tensor

from vivant.diffusion import ddim
from vivant.engines.personalive.config import Options, published
from vivant.engines.personalive.motion import Motion, Pose, cut_faces, draw, face_boxes, lead_in, placed
from vivant.engines.personalive.networks.unet import Conditions
from vivant.engines.personalive.streaming import Incoming, Rules, Scene, Window, advance, begin, is_new
from vivant.ops.rotation import degrees_from_bins, rotation_from_degrees

Golden = dict[str, Tensor]
SPREAD = math.sqrt(3)
CPU = torch.device("cpu")


def test_rotation(golden: Golden) -> None:
    ours = rotation_from_degrees(*golden["rotation.pyr_deg"].unbind(-1))
    torch.testing.assert_close(ours, golden["rotation.matrix"], atol=1e-6, rtol=0)


def test_drawing(golden: Golden, metadata: dict[str, str]) -> None:
    points = golden["draw.kp"]
    small = (draw(points, 64, 128) * 255).round().to(torch.uint8)
    assert torch.equal(small, golden["draw.canvas_64x128"])
    large = (draw(points[:2], 512, 512) * 255).round().to(torch.uint8)
    assert hashlib.sha256(large.numpy().tobytes()).hexdigest() == metadata["canvas_512_sha256"]


def test_face_boxes(golden: Golden) -> None:
    assert torch.equal(face_boxes(golden["draw.kp"], 512, 512).long(), golden["draw.boxes_512"])


def test_faces_are_cut_as_slices_are_resized() -> None:
    frames = torch.rand(2, 3, 96, 80, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[5.0, 7.0, 60.0, 41.0], [20.0, 30.0, 79.0, 95.0]])
    for frame, box, ours in zip(frames, boxes.long().tolist(), cut_faces(frames, boxes, 32), strict=True):
        part = frame[None, :, box[1] : box[3], box[0] : box[2]]
        theirs = F.interpolate(part, size=(32, 32), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    nothing = cut_faces(frames[:1], torch.tensor([[40.0, 50.0, 40.0, 50.0]]), 32)
    whole = F.interpolate(frames[:1], size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(nothing, whole, atol=1e-5, rtol=0)


def pose_from(golden: Golden, prefix: str, rows: slice) -> Pose:
    angles = [degrees_from_bins(golden[f"{prefix}.{name}"][rows]) for name in ("pitch", "yaw", "roll")]
    scale, translation = golden[f"{prefix}.scale"][rows], golden[f"{prefix}.t"][rows]
    return Pose(
        torch.stack(angles, -1), scale, translation, golden[f"{prefix}.kp"][rows].unflatten(1, (-1, 3))
    )


def motion_from(pose: Pose, tokens: Tensor) -> Motion:
    return Motion(tokens, pose.degrees, pose.scale, pose.translation)


def test_keypoints(golden: Golden) -> None:
    """Of a picture itself, of the lead-in, and of later frames (reference 0; driving 1, 2)."""
    prefix = "motion_extractor.detector"
    own = pose_from(golden, prefix, slice(None)).keypoints
    torch.testing.assert_close(own, golden["motion_extractor.get_kp"], atol=1e-4, rtol=0)
    for call in ("online_first", "online_next"):
        theirs = golden[f"motion_extractor.{call}.kps_driving"]
        torch.testing.assert_close(own[1:], theirs, atol=1e-4, rtol=0)
    reference, driving = pose_from(golden, prefix, slice(0, 1)), pose_from(golden, prefix, slice(1, 3))
    motion = motion_from(driving, torch.zeros(2, 1, 1))
    first = motion.translation[:1]
    driven = placed(reference, motion, first, "published")
    end = placed(reference, motion[0], first, "published")
    led, _ = lead_in(reference, torch.zeros(1, 1, 1), end, torch.zeros(1, 1, 1), torch.arange(12) / 12)
    ours = torch.cat([led.keypoints, driven.keypoints])
    for call in ("online_first", "offline"):
        torch.testing.assert_close(ours, golden[f"motion_extractor.{call}.kps"], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        driven.keypoints, golden["motion_extractor.online_next.kps"], atol=1e-4, rtol=0
    )


def test_schedule(golden: Golden) -> None:
    schedule = ddim.scaled_linear(0.00085, 0.02, 1000)
    torch.testing.assert_close(schedule.alphas_cumprod, golden["scheduler.alphas_cumprod"], atol=0, rtol=2e-6)
    steps = torch.tensor([0, 333, 666, 999]).repeat_interleave(4)
    data, noise, made = (golden[f"scheduler.{name}"].transpose(1, 2) for name in ("x0", "noise", "add_noise"))
    torch.testing.assert_close(ddim.noised(schedule, data, noise, steps), made, atol=1e-6, rtol=1e-6)
    epsilon, sample = golden["scheduler.eps"][None], golden["scheduler.sample"][None]
    clean = ddim.clean(schedule, sample, epsilon, steps)
    torch.testing.assert_close(clean[0], golden["scheduler.pred_x0"], atol=1e-4, rtol=1e-5)
    previous = torch.tensor([-1, 0, 333, 666]).repeat_interleave(4)
    moved = ddim.noised(schedule, clean, epsilon, previous)
    torch.testing.assert_close(moved[0], golden["scheduler.prev_sample"], atol=1e-5, rtol=1e-5)


class Stubs:
    """The networks of the trace: see the golden set's description."""

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}
        self.keyframes: list[Tensor] = []

    def denoise(self, latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        assert conditions.motion is not None
        assert conditions.pose is not None
        self.seen = {"latents": latents, "motion": conditions.motion, "pose_fea": conditions.pose}
        motion = conditions.motion.mean((2, 3))[:, :, None, None, None]
        level = torch.sin(timesteps.float())[:, :, None, None, None]
        return 0.6 * latents + 0.2 * motion + 0.3 * conditions.pose.mean(2, keepdim=True) + 0.05 * level

    def references(self, latents: Tensor, identity_token: Tensor) -> list[tuple[Tensor, Tensor]]:
        self.keyframes.append(latents)
        return [(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))]


class Chunk(NamedTuple):
    """What enters in one call."""

    keypoints: Tensor
    incoming: Incoming


@pytest.fixture(scope="module")
def chunks(golden: Golden) -> list[Chunk]:
    """The driving of the trace, put together as the engine does."""
    reference = pose_from(golden, "stream.kp_raw", slice(0, 1))
    embeddings, first = golden["stream.motion_embeddings"][0], golden["stream.kp_raw.t"][1:2]
    made = []
    for index in range(24):
        rows = slice(1 + 4 * index, 5 + 4 * index)
        motion = motion_from(pose_from(golden, "stream.kp_raw", rows), embeddings[rows])
        keypoints, tokens = placed(reference, motion, first, "published").keypoints, motion.tokens
        if index == 0:
            end = placed(reference, motion[0], first, "published")
            led, between = lead_in(reference, embeddings[:1], end, tokens[:1], torch.arange(12) / 12)
            keypoints, tokens = torch.cat([led.keypoints, keypoints]), torch.cat([between, tokens])
        features = F.adaptive_avg_pool2d(draw(keypoints, 512, 512), 8)
        made.append(Chunk(keypoints, Incoming(tokens=tokens, pose=features)))
    return made


class Trace:
    """The stubbed stream, call by call."""

    def __init__(self, golden: Golden, options: Options) -> None:
        nothing = (torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
        self.scene = Scene(
            latents=golden["stream.z_ref"],
            identity_token=torch.zeros(1, 1, 1),
            identity=[],
            references=[nothing],
            tokens=golden["stream.motion_embeddings"][0, :1],
        )
        self.stubs, self.draws = Stubs(), 0
        self.rules = Rules(config=published(), options=options, noise=self.noise)
        self.window: Window = begin(self.scene, self.rules)
        self.window.pose = torch.zeros(1, 0, 3, 8, 8)

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        name = f"pl.stream.noise{self.draws}"
        self.draws += 1
        return seeded_input(name, (1, 4, shape[1], 8, 8), -SPREAD, SPREAD).transpose(1, 2)

    def call(self, chunk: Chunk) -> Tensor:
        """The video (4, 8, 8, 3) that leaves."""
        latents = advance(self.stubs, self.scene, self.window, chunk.incoming, self.rules)
        return (0.1 * latents[:, :3] / 0.18215 / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def test_the_stream_of_24_calls(golden: Golden, chunks: list[Chunk]) -> None:
    trace = Trace(golden, Options())
    assert torch.equal(trace.rules.steps(CPU), golden["stream.timesteps"])
    keyframe_calls = []
    for index, chunk in enumerate(chunks):
        before = len(trace.stubs.keyframes)
        video = trace.call(chunk)
        torch.testing.assert_close(video, golden["stream.video"][index], atol=1e-5, rtol=0)
        if len(trace.stubs.keyframes) > before:
            keyframe_calls.append(index)
        assert len(trace.window.keyframes) == int(golden["stream.num_keyframes"][index])
        # The official bank goes on growing when keyframes have stopped; that changes nothing.
        assert 1 + len(trace.window.keyframes) == min(int(golden["stream.motion_bank_size"][index]), 4)
        if f"stream.call{index}.kps" in golden:
            torch.testing.assert_close(chunk.keypoints, golden[f"stream.call{index}.kps"], atol=1e-4, rtol=0)
        if f"stream.call{index}.latents" in golden:
            for name, ours in trace.stubs.seen.items():
                ours = ours if name == "motion" else official(ours.flatten(0, 1), 16)
                torch.testing.assert_close(ours, golden[f"stream.call{index}.{name}"], atol=1e-5, rtol=1e-5)
    assert keyframe_calls == golden["stream.keyframe_calls"].tolist()
    torch.testing.assert_close(
        torch.cat(trace.stubs.keyframes), golden["stream.keyframe_latents"], atol=1e-5, rtol=1e-5
    )


def test_boxes_of_the_stream(golden: Golden) -> None:
    reference = pose_from(golden, "stream.kp_raw", slice(0, 1))
    driving = pose_from(golden, "stream.kp_raw", slice(1, None))
    assert torch.equal(face_boxes(driving.keypoints, 512, 512).long(), golden["stream.boxes"])
    assert torch.equal(face_boxes(reference.keypoints, 512, 512).long(), golden["stream.ref_box"])


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (Options(keyframes="off"), []),
        (Options(max_keyframes=1), [9]),
        (Options(keyframe_threshold=1000.0), []),
        (Options(keyframe_max_drift=1e-6), []),
        (Options(keyframes="newest", max_keyframes=1), [9, 13, 18, 21, 22]),
        (Options(keyframe_warmup_chunks=0, keyframes="capped"), None),
    ],
    ids=["off", "cap", "threshold", "gate", "newest", "paper"],
)
def test_keyframe_policies(
    golden: Golden, chunks: list[Chunk], options: Options, calls: list[int] | None
) -> None:
    """Motion is at levels 0 0 0 1 1 1 1 1 1 1 2 2 2 0 0 3 3 3 1 4 4 4 5 5 per chunk, which leaves three calls later."""
    trace = Trace(golden, options)
    taken = []
    for index, chunk in enumerate(chunks):
        before = len(trace.stubs.keyframes)
        trace.call(chunk)
        if len(trace.stubs.keyframes) > before:
            taken.append(index)
        assert len(trace.window.keyframes) <= options.max_keyframes
    if calls is None:
        assert min(taken) < 9, "the paper takes keyframes from the start"
    else:
        assert taken == calls


def test_fresh_noise_is_drawn_for_what_stays(golden: Golden, chunks: list[Chunk]) -> None:
    """Paper, Algorithm 3: Psi(x0, epsilon, t) with new noise; the official program follows the predicted noise."""
    trace = Trace(golden, Options(renoise="fresh"))
    trace.call(chunks[0])
    assert trace.draws == 3
    latents = trace.stubs.seen["latents"]
    schedule, steps = trace.rules.schedule(CPU), trace.rules.steps(CPU)
    incoming = Conditions(
        identity=[],
        references=None,
        motion=trace.stubs.seen["motion"],
        pose=trace.stubs.seen["pose_fea"],
    )
    epsilon = trace.stubs.denoise(latents, steps[None], incoming)
    clean = ddim.clean(schedule, latents, epsilon, steps)[:, 4:]
    trace.draws = 2
    expected = ddim.noised(schedule, clean, trace.noise((1, 12, 4, 8, 8)), steps[:12])
    torch.testing.assert_close(trace.window.latents, expected)


def test_a_keyframe_that_is_no_news_is_not_taken(golden: Golden) -> None:
    trace = Trace(golden, Options(keyframe_warmup_chunks=0))
    tokens = trace.scene.tokens[0]
    assert not is_new(trace.scene, trace.window, tokens, trace.rules)
    assert is_new(trace.scene, trace.window, tokens + 1, trace.rules), "32 * 16 ones: 22.6"


def test_a_checkpoint_says_what_is_new_where_the_user_does_not(golden: Golden) -> None:
    """Token distances belong to a motion encoder."""
    trace = Trace(golden, Options(keyframe_warmup_chunks=0))
    tokens = trace.scene.tokens[0] + 1
    calm = replace(trace.rules, config=replace(published(), keyframe_threshold=23.0))
    assert not is_new(trace.scene, trace.window, tokens, calm)
    asked = replace(calm, options=replace(calm.options, keyframe_threshold=22.0))
    assert is_new(trace.scene, trace.window, tokens, asked)
