"""The other commands: they pass on what was typed and say what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivant.cli.studio import parse_numbers
from vivant.evaluation.reenactment import Request
from vivant.evaluation.report import Report
from vivant.presets import PRESETS

from .lines import Run, left_in


def test_presets(run: Run) -> None:
    text = run("presets").out
    assert all(name in text for name in PRESETS)
    rows = json.loads(run("presets", "--json").out)
    assert [row["name"] for row in rows] == list(PRESETS)
    assert all(row["installed"] == "yes" or row["get"] for row in rows)


def test_licenses(run: Run) -> None:
    """Nothing on the default path is non-commercial, and everything has a source."""
    rows = json.loads(run("licenses", "--json").out)
    names = {row["name"] for row in rows}
    assert {*PRESETS, "face_landmark.tflite", "ICT-FaceKit (ICT Face Model Light)"} <= names
    assert all(row["source"] and row["licence"] for row in rows)
    # Weights that nobody gets without converting them; their authors' terms are not for everything.
    restricted = {row["name"] for row in rows if row["commercial_use"] != "yes"}
    assert restricted == {"personalive", "flashportrait"}
    assert "commercial use  yes" in run("licenses").out


@pytest.mark.parametrize(("text", "numbers"), [("3", [3]), ("0-3", [0, 1, 2, 3]), ("0-1,7, 9", [0, 1, 7, 9])])
def test_numbers(text: str, numbers: list[int]) -> None:
    assert parse_numbers(text) == numbers


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the studio was asked to do."""
    calls: list[tuple[Any, ...]] = []

    def render(out: Path, identities: list[int], *more: Any) -> list[Path]:
        *settings, progress, overwrite = more
        calls.append((out, identities, *settings, overwrite))
        progress(1, 2)
        return [out / "a", out / "b"]

    monkeypatch.setattr("vivant.studio.dataset.render_dataset", render)
    monkeypatch.setattr("vivant.studio.sheet.contact_sheet", lambda *given: calls.append(given))
    monkeypatch.setattr("vivant.studio.clip.render_clip", lambda *given, overwrite: calls.append(given) or 7)
    monkeypatch.setattr("vivant.studio.fetch.fetch_face_model", lambda progress: Path("model.npz"))
    return calls


def test_studio(run: Run, here: Path, called: list[tuple[Any, ...]]) -> None:
    done = run(
        "studio", "render", "data", "--identities", "12-13", "--size", "64", "--frames", "3", "--workers", "2"
    )
    assert (done.code, done.out) == (0, "data: 2 sessions\n")
    assert called.pop() == (Path("data"), [12, 13], 2, 3, 64, 0, 2, False)
    assert run("studio", "sheet", "people.png", "--identities", "1").out == "people.png\n"
    assert called.pop() == (Path("people.png"), [1], 4, 0, 192, 0)
    done = run("studio", "clip", "a.mp4", "--text", "Good morning.", "--voice", "slt", "--turn-degrees", "8")
    assert done.out == "a.mp4: 7 frames\n"
    assert called.pop() == (Path("a.mp4"), "Good morning.", "slt", 0, 0, 256, 25, 0, 8.0, 1.0)
    done = run("studio", "fetch")
    assert done.out == "model.npz\n"
    assert "MIT licence" in done.err
    assert run("studio").out.startswith("Usage: vivant studio")


