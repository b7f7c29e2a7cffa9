"""The ablation tables of personalive, drawn from random weights on a real clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from vivant import checkpoint
from vivant.engines.personalive.config import tiny
from vivant.engines.personalive.engine import PersonaLive
from vivant.evaluation import protocol
from vivant.face.models import face_models_available

DRIVING = Path(__file__).parents[2] / "examples" / "driving.mp4"


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not face_models_available():
        pytest.skip("the face models are not on this machine (vivant doctor --fix)")
    monkeypatch.setattr(protocol, "REENACTMENT_PX", 64)
    plan = replace(protocol.REENACTMENTS["self"], max_frames=3)
    monkeypatch.setitem(protocol.REENACTMENTS, "self", plan)
    torch.manual_seed(0)
    networks = PersonaLive.build_networks(tiny())
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    checkpoint.save(tmp_path / "trained", "personalive", tiny(), networks)
    return tmp_path / "trained"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_row_differs_and_every_seed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import personalive_ablations as ablations

    line = [str(trained), "--clip", str(DRIVING), "--tau", "0", "1000", "--seeds", "0"]
    tables = ablations.main(line)
    assert {name: list(rows) for name, rows in tables.items()} == {
        "tau": ["0", "1000"],
        "decoder": ["full", "tiny"],
        "schedule": ["[999, 499, 0]", "[999, 665, 332]"],
        "signals": ["k_d + m_d", "k_d + m_s", "k_s + m_d", "k_s + m_s"],
    }
    for table, rows in tables.items():
        changes = [row["change error"][0] for row in rows.values()]
        assert len(set(changes)) == len(changes), f"{table}: a variant changed nothing"
    (seeds,) = ablations.main([*line[:3], "--tables", "tau", "--tau", "0", "--seeds", "0", "1"]).values()
    first, second = seeds["0"]["change error"]
    assert first == tables["tau"]["0"]["change error"][0] != second
    printed = capsys.readouterr().out
    assert "identity rises with tau: not measured" in printed, "no face can be found in noise"
    assert "the tiny decoder is faster: " in printed


def test_shapes_are_read_from_the_numbers() -> None:
    import personalive_ablations as ablations

    def rows(*values: float) -> dict[str, dict[str, list[float]]]:
        names = ("k_d + m_d", "k_d + m_s", "k_s + m_d")
        columns = ("pose error", "points error", "expression error")
        return {
            n: {c: [v, v + 0.1] for c, v in zip(columns, (value, value, 3 - value), strict=True)}
            for n, value in zip(names, values, strict=True)
        }

    assert list(ablations.shapes("signals", rows(1, 1, 2)).values()) == ["yes"] * 3
    assert list(ablations.shapes("signals", rows(1, 2, 1)).values()) == ["no"] * 3
    assert list(ablations.shapes("signals", rows(1, 2, float("nan"))).values()) == ["not measured"] * 3
    identity = {
        str(tau): {"identity": [tau / 20], "FVD": [20 - tau], "change error": [1.0]} for tau in (15, 17)
    }
    assert list(ablations.shapes("tau", identity).values()) == [
        "yes",
        "no",
        "not beyond what seeds differ by",
    ]
