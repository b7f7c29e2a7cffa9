"""Reenactment protocols end to end on tiny engines: same numbers again, going on, nothing left out in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vivant.engine import StreamSpec
from vivant.engines import ENGINES, engine_class
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.refvae.sync_expert import SyncExpert
from vivant.errors import InputError
from vivant.evaluation import metrics, protocol, reenactment
from vivant.evaluation.catalogue import CATALOGUE, measured_in
from vivant.evaluation.driving import driven, found_files, open_driving
from vivant.evaluation.gauges.change import ChangeGauge
from vivant.evaluation.gauges.drift import DriftGauge
from vivant.evaluation.gauges.faces import FaceGauge, JitterGauge
from vivant.evaluation.gauges.given import ScriptGauge
from vivant.evaluation.gauges.sync import SyncGauge
from vivant.evaluation.items import Item, ItemFolder
from vivant.evaluation.judges.given import Judges
from vivant.evaluation.judges.perceptual import Lpips
from vivant.evaluation.judges.recognition import aligned, five_points
from vivant.evaluation.judges.scripted import Scripted
from vivant.evaluation.plot import PAPER, plot
from vivant.evaluation.reenactment import Request, measure_reenactment
from vivant.evaluation.reenactment_report import RealPictures, report_of
from vivant.evaluation.report import Report
from vivant.evaluation.shown import Shown
from vivant.face.identity import IdentityNetwork
from vivant.face.points import Landmarks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protocols as they are, on fewer and smaller frames."""
    monkeypatch.setattr(protocol, "REENACTMENT_PX", 128)
    for name, frames in (("self", 5), ("cross", 25), ("long", 9)):
        plan = replace(protocol.REENACTMENTS[name], max_frames=frames)
        monkeypatch.setitem(protocol.REENACTMENTS, name, plan)