def test_studio_refuses(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVANT_FACE_MODEL", str(here / "nowhere.npz"))
    done = run("studio", "render", "data")
    assert done.code == 2
    assert "vivant studio fetch" in done.err
    assert run("studio", "render", "data", "--identities", "x").code == 2
    done = run("studio", "render", "data", "--identities", "1,5-3")
    assert done.code == 2
    assert "write 3-5" in done.err
    for command in ("render", "talk", "sheet", "clip"):
        done = run("studio", command, "data.png", "--seed", "-1")
        assert done.code == 2
        assert "--seed" in done.err
    (here / "mine.png").write_text("mine")
    with monkeypatch.context() as patch:
        for module in ("dataset", "talking"):
            patch.setattr(f"vivant.studio.{module}.load_face_model", lambda: None)
        for command in ("render", "talk"):
            done = run("studio", command, "mine.png", "--size", "64")
            assert done.code == 2
            assert "mine.png cannot be written: a file of that name exists already" in done.err
    assert "--overwrite" in run("studio", "sheet", "mine.png").err
    assert left_in(here) == ["mine.png"]


@pytest.mark.parametrize("command", ["live", "serve", "batch", "evaluate", "motion"])
def test_work_that_nobody_shares_is_refused(
    run: Run, here: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under torchrun, where every process would do it all."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = run(command, "info") if command == "motion" else run(command)
    assert refused.code == 2
    assert (
        f"vivant {command} runs in one process, and WORLD_SIZE says 2: start it without torchrun"
        in refused.err
    )
    assert "Missing option" in run("animate").err
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert "runs in one process" not in run("motion", "info").err


def test_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivant.cli.extras.find_spec", lambda name: None)
    for line in (("studio", "fetch"), ("train", "liveportrait/debug_motion", "--data", "d", "-o", "o")):
        done = run(*line)
        assert done.code == 2
        assert "this needs numba; run `python -m pip install 'vivant[" in done.err


def test_webrtc_is_an_extra_of_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivant.cli.extras.find_spec", lambda name: None if name == "aiortc" else name)
    done = run("serve", "--webrtc")
    assert done.code == 2
    assert "this needs aiortc; run `python -m pip install 'vivant[webrtc]'`" in done.err


def test_train(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def train(name: str, data: Path, folder: Path, *, report: Any, **more: Any) -> bool:
        report({"images": 10, "of": 20, "seconds_per_1000": 2.0, "loss": 0.5})
        asked.append((name, data, folder, more))
        return more["minutes"] is None

    monkeypatch.setattr("vivant.training.launch.train", train)
    line = (
        "train",
        "liveportrait/mini_motion",
        "--data",
        "d",
        "--out",
        "o",
        "--init",
        "i",
        "--seed",
        "2",
        "--device",
        "cpu",
    )
    done = run(*line)
    assert (done.code, done.out) == (0, "o/export: complete; use it with --preset o/export\n")
    assert asked.pop() == (
        "liveportrait/mini_motion",
        Path("d"),
        Path("o"),
        {"init": Path("i"), "minutes": None, "images": None, "fit_minutes": None, "seed": 2, "device": "cpu"},
    )
    assert "the same command goes on" in run(*line, "--minutes", "1").out


def test_train_refuses(run: Run, here: Path) -> None:
    done = run("train", "liveportrait/maxi", "--data", "d", "-o", "o")
    assert done.code == 2
    assert "no recipe 'maxi'; there are debug_" in done.err
    done = run("train", "liveportrait/debug_motion", "--data", "d", "-o", "o")
    assert done.code == 2
    assert "d holds no training sessions" in done.err
    done = run("train", "liveportrait/debug_motion", "-o", "o")
    assert done.code == 2
    assert "give their folder as --data" in done.err
    (here / "mine.png").write_text("mine")
    done = run("train", "liveportrait/debug_motion", "--data", "d", "-o", "mine.png")
    assert done.code == 2
    assert "mine.png is a file; give a folder as --out" in done.err
    (here / "mine.png").unlink()
    assert left_in(here) == []


@pytest.fixture
def report() -> Report:
    return Report(
        protocol="made-up/1",
        title="A measure",
        subject={},
        settings={},
        numbers={"psnr": 30.0},
        tables=(),
        sheets={"pairs": np.zeros((4, 4, 3), np.uint8)},
    )


def test_evaluate(run: Run, here: Path, tiny: Path, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vivant.evaluation.synthetic.synthetic_self_reenactment", lambda engine, data, progress: report
    )
    done = run("evaluate", "--preset", tiny, "--data", "d")
    assert done.code == 0
    assert done.out.startswith("# A measure")
    assert left_in(here) == []
    line = ("evaluate", "--preset", tiny, "--data", "d", "-o", "reports")
    assert run(*line).code == 0
    written = left_in(here)
    assert written == ["reports/synthetic.json", "reports/synthetic.md", "reports/synthetic_pairs.jpg"]
    assert run(*line).code == 2
    assert run(*line, "--overwrite").code == 0


@pytest.mark.parametrize("command", ["bench", "evaluate"])
def test_a_report_that_cannot_be_written_is_said_before_measuring(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def never(*given: object, **more: object) -> Report:
        raise AssertionError("it measured")

    monkeypatch.setattr("vivant.evaluation.speed.measure_speed", never)
    monkeypatch.setattr("vivant.load", never)
    line = {"bench": ("bench",), "evaluate": ("evaluate", "--portrait", "p.png", "--clip", "c.mp4")}[command]
    (here / "file").write_text("x")
    refused = run(*line, "-o", "file")
    assert (refused.code, "file is a file" in refused.err) == (2, True)
    (here / "out").mkdir()
    (here / "out" / ("speed.json" if command == "bench" else "real.json")).write_text("{}")
    refused = run(*line, "-o", "out")
    assert (refused.code, "exists already" in refused.err) == (2, True)


def test_evaluate_by_protocol(
    run: Run, here: Path, tiny: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def measured(engine: object, request: Request, progress: object) -> Report:
        asked.append(request)
        return report

    monkeypatch.setattr("vivant.evaluation.reenactment.measure_reenactment", measured)
    line = ("evaluate", "--preset", tiny, "--protocol", "cross", "--clip", "a.mp4", "--clip", "b.mp4")
    assert run(*line, "--portrait", "p.png", "--real", "faces", "-o", "out").code == 0
    assert asked[0].clips == [Path("a.mp4"), Path("b.mp4")]
    assert asked[0].items == Path("out/cross_items")
    assert asked[0].judges.fingerprints.keys() == {"identity", "sync-expert"}, "the embedded ones judge too"
    assert asked[0].options is None, "the defaults, whichever they will be"
    refused = run(*line, "-o", "out")
    assert refused.code == 2
    assert "out/cross.json exists already; use --overwrite" in refused.err
    assert len(asked) == 1
    assert run(*line, "--smoothing-ms", "0", "--no-stitching", "-o", "still").code == 0
    assert (asked[1].options.smoothing_ms, asked[1].options.stitching) == (0, False)
    assert "this preset has no --num-steps" in run(*line, "--num-steps", "4").err
    assert "knows no 'vgg'" in run(*line, "--weights", "vgg=a.pth").err
    assert "belong to --protocol" in run("evaluate", "--preset", tiny, "--weights", "gaze=a").err


def test_evaluate_refuses(run: Run, here: Path, tiny: Path) -> None:
    assert "there is nothing to measure; give --data" in run("evaluate", "--preset", tiny).err
    done = run("evaluate", "--preset", tiny, "--data", "nowhere")
    assert done.code == 2
    assert "nowhere" in done.err
