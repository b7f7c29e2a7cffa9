"""Motion algebra against the official program, run end to end with its networks replaced by stored answers."""

from __future__ import annotations

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from vivant.engines.liveportrait.config import Options, published
from vivant.engines.liveportrait.motion import Motion, keypoints
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.published_motion import (
    drive_clip,
    finish_published,
    neutral_expression,
    size_ratio,
    source_video_eyes,
    still_reference,
)
from vivant.engines.liveportrait.retargeting import place
from vivant.face.points import published_ratios
from vivant.ops.rotation import degrees_from_bins, degrees_from_rotation, rotation_from_degrees
from vivant.ops.smoothing import smooth_clip

Golden = dict[str, Tensor]
CONFIG = published()
TOLERANCE = 2e-6
TOLERANCE_NETWORKS = 1e-5
STREAMED = 0.04
"""What the published smoother of source videos is worth, as a share of the largest step between two frames."""

# Official cases: driver kind . relative or absolute . option . region . extras
CASES = [
    "i2i.abs.all",
    "i2i.rel.all",
    "i2i.rel.all.expr_friendly_ignored",
    "i2i.rel.exp",
    "i2i.rel.eyes",
    "i2i.rel.lip",
    "i2i.rel.pose",
    "i2v.abs.all",
    "i2v.abs.all.expr_friendly_ignored",
    "i2v.abs.exp",
    "i2v.abs.eyes",
    "i2v.abs.lip",
    "i2v.abs.pose",
    "i2v.rel.expr_friendly.all",
    "i2v.rel.expr_friendly.lip",
    "i2v.rel.pose_friendly.all",
    "i2v.rel.pose_friendly.all.mult0.5",
    "i2v.rel.pose_friendly.exp",
    "i2v.rel.pose_friendly.eyes",
    "i2v.rel.pose_friendly.lip",
    "i2v.rel.pose_friendly.pose",
    "v2i.abs.all",
    "v2i.rel.all",
    "v2i.rel.eyes",
    "v2i.rel.lip",
    "v2v.abs.all",
    "v2v.abs.lip",
    "v2v.rel.all",
    "v2v.rel.all.smooth3e-4",
    "v2v.rel.exp",
    "v2v.rel.eyes",
    "v2v.rel.lip",
    "v2v.rel.pose",
    # With the stitching and retargeting networks:
    "i2v.abs.all.eye_lip_retarget.stitch",
    "i2v.rel.all.eye_lip_retarget.stitch",
    "i2v.rel.all.eye_retarget",
    "i2v.rel.all.lip_retarget",
    "i2v.rel.expr_friendly.all.stitch",
    "i2v.rel.expr_friendly.all.stitch.mult1.3",
    "i2v.rel.pose_friendly.all.lipzero",
    "i2v.rel.pose_friendly.all.stitch",
    "i2v.rel.pose_friendly.all.stitch.lipzero",
    "v2v.rel.all.eyes_source_b",
    "v2v.rel.all.stitch.lipzero.eyes_source",
]
WITHOUT_NETWORKS = CASES[: CASES.index("i2v.abs.all.eye_lip_retarget.stitch")]


def record(golden: Golden, which: str, landmarks: str | None = None) -> Motion:
    part = {
        name: golden[f"motion.{which}.{name}"] for name in ("pitch", "yaw", "roll", "t", "exp", "scale", "kp")
    }
    angles = (part[name][:, 0] for name in ("pitch", "yaw", "roll"))
    landmarks_203 = golden[f"motion.{landmarks or which}.lmk203"].numpy()
    ratios = torch.tensor([published_ratios(points) for points in landmarks_203])
    return Motion(
        rotation=rotation_from_degrees(*angles),
        expression=part["exp"],
        scale=part["scale"],
        translation=part["t"],
        canonical=part["kp"],
        eyes_open=ratios[:, :2],
        lips_open=ratios[:, 2:],
    )


def own_keypoints(motion: Motion) -> Tensor:
    return keypoints(motion, motion.canonical, CONFIG)


def options_of(case: str) -> Options:
    words = case.partition(".")[2].replace("0.5", "0_5").replace("1.3", "1_3").split(".")
    multiplier = next((float(word[4:].replace("_", ".")) for word in words if word.startswith("mult")), 1.0)
    friendly = any(word.startswith("expr_friendly") for word in words)
    return Options(
        relative=words[0] == "rel",
        region=next(word for word in words if word in ("all", "exp", "pose", "lip", "eyes")),
        driving_multiplier=multiplier,
        driving_option="expression-friendly" if friendly else "pose-friendly",
        relative_to="neutral" if case.startswith("i2i") else "first",
        stitching="stitch" in words,
        eye_retargeting="eye_retarget" in words or "eye_lip_retarget" in words,
        lip_retargeting="lip_retarget" in words or "eye_lip_retarget" in words,
        normalize_lip="lipzero" in words,
        compatibility="published",
    )