class _First(nn.Module):
    """Some numbers of each row, and the mean of the row."""

    def __init__(self, count: int, *, pair: bool = False) -> None:
        super().__init__()
        self.count, self.pair = count, pair

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        rows = x.flatten(1)
        made = rows[:, :: rows.shape[1] // self.count][:, : self.count] + rows.mean(1, keepdim=True)
        return (made, made[:, :2]) if self.pair else made


@pytest.fixture(scope="module")
def judges() -> Judges:
    torch.manual_seed(0)
    return Judges(
        lpips_alex=Lpips("alex").eval().requires_grad_(False),
        identity=IdentityNetwork((4, 4, 4, 4), 8).eval(),
        coefficients=Scripted(_First(6, pair=True), "coefficients"),
        gaze=Scripted(_First(3), "gaze"),
        clips=Scripted(_First(4), "clips"),
        sync_expert=SyncExpert((2, 3, 4, 5, 6)).eval().requires_grad_(False),
        fingerprints={"gaze": "0123456789ab"},
    )


def named(report: Report, title: str) -> list[str]:
    (table,) = [table for table in report.tables if table.title == title]
    return [str(row[0]).split("/")[0] for row in table.rows]


def test_self_reenactment_gives_the_same_numbers_again(
    compact: LivePortrait, driving: Path, face_models: None, tmp_path: Path
) -> None:
    calls: list[tuple[int, int | None]] = []
    request = Request(protocol="self", clips=[driving], items=tmp_path / "items")
    report = measure_reenactment(compact, request, lambda done, of: calls.append((done, of)))
    assert calls[-1] == (5, 5)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    again = measure_reenactment(compact, replace(request, items=None))
    kept = measure_reenactment(compact, request)
    assert again.to_json() == report.to_json() == kept.to_json()
    # Whatever the protocol names is measured or said not to be.
    wanted = {metric.name for metric in measured_in("self")}
    assert set(named(report, "Measured")) | set(named(report, "Not measured")) == wanted
    assert {"psnr", "ssim", "l1", "apd_mesh", "lmd_mesh", "gaze_mesh", "tl1"} <= set(
        named(report, "Measured")
    )
    assert "needs --weights arcface=PATH" in report.to_markdown()
    assert {path.name for path in report.write(tmp_path, "self")} == {
        "self.json",
        "self.md",
        "self_sheet.jpg",
    }
    assert str(driving.parent) not in report.to_json()


def test_a_stopped_run_goes_on(
    compact: LivePortrait, driving: Path, face_models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(driving, clips / name)
    (clips / "notes.txt").write_text("not a clip")
    request = Request(protocol="self", clips=[clips], items=tmp_path / "items")
    started: list[str] = []

    def watched(*args: object, **options: object) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        started.append(args[2].path.stem)  # type: ignore[attr-defined]
        if started == ["a", "b"]:
            raise KeyboardInterrupt
        return driven(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reenactment, "driven", watched)
    with pytest.raises(KeyboardInterrupt):
        measure_reenactment(compact, request)
    report = measure_reenactment(compact, request)
    assert started == ["a", "b", "b"]
    assert [row[0] for row in report.tables[-1].rows] == ["a", "b"]
    item = next((tmp_path / "items").iterdir())
    item.write_bytes(b"torn")
    with pytest.raises(InputError, match="remove it to measure it again"):
        measure_reenactment(compact, request)


def test_cross_reenactment_with_every_judge(
    compact: LivePortrait, astronaut: Path, driving: Path, face_models: None, judges: Judges
) -> None:
    request = Request(protocol="cross", clips=[driving], portraits=[astronaut], judges=judges)
    report = measure_reenactment(compact, request)
    measured = set(named(report, "Measured"))
    assert {"aed", "apd", "mae", "csim_own", "tlp", "texture", "jitter_over_driver"} <= measured
    assert not {"psnr", "lmd_mesh"} & (measured | set(named(report, "Not measured")))
    # One clip of 25 frames has no spread.
    assert "fvd25" in named(report, "Not measured")
    assert report.settings["weights"] == "gaze 0123456789ab"
    assert [row[0] for row in report.tables[-1].rows] == ["astronaut x driving"]
    json.loads(report.to_json())


def test_frechet_distances_are_of_the_whole_set(compact: LivePortrait) -> None:
    rng = np.random.default_rng(0)
    outputs = [rng.normal(size=(30, 5)).astype(np.float32) for _ in range(2)]
    items = [
        Item(
            source="a",
            clip=name,
            numbers={},
            num_frames=30,
            features={
                "inception_output": rows,
                "inception_target": rows + shift,
                "clips_output": rows[:, :3],
                "clips_target": 2 * rows[:, :3] + shift,
            },
            thumbs={"source": np.zeros((1, 8, 8, 3), np.uint8)},
        )
        for name, rows, shift in zip("bc", outputs, (1, 3), strict=True)
    ]
    plan = protocol.REENACTMENTS["self"]
    request = Request(protocol="self", clips=[])
    report = report_of("self", plan, items, compact, request, None)
    targets, made = metrics.RunningGaussian(5), metrics.RunningGaussian(5)
    targets.update(np.concatenate([outputs[0] + 1, outputs[1] + 3]))
    made.update(np.concatenate(outputs))
    assert report.numbers["fid"] == pytest.approx(metrics.frechet_distance(made, targets))
    of_driver, of_output = metrics.RunningGaussian(3), metrics.RunningGaussian(3)
    of_driver.update(np.concatenate([2 * outputs[0][:, :3] + 1, 2 * outputs[1][:, :3] + 3]))
    of_output.update(np.concatenate(outputs)[:, :3])
    fvd = pytest.approx(metrics.frechet_distance(of_output, of_driver))
    assert report.numbers["fvd25"] == fvd
    # In cross-reenactment only given pictures count.
    plan = protocol.REENACTMENTS["cross"]
    real = RealPictures(2, "0123", made)
    request = replace(request, protocol="cross")
    assert np.isnan(report_of("cross", plan, items, compact, request, None).numbers["fid"])
    report = report_of("cross", plan, items, compact, request, real)
    assert report.numbers["fid"] == pytest.approx(0, abs=1e-6)
    assert report.settings["real"] == "2 pictures 0123"
    assert report.numbers["fvd25"] == fvd, "of the driving clips, whatever FID compares with"


def test_long_clips_give_curves(
    compact: LivePortrait,
    driving: Path,
    face_models: None,
    judges: Judges,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = replace(protocol.REENACTMENTS["long"], every=2, drift_seconds=0.08)
    monkeypatch.setitem(protocol.REENACTMENTS, "long", plan)
    request = Request(protocol="long", clips=[driving], judges=Judges(identity=judges.identity))
    report = measure_reenactment(compact, request)
    quantities = ("sharpness", "colour", "texture", "identity")
    assert {f"{name}_drift" for name in quantities} <= set(named(report, "Measured"))
    names = {path.name for path in report.write(tmp_path, "long")}
    for quantity in quantities:
        curve = report.curves[f"driving x driving: {quantity}"]
        assert [point[0] for point in curve] == [2, 4, 6, 8]
        assert f"long_{quantity}.png" in names
    assert '"curves"' in (tmp_path / "long.json").read_text()


@pytest.mark.parametrize("family", sorted(ENGINES))
def test_every_family_is_driven_frame_by_frame(family: str, driving: Path, face_models: None) -> None:
    """Whatever drives and however late the answer comes, each picture is paired with its moment of the clip."""
    torch.manual_seed(0)
    kind = engine_class(family)
    engine = kind(config := next(iter(kind.tiny_configs().values())), kind.build_networks(config))
    clip = open_driving(driving, engine, 14)
    size = engine.crop_size_px
    portrait = engine.prepare(torch.rand(3, size, size), face=None)
    pairs = list(driven(engine, portrait, clip, options=None, seed=0))
    assert len(pairs) == 14
    assert all(np.array_equal(frame, pair[1]) for frame, pair in zip(clip.frames(), pairs, strict=True))
    assert clip.rate == (engine.stream.frame_rate_hz or 25) or engine.stream.driving == "video"


def test_wrong_requests_are_refused(
    compact: LivePortrait, astronaut: Path, driving: Path, tmp_path: Path
) -> None:
    def refused(match: str, **parts: object) -> None:
        request = Request(**({"protocol": "self", "clips": [driving]} | parts))  # type: ignore[arg-type]
        with pytest.raises(InputError, match=match):
            measure_reenactment(compact, request)

    refused("--protocol is self, cross, long, got best", protocol="best")
    refused("needs clips", clips=[])
    refused("leave --portrait out", portraits=[astronaut])
    refused("needs portraits", protocol="cross")
    refused("holds no clip", clips=[tmp_path])
    refused("does not exist", clips=[tmp_path / "none.mp4"])
    with pytest.raises(InputError, match="more than one clip is called driving"):
        found_files([driving, driving], "video", "clip")


def test_items_come_back_as_they_were(tmp_path: Path) -> None:
    folder = ItemFolder(tmp_path / "items")
    item = Item(
        source="a",
        clip="b",
        numbers={"psnr": 30.5, "csim": float("nan")},
        num_frames=7,
        features={"clips_output": np.eye(3, dtype=np.float32)},
        thumbs={"source": np.zeros((1, 4, 4, 3), np.uint8)},
    )
    assert folder.read("key") is None
    folder.write("key", item)
    read = folder.read("key")
    assert read is not None
    assert read.numbers["psnr"] == 30.5
    assert np.isnan(read.numbers["csim"])
    np.testing.assert_array_equal(read.features["clips_output"], np.eye(3))
    assert [path.suffix for path in folder.folder.iterdir()] == [".safetensors"]  # type: ignore[union-attr]


MakeShown = Callable[..., Shown]


@pytest.fixture
def shown() -> MakeShown:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    points = np.float32(20 + 30 * rng.random((478, 3)))

    def make(index: int, brighter: int = 0, moved: float = 0.0) -> Shown:
        made = (np.clip(picture.astype(int) + brighter, 0, 255)).astype(np.uint8)
        face = Landmarks(points, 1.0)
        return Shown(index, made, picture, picture, Landmarks(points + np.float32(moved), 1.0), face, face)

    return make


def test_the_same_face_has_no_error(shown: MakeShown) -> None:
    for mode in ("self", "cross"):
        gauge = FaceGauge(mode)  # type: ignore[arg-type]
        for index in range(4):
            gauge.update(shown(index))
        gauge.update(replace(shown(4), output_face=None))
        numbers = gauge.numbers()
        assert numbers.pop("share_without_face") == pytest.approx(0.2)
        assert all(value == pytest.approx(0, abs=1e-4) for value in numbers.values())
    jitter = JitterGauge()
    for index in range(6):
        jitter.update(shown(index, moved=2.0 * (index % 2)))
    assert np.isnan(jitter.numbers()["jitter_over_driver"])  # the driver stands still
    moved = FaceGauge("self")
    moved.update(shown(0, moved=3.0))
    assert moved.numbers()["lmd_mesh"] == pytest.approx(3 * np.sqrt(2), rel=1e-3)
    assert moved.numbers()["apd_mesh"] == pytest.approx(0, abs=1e-3)


def test_flicker_and_chunks_are_seen(shown: MakeShown) -> None:
    spec = StreamSpec(driving="video", chunk_frames=2, delay_frames=1, frame_rate_hz=None)
    gauge = ChangeGauge("self", Judges(), spec)
    # With a delay of one frame the first chunk holds one.
    for index, brighter in enumerate((0, 4, 5, 9, 10)):
        gauge.update(shown(index, brighter=brighter))
    numbers = gauge.numbers()
    assert numbers["tl1"] == pytest.approx(100 * 2.5 / 255, rel=0.1)
    assert numbers["border_ratio"] == pytest.approx(4, rel=0.1)
    assert "border_ratio" not in ChangeGauge("self", Judges(), LivePortrait.stream).numbers()


def test_drift_compares_the_ends(shown: MakeShown) -> None:
    gauge = DriftGauge(Judges(), window_frames=2)
    for index, brighter in enumerate((0, 0, 20, 60, 60)):
        gauge.update(shown(index, brighter=brighter))
    numbers = gauge.numbers()
    assert numbers["colour_drift"] > 5
    assert numbers["sharpness_drift"] < 0  # clipped at white
    assert numbers["texture_drift"] == pytest.approx(0, abs=0.2)
    assert len(gauge.curves["colour"]) == 5
    assert np.isnan(DriftGauge(Judges(), window_frames=2).numbers()["colour_drift"])


def test_scripts_are_compared_face_by_face(shown: MakeShown) -> None:
    """AED and APD are mean absolute differences, MAE an angle, between output and driver in the same frame."""

    def coefficients(faces: Tensor) -> tuple[Tensor, Tensor]:
        brightness = faces.mean((1, 2, 3))[:, None]
        return torch.cat([brightness, 0 * brightness], 1), 3 * brightness

    def gaze(faces: Tensor) -> Tensor:
        brightness = faces.mean((1, 2, 3))
        return torch.stack([brightness - brightness[-1], 0 * brightness, torch.full_like(brightness, 0.1)], 1)

    judges = Judges(coefficients=Scripted(coefficients, "coefficients"), gaze=Scripted(gaze, "gaze"))
    gauge = ScriptGauge(judges)
    soft = shown(0).target // 2
    for index, brighter in enumerate((20, 60)):
        gauge.update(replace(shown(index), output=soft + np.uint8(brighter), target=soft))
    gauge.update(replace(shown(2, brighter=99), output_face=None))
    numbers = gauge.numbers()
    # Frames differ by 20 and by 60 of 255 in the first of two numbers, three times as much in the pose.
    assert numbers["aed"] == pytest.approx(40 / 255 / 2, rel=1e-3)
    assert numbers["apd"] == pytest.approx(3 * 40 / 255, rel=1e-3)
    angles = np.degrees(np.arctan(np.array([20, 60]) / 255 / 0.1))
    assert numbers["mae"] == pytest.approx(angles.mean(), rel=1e-3)
    assert ScriptGauge(Judges()).numbers() == {}


def test_aligned_faces_lie_on_the_template() -> None:
    from vivant.evaluation.judges.arcface import TEMPLATE

    points = np.full((478, 3), 50, np.float32)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]]) * 2
    for index, at in zip((468, 473, 1, 61, 291), np.array(TEMPLATE) @ turn.T + [100, 90], strict=True):
        points[index, :2] = at
    face = Landmarks(points, 1.0)
    picture = np.zeros((400, 400, 3), np.uint8)
    for x, y in five_points(face):
        picture[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5] = 255
    square = aligned(picture, face)
    assert all(square[round(y), round(x)].min() > 200 for x, y in TEMPLATE)


