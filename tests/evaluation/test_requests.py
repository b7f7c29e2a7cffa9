"""What a request is taken for: which items it reads back, and which files are refused before anything is measured."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from vivant.engines import ENGINES, engine_class
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.evaluation import protocol
from vivant.evaluation.driving import open_driving
from vivant.evaluation.items import Item
from vivant.evaluation.reenactment import Request, _Run, measure_reenactment


def test_an_item_belongs_to_one_config(
    compact: LivePortrait, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights draw otherwise where the checkpoint's config says so."""
    for family in ENGINES:
        for config in engine_class(family).tiny_configs().values():
            json.dumps(asdict(config), sort_keys=True)
    measured: list[float | None] = []

    def measure(run: _Run, *_: object) -> Item:
        measured.append(run.engine.config.camera_distance)
        return Item(source="a", clip="b", numbers={}, num_frames=1)

    monkeypatch.setattr(_Run, "_measure", measure)
    request = Request(protocol="self", clips=[driving], items=tmp_path)
    other = LivePortrait(replace(compact.config, camera_distance=9.0), compact.networks)
    for engine in (compact, other, other):
        run = _Run(engine, request, protocol.REENACTMENTS["self"], "self")
        run.item(None, open_driving(driving, engine, 5), lambda _: None)
    assert measured == [compact.config.camera_distance, 9.0]
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_files_are_told_before_anything_is_measured(
    compact: LivePortrait, astronaut: Path, driving: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> Item:
        raise AssertionError("measured before all files were looked at")

    monkeypatch.setattr(_Run, "_measure", measure)
    cross = Request(protocol="cross", clips=[driving], portraits=[astronaut])
    missing = tmp_path / "none.png"
    for request, says in (
        (replace(cross, portraits=[astronaut, missing]), r"none\.png does not exist"),
        (replace(cross, real=missing), r"none\.png does not exist"),
        (replace(cross, real=tmp_path), "holds no picture"),
    ):
        with pytest.raises(InputError, match=says):
            measure_reenactment(compact, request)
