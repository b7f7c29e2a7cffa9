"""Self-reenactment on made people: the same every time, honest baselines, a perfect engine scores perfectly."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.conftest import tiny_engine
from vivant.engines.liveportrait.config import Options
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.evaluation import synthetic
from vivant.evaluation.faces import FoundFaces, measured, series_of
from vivant.evaluation.people import Person, held_out_people, most_frontal
from vivant.evaluation.reenact import Seen, as_liveportrait, as_stored, draw, look_at, resized
from vivant.evaluation.report import Report
from vivant.evaluation.synthetic_report import report_of
from vivant.face.points import Landmarks
from vivant.runtime import precision
from vivant.studio.dataset import read_session, session_path


@pytest.fixture
def without_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "face_models_available", lambda: False)


def measure(engine: LivePortrait, people: Path, **changes: int) -> Report:
    settings = {"pairs_per_session": 2, "size": 64, **changes}
    return synthetic.synthetic_self_reenactment(engine, people, **settings)


def table(report: Report, title: str) -> dict[str, tuple]:
    (found,) = [table for table in report.tables if table.title == title]
    return {str(row[0]): row[1:] for row in found.rows}


def test_same_numbers_every_time(compact: LivePortrait, people: Path, without_mesh: None) -> None:
    calls: list[tuple[int, int]] = []
    settings = {"pairs_per_session": 2, "size": 64}
    first = synthetic.synthetic_self_reenactment(
        compact, people, progress=lambda done, of: calls.append((done, of)), **settings
    )
    assert calls == [(1, 2), (2, 2)]
    assert first.to_json() == measure(compact, people).to_json()
    assert first.settings["pairs"] == 4
    other = measure(compact, people, seed=4)
    assert other.settings["pictures"] != first.settings["pictures"]
    assert other.numbers != first.numbers
    pictures = table(first, "Pictures")
    assert list(pictures) == [
        "copy source",
        "landmark affine",
        "true-flow warp",
        "engine",
        "engine, true motion",
    ]
    assert pictures["copy source"][-1] == 0  # the background does not move
    assert pictures["true-flow warp"][0] > pictures["copy source"][0]
    assert {verdict.result for verdict in first.verdicts} <= {"pass", "fail"}
    assert first.sheets["pictures"].shape[2] == 3


def test_a_perfect_engine_scores_perfectly(
    compact: LivePortrait, people: Path, without_mesh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the networks draw is replaced by the truth, and what they read by the labels."""
    _, found = held_out_people(people, 2, 12, 64, 3)
    by_name = {person.name: person for person in found}
    current: list[Person] = []
    measure_person = synthetic._measure

    def measured(engine: LivePortrait, person: Person, finder: None, findings: synthetic.Findings) -> None:
        current[:] = [by_name[person.name]]
        measure_person(engine, person, finder, findings)

    def look(engine: LivePortrait, pictures: torch.Tensor) -> Seen:
        labels = current[0].source_labels if len(pictures) == 1 else current[0].labels
        at = torch.nn.functional.pad(labels["points"], (0, 1))
        return Seen(synthetic._motion(labels), at, labels["weights"])

    def drawn(engine: LivePortrait, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return synthetic._frames(current[0].driving), current[0].labels["points"]

    monkeypatch.setattr(synthetic, "_measure", measured)
    monkeypatch.setattr(synthetic, "look_at", look)
    monkeypatch.setattr(synthetic, "draw", drawn)
    report = measure(compact, people)
    assert report.numbers["psnr"] == 100
    assert report.numbers["ssim"] == pytest.approx(1)
    assert report.numbers["landmark_error"] == 0
    assert report.numbers["jaw_correlation"] == pytest.approx(1)
    assert report.passed is True
    assert table(report, "Landmark error")["copy source"][1] > 0


def test_published_networks_are_measured_with_what_they_have(people: Path, without_mesh: None) -> None:
    report = measure(tiny_engine("published"), people, num_identities=1)
    assert "engine, true motion" not in table(report, "Pictures")
    assert table(report, "Landmark error") == {}
    results = {verdict.target.number: verdict.result for verdict in report.verdicts}
    assert results["psnr_over_copy"] != "not measured"
    assert results["jaw_correlation"] == "not measured"


def test_mesh_is_asked_where_it_is_installed(compact: LivePortrait, people: Path, face_models: None) -> None:
    rows = table(measure(compact, people, num_identities=1), "Landmark error")
    assert rows["output (mesh)"][-1] == 0  # nobody sees a face in an ellipse


def test_lost_faces_do_not_flatter(compact: LivePortrait) -> None:
    """The mesh's ratio to copying is over pairs that both have; how many were lost is a number of its own."""
    base = np.random.default_rng(0).uniform(0, 50, (478, 3)).astype(np.float32)

    def found(*shifts: float | None) -> FoundFaces:
        faces = [None if by is None else Landmarks(base + np.float32(by), 1.0) for by in shifts]
        series = series_of([measured(face) for face in faces])
        return FoundFaces(series.found, series.quantities, tuple(faces))

    findings = synthetic.Findings()
    # The source, and drivers of which copying is wrong by 4, by 40, and by nobody knows.
    synthetic._score_mesh(found(0, 4, 40, None), found(6, None, 7), findings)
    report = report_of(findings, compact, {}, np.zeros((8, 8, 3), np.uint8), with_mesh=True)
    assert report.numbers["mesh_landmark_error_over_copy"] == pytest.approx(0.5, rel=1e-3)
    assert report.numbers["share_without_face"] == pytest.approx(0.5)
    assert table(report, "Landmark error")["copy source (mesh)"][-1] == 1


def test_a_subset_sees_the_same_pictures(people: Path) -> None:
    _, one = held_out_people(people, 2, 1, 64, 3)
    count, both = held_out_people(people, 2, 12, 64, 3)
    first = next(both)
    assert count == 2
    assert (next(one).driving == first.driving).all()
    session = read_session(session_path(people, 0, 0))
    assert first.name == "0000_0"
    assert abs(session.angles[most_frontal(session)]).sum() == abs(session.angles).sum(1).min()
    again = first.source[first.background[0]]
    assert (again == first.driving[0][first.background[0]]).all()


def test_absolute_drive_differs_from_options_by_scale_only(compact: LivePortrait) -> None:
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    source, driving = look_at(compact, pictures[:1]).motion, look_at(compact, pictures[1:]).motion
    driving = replace(driving, scale=source.repeat(2).scale)
    frames, _ = draw(compact, pictures[:1], source, driving)
    portrait = compact.prepare(pictures[0], face=None)
    state = compact.start(portrait, Options(relative=False, smoothing_ms=0.0, stitching=False))
    for i in range(2):
        expected = as_stored(compact.render(state, driving[i]))
        assert (frames[i : i + 1] - expected).abs().max() <= 1 / 255


def test_motion_comes_from_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels lie on the CPU; an engine on another device takes them there. "meta" stands for a GPU."""
    on_cpu = tiny_engine("compact")
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    source, driving = look_at(on_cpu, pictures[:1]).motion, look_at(on_cpu, pictures[1:]).motion
    elsewhere = LivePortrait(on_cpu.config, on_cpu.networks.to("meta"))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor)  # nothing can be fetched from there
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no "meta"
    frames, where = draw(elsewhere, pictures[:1], source, driving)
    assert frames.shape[0] == where.shape[0] == 2
    assert frames.device.type == where.device.type == "meta"


def test_motion_is_read_as_the_engine_reads_it() -> None:
    """In 16 bits too: motion is computed in float32."""
    networks = tiny_engine("compact").networks
    engine = LivePortrait(LivePortrait.tiny_configs()["compact"], networks, torch.bfloat16)
    precision.place(networks, engine.device, engine.dtype)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    size = engine.config.image_size
    own = engine.networks.motion(resized(pictures, size))
    seen = look_at(engine, pictures)
    assert torch.equal(seen.motion.expression, own.expression)
    assert torch.equal(seen.motion.translation, own.translation)


def test_wrong_input_is_refused(compact: LivePortrait, people: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="held-out"):
        measure(compact, tmp_path)
    with pytest.raises(InputError, match="below 0"):
        measure(compact, people, num_identities=0)
    other = type("Other", (), {"family": "other"})()
    with pytest.raises(InputError, match="not for other"):
        as_liveportrait(other)  # type: ignore[arg-type]