def test_plots_draw_lines_and_gaps() -> None:
    rising = np.stack([np.arange(50), np.arange(50.0)], 1)
    broken = rising.copy()
    broken[20:30, 1] = np.nan
    drawn = [plot(lines, title="t") for lines in ({"a": rising}, {"a": broken}, {"a": np.zeros((0, 2))})]
    ink = [(picture != PAPER).any(2).sum() for picture in drawn]
    assert ink[0] > ink[1] > ink[2] > 0


def test_the_documentation_names_every_metric() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    for metric in CATALOGUE:
        assert f"| `{metric.name}` |" in text, metric.name


def test_sync_is_judged_at_25_frames_a_second(shown: MakeShown) -> None:
    torch.manual_seed(0)
    sound = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1
    judges = Judges(sync_expert=SyncExpert((2, 3, 4, 5, 6)).eval().requires_grad_(False))
    gauges = {rate: SyncGauge(judges, sound, rate) for rate in (25.0, 50.0)}
    for rate, gauge in gauges.items():
        for index in range(round(rate)):
            gauge.update(shown(index, brighter=round(4 * index * 25 / rate) % 90))
    numbers = [gauge.numbers() for gauge in gauges.values()]
    assert numbers[0]["sync_expert_distance"] > 0
    # At twice the rate each second frame shows what the slower clip shows.
    assert numbers[1] == pytest.approx(numbers[0], abs=0.05)
    lost = SyncGauge(judges, sound, 25.0)
    for index in range(25):
        lost.update(replace(shown(index), output_face=None) if index == 7 else shown(index))
    assert np.isnan(lost.numbers()["sync_expert_distance"])
    for samples in (1000, 2999):  # 63 to 187 ms hold no window of 16 columns
        brief = SyncGauge(judges, sound[:samples], 25.0)
        for index in range(6):
            brief.update(shown(index))
        assert np.isnan(brief.numbers()["sync_expert_distance"])
    assert SyncGauge(Judges(), sound, 25.0).numbers() == {}
