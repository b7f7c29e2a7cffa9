"""Reports: verdicts, strict JSON, Markdown, files; and contact sheets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.evaluation.report import Report, Table, Target, describe_engine
from vivant.evaluation.scores import Scores
from vivant.evaluation.sheet import evenly, sheet

TARGETS = (
    Target(number="psnr", least=4, says="PSNR at least 4 dB"),
    Target(number="error", most=0.25, says="error at most a quarter"),
    Target(number="blink", least=0.5, says="blink at least 0.5"),
    Target(number="nowhere", least=1, says="never measured"),
)


def make_report(**numbers: float) -> Report:
    rows = (("copy", 16.8, float("nan"), 8), ("ours", 21.23456789, None, 8))
    return Report(
        protocol="test/1",
        title="A test",
        subject={"family": "none"},
        settings={"seed": 3},
        numbers=numbers,
        tables=(Table(title="T", columns=("", "a", "b", "n"), rows=rows, note="A note."),),
        targets=TARGETS,
        notes=("One.",),
        sheets={"pictures": np.zeros((8, 8, 3), np.uint8)},
    )


def test_verdicts() -> None:
    report = make_report(psnr=4.0, error=0.26, blink=float("nan"))
    results = [verdict.result for verdict in report.verdicts]
    assert results == ["pass", "fail", "not measured", "not measured"]
    assert report.passed is False
    assert make_report(psnr=5, error=0.1).passed is True
    assert make_report(blink=float("nan")).passed is None


def test_json_is_strict_and_rounded() -> None:
    data = json.loads(make_report(psnr=4.123456, blink=float("nan")).to_json(), parse_constant=pytest.fail)
    assert data["numbers"] == {"psnr": 4.1235, "blink": None}
    assert data["tables"][0]["rows"] == [["copy", 16.8, None, 8], ["ours", 21.2346, None, 8]]
    assert data["verdicts"][0]["result"] == "pass"
    assert data["passed"] is True


def test_markdown_shows_targets_and_tables() -> None:
    text = make_report(psnr=4.5).to_markdown()
    assert "| PSNR at least 4 dB | 4.500 | pass |" in text
    assert "| never measured | - | not measured |" in text
    assert "| ours | 21.23 | - | 8 |" in text
    assert text.endswith("- One.\n")


def test_files_are_written_once(tmp_path: Path) -> None:
    report = make_report(psnr=4.5)
    paths = report.write(tmp_path / "new", "r")
    assert [path.name for path in paths] == ["r.json", "r.md", "r_pictures.jpg"]
    assert all(path.stat().st_size for path in paths)
    with pytest.raises(InputError, match="exists already"):
        report.write(tmp_path / "new", "r")
    assert report.write(tmp_path / "new", "r", overwrite=True) == paths


def test_tables_are_rectangular() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Table(title="T", columns=("", "a"), rows=(("x",),))


def test_scores_keep_order_and_skip_nan_in_means() -> None:
    scores = Scores()
    scores.add("b", "x", 1.0)
    scores.add("a", "x", float("nan"))
    scores.add("a", "x", 3.0)
    assert scores.rows == ("b", "a")
    assert scores.mean("a", "x") == 3
    assert np.isnan(scores.mean("a", "y"))
    assert (scores.count("a", "x"), scores.num_finite("a", "x")) == (2, 1)


def test_fingerprint_follows_the_weights(compact: LivePortrait) -> None:
    first = describe_engine(compact)
    assert first == describe_engine(compact)
    parameter = next(compact.networks.parameters())
    before = parameter.data.clone()
    parameter.data += 1
    assert describe_engine(compact)["weights"] != first["weights"]
    parameter.data = before


def test_sheet_lays_out_cells() -> None:
    tall, wide = np.full((40, 20, 3), 200, np.uint8), np.full((20, 40, 3), 100, np.uint8)
    picture = sheet([[tall, None], [wide, tall]], columns=("a", "b"), labels=("one", ""), cell_px=32)
    assert picture.dtype == np.uint8
    assert picture.shape == (16 + 16 + 2 * 34, 2 * 34 + 2, 3)
    assert (picture[40, 18] == 200).all()
    assert (picture[40, 4] == 245).all()  # beside a tall picture
    assert (picture[66 + 16, 18] == 100).all()


def test_evenly_spread() -> None:
    assert evenly(10, 4) == [0, 3, 6, 9]
    assert evenly(2, 8) == [0, 1]
    assert evenly(0, 3) == []
