"""Real people: what counts, what is left out, and one short animation of the example files."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.data import astronaut as astronaut_picture

from vivant.animation import animate
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.evaluation import protocol, real
from vivant.evaluation.driving import names_of
from vivant.evaluation.faces import QUANTITIES, FaceFinder, FaceWatch, mouth_opening
from vivant.evaluation.real import real_drive
from vivant.evaluation.real_report import Driven, Followed, report_of
from vivant.face.points import LIP_INNER_BOTTOM, LIP_INNER_TOP, Landmarks


def driven(clip: str, **changes: Any) -> Driven:
    settings: dict[str, Any] = {
        "portrait": "someone",
        "clip": clip,
        "num_frames": 10,
        "num_without_face": 1,
        "followed": {name: Followed(0.95, 0.8, 10.0) for name in QUANTITIES},
        "jitter_driver": 2.0,
        "jitter_output": 3.0,
        "background": 1.0,
        "texture": 0.9,
        "rest_psnr": 30.0,
    }
    return Driven(**(settings | changes))


def test_still_drivers_are_shown_and_not_counted(compact: LivePortrait) -> None:
    still = {name: Followed(-0.5, 9.0, 0.9 * protocol.MOVES_AT_LEAST[name]) for name in QUANTITIES}
    report = report_of([driven("moves"), driven("still", followed=still)], compact, {}, {}, {})
    assert report.numbers["yaw_correlation"] == pytest.approx(0.95)
    assert report.numbers["mouth_amplitude"] == pytest.approx(0.8)
    assert report.passed is True
    rows = {row[0]: row for table in report.tables for row in table.rows if "Correlation" in table.title}
    assert rows["someone x still"][1] == "(-0.500)"
    assert rows["someone x moves"][1] == 0.95
    assert report.numbers["share_without_face"] == pytest.approx(0.1)
    assert report.numbers["jitter_over_driver"] == pytest.approx(1.5)


def test_nothing_is_judged_where_nobody_moves(compact: LivePortrait) -> None:
    still = {name: Followed(0.99, 1.0, 0.0) for name in QUANTITIES}
    report = report_of([driven("still", followed=still)], compact, {}, {}, {})
    assert {verdict.result for verdict in report.verdicts} == {"not measured"}
    assert report.passed is None
    report.to_json()


@pytest.mark.parametrize(
    ("amplitude", "result"), [(0.4, "fail"), (0.5, "pass"), (1.5, "pass"), (1.6, "fail")]
)
def test_amplitude_has_two_ends(compact: LivePortrait, amplitude: float, result: str) -> None:
    followed = {name: Followed(0.95, amplitude, 10.0) for name in QUANTITIES}
    report = report_of([driven("moves", followed=followed)], compact, {}, {}, {})
    found = {verdict.target.number: verdict.result for verdict in report.verdicts}
    assert found["yaw_amplitude"] == result


def test_mouth_opening_is_relative_to_the_eyes() -> None:
    points = np.zeros((468, 3), np.float32)
    points[263, 0] = 50  # outer eye corners at 0 and 50
    points[LIP_INNER_TOP, 1], points[LIP_INNER_BOTTOM, 1] = 10, 20
    assert mouth_opening(Landmarks(points, 1.0)) == pytest.approx(0.2)


def test_faces_are_found_or_marked_missing(face_models: None) -> None:
    picture = np.ascontiguousarray(astronaut_picture()[:300, 80:380])
    watch = FaceWatch()
    followed = [watch.update(each) is not None for each in (picture, picture * 0, picture, picture, picture)]
    assert followed == watch.series.found.tolist() == [True, False, True, True, True]
    assert len(watch) == 5
    assert 0 < watch.jitter < 20  # the mesh settles on a still picture
    found = FaceFinder().faces([picture, picture * 0])
    for series in (watch.series, found):
        assert abs(series.quantities["yaw"][0]) < 40
        assert np.isnan(series.quantities["mouth"][1])
    assert np.isnan(found.meshes[1]).all()
    assert found.eye_distance[0] > 20


def test_examples_go_through(
    compact: LivePortrait, astronaut: Path, driving: Path, face_models: None
) -> None:
    calls: list[tuple[int, int]] = []
    report = real_drive(
        compact, [astronaut], [driving], max_frames=4, progress=lambda done, of: calls.append((done, of))
    )
    assert calls == [(1, 1)]
    assert set(report.sheets) == {"driving"}
    assert report.settings["max_frames"] == 4
    assert report.settings["portraits"] == "astronaut"
    again = real_drive(compact, [astronaut], [driving], max_frames=4)
    assert again.to_json() == report.to_json()
    assert "/" not in report.settings["clips"]
    (read,) = [table for table in report.tables if "read from the driver" in table.title]
    assert [row[0] for row in read.rows] == ["driving, correlation", "driving, amplitude"]


def test_folders_are_opened_and_names_told_apart(
    compact: LivePortrait, astronaut: Path, driving: Path, face_models: None, tmp_path: Path
) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        shutil.copy(driving, tmp_path / folder / "talk.mp4")
    shutil.copy(astronaut, tmp_path / "other" / "a.png")
    report = real_drive(compact, [tmp_path / "other"], [tmp_path / "one", tmp_path / "other"], max_frames=3)
    assert report.settings["portraits"] == "a"
    assert report.settings["clips"] == "talk, talk-2"
    assert set(report.sheets) == {"talk", "talk-2"}
    assert [row[0] for row in report.tables[1].rows] == ["a x talk", "a x talk-2"]
    assert names_of([Path(name) for name in ("x/a", "y/a", "a-2", "z/a")]) == ["a", "a-3", "a-2", "a-4"]
    with pytest.raises(InputError, match="holds no portrait"):
        real_drive(compact, [tmp_path / "one"], [driving])


def test_no_frame_is_kept(
    compact: LivePortrait, astronaut: Path, driving: Path, face_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    alive: list[weakref.ref[np.ndarray]] = []
    most: list[int] = []

    def counted(*args: Any, **options: Any) -> Iterator[np.ndarray]:
        def frames() -> Iterator[np.ndarray]:
            for frame in args[2]:
                alive.append(weakref.ref(frame))
                most.append(sum(each() is not None for each in alive))
                yield frame

        rates.append(options["frame_rate"])
        return animate(*args[:2], frames(), **options)

    monkeypatch.setattr(real, "animate", counted)
    monkeypatch.setattr(protocol, "NUM_SHEET_COLUMNS", 3)
    real_drive(compact, [astronaut], [driving], max_frames=10)
    assert len(most) == 10
    assert max(most) <= 4
    assert rates == [12.5], "each second frame of 25 a second"


def test_wrong_input_is_refused(compact: LivePortrait, astronaut: Path, driving: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        real_drive(compact, [astronaut], [])
    with pytest.raises(InputError, match="max_frames 3"):
        real_drive(compact, [astronaut], [driving], max_frames=2)