def run_case(networks: PublishedNetworks, golden: Golden, case: str) -> Tensor:
    """The driven keypoints of an official case, by our functions."""
    kind, *words = case.split(".")
    variance = next((float(word[6:]) for word in words if word.startswith("smooth")), 3e-7)
    options = options_of(case)
    source = record(golden, "source", "source_b" if "eyes_source_b" in words else None)
    driving = record(golden, "driving")
    if kind.endswith("i"):
        driving = driving[0]
    if kind.startswith("i"):
        source = source[0]
        return place(networks, source, own_keypoints(source), driving, driving[0], options, CONFIG)[1]
    driven = drive_clip(source, driving, options, CONFIG, variance)
    where, target = own_keypoints(driven), None
    if any(word.startswith("eyes_source") for word in words):
        target = source_video_eyes(source)
    return finish_published(networks, source, own_keypoints(source), driven, where, driving, options, target)[
        1
    ]


@pytest.mark.parametrize("case", CASES)
def test_case(plain: PublishedNetworks, golden: Golden, case: str) -> None:
    tolerance = TOLERANCE if case in WITHOUT_NETWORKS else TOLERANCE_NETWORKS
    assert_close(run_case(plain, golden, case), golden[f"motion.x_d.{case}"], tolerance)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.startswith("v2") and "smooth" not in case and "_source" not in case],
)
def test_source_videos_as_they_stream(plain: PublishedNetworks, golden: Golden, case: str) -> None:
    """Frame by frame, without the smoother (gain 0.97): images as drivers exact, videos within STREAMED."""
    options, is_image = options_of(case), case.startswith("v2i")
    source, driving = record(golden, "source"), record(golden, "driving")
    first = still_reference(driving[0], Options()) if is_image else driving[0]
    expected = golden[f"motion.x_d.{case}"]
    where = [
        place(
            plain,
            source[index],
            own_keypoints(source[index]),
            driving[0 if is_image else index],
            first,
            options,
            CONFIG,
            source_moves=True,
        )[1]
        for index in range(len(expected))
    ]
    largest_step = float(expected.diff(dim=0).abs().max())
    assert_close(torch.cat(where), expected, TOLERANCE if is_image else STREAMED * largest_step)


def test_no_case_is_forgotten(golden: Golden) -> None:
    stored = {name.removeprefix("motion.x_d.") for name in golden if name.startswith("motion.x_d.")}
    assert stored == set(CASES)
    assert len(CASES) == len(stored)


def test_source_keypoints(golden: Golden) -> None:
    source = record(golden, "source")
    assert_close(own_keypoints(source), golden["motion.x_s.video"], TOLERANCE)
    assert_close(own_keypoints(source[0]), golden["motion.x_s.image"], TOLERANCE)


def test_equation_2(golden: Golden) -> None:
    part = {
        name: golden[f"pure.transform.{name}"] for name in ("pitch", "yaw", "roll", "t", "exp", "scale", "kp")
    }
    motion = Motion(
        rotation=rotation_from_degrees(part["pitch"][:, 0], part["yaw"][:, 0], part["roll"][:, 0]),
        expression=part["exp"],
        scale=part["scale"],
        translation=part["t"],
        canonical=part["kp"],
    )
    assert_close(own_keypoints(motion), golden["pure.transform.x"], TOLERANCE)


def test_angles_from_bins(golden: Golden) -> None:
    assert_close(degrees_from_bins(golden["pure.headpose.logits"]), golden["pure.headpose.degrees"], 1e-5)


def test_rotations(golden: Golden) -> None:
    angles = golden["pure.rotation.pitch_yaw_roll_deg"]
    rotation = rotation_from_degrees(*angles.T)
    assert_close(rotation, golden["pure.rotation.R"], 1e-5)
    front = angles[:, 1].abs() < 90
    assert_close(torch.stack(degrees_from_rotation(rotation[front]), -1), angles[front], 1e-4)


@pytest.mark.parametrize(("name", "variance"), [("default", 3e-7), ("strong", 3e-4)])
def test_smoother(golden: Golden, name: str, variance: float) -> None:
    ours = smooth_clip(golden["pure.kalman.in"], process_variance=1e-5, observation_variance=variance)
    assert_close(ours, golden[f"pure.kalman.{name}"], 1e-6)


def test_size_ratio(golden: Golden) -> None:
    ours = size_ratio(golden["pure.multiplier.x_s"], golden["pure.multiplier.x_d0"])
    assert abs(ours - golden["pure.multiplier.value"].item()) < 1e-6


def test_neutral_expression(golden: Golden) -> None:
    assert_close(neutral_expression(), golden["const.lip_array"][0], 1e-10)
