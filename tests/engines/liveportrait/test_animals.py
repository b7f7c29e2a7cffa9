"""Animals: weights without stitching, their own way of moving points, squares in place of a detector, a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from test_convert import write_community, write_official
from torch import Tensor

import vivant
from vivant import checkpoint, presets
from vivant.animation import animate
from vivant.cli import main
from vivant.controls import Controls
from vivant.engines.liveportrait.config import Config, Options, tiny_animals, tiny_published
from vivant.engines.liveportrait.convert import convert_published
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.liveportrait.motion import Motion, keypoints
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.retargeting import place
from vivant.errors import FaceError, InputError
from vivant.face import animals
from vivant.face.choose import parse_face_choice
from vivant.face.detect import Detection
from vivant.ops.rotation import rotation_from_degrees

WITH_STITCHING = replace(tiny_published(), subject="animal")
STITCHING = "stitching_retargeting_module"


def drawn(config: Config) -> PublishedNetworks:
    torch.manual_seed(0)
    networks = PublishedNetworks(config).eval().requires_grad_(False)
    for parameter in networks.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return networks


def motion_of(frames: int, seed: int) -> Motion:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(frames, *shape, generator=generator)

    return Motion(
        rotation=rotation_from_degrees(*(10 * normal(3)).unbind(1)),
        expression=0.02 * normal(21, 3),
        scale=1.4 + 0.05 * normal(1),
        translation=0.05 * normal(3),
        canonical=0.3 * torch.randn(1, 21, 3, generator=generator).expand(frames, -1, -1),
    )


def official(source: Motion, driving: Motion, multiplier: float) -> Tensor:
    """The published animal program, written out (specification, section 5)."""

    def shape(motion: Motion) -> Tensor:
        posed = source.scale[:, None] * (source.canonical @ motion.rotation + motion.expression)
        return torch.cat([posed[..., :2] + motion.translation[:, None, :2], posed[..., 2:]], -1)

    x_s, y = shape(source), shape(driving)
    volumes = [ConvexHull(points[0].double().numpy()).volume for points in (x_s, y)]
    x = x_s + (volumes[0] / volumes[1]) ** 0.5 * (y - y[:1])
    return x_s + multiplier * (x - x_s)


@pytest.mark.parametrize("compatibility", ["vivant", "published"])
def test_points_move_as_the_published_program_moves_them(compatibility: str) -> None:
    networks, source, driving = drawn(tiny_animals()), motion_of(1, 1), motion_of(4, 2)
    options = Options(driving_multiplier=1.75, compatibility=compatibility)  # type: ignore[arg-type]
    x_s = keypoints(source, source.canonical, tiny_animals())
    _, where = place(networks, source, x_s, driving, driving[0], options, tiny_animals())
    torch.testing.assert_close(where, official(source, driving, 1.75), atol=1e-5, rtol=0)


def test_stitching_only_where_the_checkpoint_has_it_and_only_when_asked() -> None:
    source, driving = motion_of(1, 1), motion_of(2, 2)
    networks = drawn(WITH_STITCHING)
    x_s = keypoints(source, source.canonical, WITH_STITCHING)

    def placed(options: Options) -> Tensor:
        return place(networks, source, x_s, driving, driving[0], options, WITH_STITCHING)[1]

    plain, stitched = placed(Options()), placed(Options(stitching=True))
    torch.testing.assert_close(plain, official(source, driving, 1.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(stitched, networks.stitch(x_s, plain))
    with pytest.raises(InputError, match="no networks for stitching"):
        place(
            drawn(tiny_animals()), source, x_s, driving, driving[0], Options(stitching=True), tiny_animals()
        )


@pytest.mark.parametrize(
    "options",
    [
        Options(region="lip"),
        Options(eye_retargeting=True),
        Options(lips_open=0.2),
        Options(normalize_lip=True),
        Options(relative_to="neutral"),
    ],
    ids=lambda options: next(n for n, v in vars(options).items() if v != getattr(Options(), n)),
)
def test_options_made_for_human_faces_are_refused(options: Options) -> None:
    engine = LivePortrait(WITH_STITCHING, drawn(WITH_STITCHING))
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)
    with pytest.raises(InputError, match="animals have no"):
        engine.start(portrait, options)
    with pytest.raises(InputError, match="not videos"):
        engine.appear(engine.start(portrait), portrait)
    with pytest.raises(InputError, match="one picture"):
        engine.at_rest(engine.start(portrait), portrait.motion, None)
    with pytest.raises(InputError, match="human faces"):
        engine.edit_motion(portrait, Controls(smile=0.5))


@pytest.mark.parametrize("write", [write_official, write_community])
def test_conversion_with_and_without_the_human_stitching_file(write: object, tmp_path: Path) -> None:
    folder = write(tmp_path / "in")  # type: ignore[operator]
    convert_published([folder], tmp_path / "whole", config=WITH_STITCHING)
    next(folder.rglob(f"{STITCHING}.*")).unlink()
    convert_published([folder], tmp_path / "bare", config=WITH_STITCHING)
    for name, expected in (("whole", WITH_STITCHING), ("bare", tiny_animals())):
        engine = vivant.load(tmp_path / name, device="cpu", dtype="float32")
        assert engine.config == expected
    with pytest.raises(Exception, match=STITCHING):
        convert_published([folder], tmp_path / "human", config=tiny_published())


def test_the_preset_is_for_animals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert presets.PRESETS["liveportrait-animals"].variant == "animals"
    arguments = ["convert", "--preset", "liveportrait-animals", "-o", str(tmp_path / "out"), str(tmp_path)]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "spade_generator" in said
    assert STITCHING not in said


def test_a_given_square_is_cut_from_source_and_driver() -> None:
    """And nothing is looked for: the pictures show no face."""
    engine = LivePortrait(tiny_animals(), drawn(tiny_animals()))
    noise = np.random.default_rng(0).integers(0, 255, (2, 200, 300, 3)).astype(np.uint8)
    portrait = engine.prepare(noise[0], face="120,90@128")
    assert portrait.framing is not None
    np.testing.assert_array_equal(portrait.framing.cropped, noise[0][26:154, 56:184])
    with animate(engine, portrait, list(noise), driving_face="101,100@128") as animation:
        frames = list(animation)
    assert [frame.shape for frame in frames] == [(200, 300, 3)] * 2
    aligned = [np.ascontiguousarray(picture[36:164, 37:165]) for picture in noise]
    with animate(engine, portrait, aligned, driving_face=None) as animation:
        expected = list(animation)
    for frame, same in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame, same)
    with pytest.raises(InputError, match="outside"):
        engine.prepare(noise[0], face="400,90@128")


def test_squares_are_parsed_and_told_from_points() -> None:
    assert parse_face_choice("10,20@64").square == (10.0, 20.0, 64.0)
    assert parse_face_choice("10,20").square is None
    with pytest.raises(InputError, match="at least 32"):
        parse_face_choice("10,20@8")


def test_the_surest_detection_is_taken_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def face(x: float, score: float, side: float) -> Detection:
        box = (x - side / 2, 100 - side / 2, x + side / 2, 100 + side / 2)
        return Detection(box, score, *[(x, 100.0)] * 6)

    class Detector:
        faces = (face(60, 0.2, 90), face(220, 0.6, 60))

        def detect(self, image: np.ndarray, min_score: float) -> list[Detection]:
            assert min_score == animals.MIN_SCORE
            return list(self.faces)

    monkeypatch.setattr(animals, "default_detector", Detector)
    image = np.zeros((200, 300, 3), np.uint8)
    framing = animals.frame_animal(image, "largest", size_px=64)
    assert framing.crop.side_px == pytest.approx(60 * animals.SQUARE_OVER_BOX)
    assert framing.landmarks is None
    assert "220,100@78" in caplog.text
    assert animals.frame_animal(image, "60,100", size_px=64).crop.side_px == pytest.approx(117)
    with pytest.raises(FaceError, match="x,y@size"):
        animals.frame_animal(image, "2", size_px=64)
    for several in ("all", "0,1,2"):
        with pytest.raises(FaceError, match=f"one animal is animated at a time, not --face {several}"):
            animals.frame_animal(image, several, size_px=64)


def test_animals_know_no_compact_networks() -> None:
    config = LivePortrait.tiny_configs()["compact"]
    with pytest.raises(ValueError, match="only published networks"):
        replace(config, subject="animal")
    assert checkpoint.FORMAT == 1
