"""Controls by their own names and those of other programs, and keyframes over time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivant.controls import LIMITS, NAMES, SLIDERS, Controls, parse_controls
from vivant.errors import InputError
from vivant.keyframes import make_keyframes, read_keyframes


def test_what_is_out_of_range_is_refused() -> None:
    assert Controls().changed == ()
    assert Controls(yaw=5, smile=-1).changed == ("yaw", "smile")
    for bad in ({"yaw": 26}, {"wink_left": -0.1}, {"smile": float("nan")}, {"calm": 2}):
        name = next(iter(bad))
        with pytest.raises(InputError, match=f"{name} is between"):
            Controls(**bad)
    with pytest.raises(InputError, match="add --sliders alp"):
        Controls(blink=-20)


def test_other_programs_sliders() -> None:
    alp = {
        "rotate_yaw": 10,
        "blink": -20,
        "smile": 1.3,
        "pupil_y": 15,
        "aaa": 60,
        "src_ratio": 0.25,
        "sample_ratio": 1,
    }
    meant = parse_controls(alp, "alp")
    assert meant == Controls(yaw=-10, blink=1, smile=1, gaze_y=-1, aa=0.5, calm=0.75)
    assert parse_controls({"blink": 5}, "alp") == Controls(blink=-1)
    assert parse_controls({"eyebrow": -10, "eee": 15}) == Controls(brows=-1, ee=1), (
        "no one else has these names"
    )
    theirs = {"--face-editor-eye-open-ratio": -0.5, "mouth-smile": 0.4, "head_pitch": 0.5}
    assert parse_controls(theirs) == Controls(blink=0.5, smile=0.4, pitch=-10)
    assert parse_controls({"smile": 0.5}, base=Controls(smile=0.2, yaw=3)) == Controls(smile=0.7, yaw=3)
    with pytest.raises(InputError, match=r"rotate_yaw is between -20 and 20, got 21"):
        parse_controls({"rotate_yaw": 21})
    with pytest.raises(InputError, match="there is no control 'nose'"):
        parse_controls({"nose": 1})


@pytest.mark.parametrize("sliders", ["alp", "facefusion"])
def test_every_foreign_slider_does_something_and_nothing_at_rest(sliders: Any) -> None:
    for name, slider in SLIDERS[sliders].items():
        for value in (slider.low, slider.high):  # ends of their ranges are within ours
            parse_controls({name: value}, sliders)
        if name != "sample_ratio":
            changed = [parse_controls({name: value}, sliders).changed for value in (slider.low, slider.high)]
            assert any(changed), name
        rest = 1 if name == "src_ratio" else 0
        assert parse_controls({name: rest}, sliders) == Controls()


def test_keyframes() -> None:
    rows = [{"time": 1, "yaw": 0, "smile": 1}, {"time": 2, "yaw": 20}, {"time": 4, "yaw": 10, "smile": 0}]
    straight = make_keyframes(rows, interpolation="linear")
    assert straight.end == 4
    assert straight.at(0) == straight.at(1) == Controls(smile=1)
    assert straight.at(1.5).yaw == pytest.approx(10)
    assert straight.at(2.5) == Controls(yaw=17.5, smile=0.5), "each control goes its own way"
    assert straight.at(9) == Controls(yaw=10)
    smooth = make_keyframes(rows)
    assert smooth.at(1.5).yaw == pytest.approx(10)
    assert smooth.at(1.05).yaw < straight.at(1.05).yaw / 2, "a soft start"
    assert smooth.at(2, Controls(yaw=-3, brows=1)) == Controls(yaw=17, smile=smooth.at(2).smile, brows=1)
    assert make_keyframes([{"time": 0, "src_ratio": 1}, {"time": 1, "src_ratio": 0}]).at(1) == Controls(
        calm=1
    )


@given(st.floats(0, 5), st.sampled_from(["smooth", "linear"]))
def test_between_keyframes_nothing_leaves_its_limits(seconds: float, interpolation: Any) -> None:
    low, high = LIMITS["yaw"]
    frames = make_keyframes(
        [{"time": t, "yaw": (low, high)[t % 2]} for t in range(5)], interpolation=interpolation
    )
    assert low <= frames.at(seconds).yaw <= high


def test_numbers_beyond_all_floats_are_no_numbers(tmp_path: Path) -> None:
    huge = "1" + 400 * "0"
    for row in ('{"time": 0, "yaw": HUGE}', '{"time": HUGE, "yaw": 1}', '{"time": 0, "yaw": NaN}'):
        (tmp_path / "k.json").write_text(f"[{row.replace('HUGE', huge)}]")
        with pytest.raises(InputError, match=r"k\.json"):
            read_keyframes(tmp_path / "k.json")


def test_sums_reach_their_limits() -> None:
    assert parse_controls({"x": 0.02}, base=Controls(x=0.1)).x == LIMITS["x"][1]


def test_files_of_keyframes(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text(
        json.dumps({"interpolation": "linear", "sliders": "alp", "keyframes": [{"time": 0, "blink": -10}]})
    )
    assert read_keyframes(path).at(3) == Controls(blink=0.5)
    path = tmp_path / "k.csv"
    path.write_text("\ufefftime, yaw,mouth-smile\n0,0,\n1,10,0.5\n2,,0\n")
    assert read_keyframes(path).at(1) == Controls(yaw=10, smile=0.5)
    assert read_keyframes(path).at(2) == Controls(yaw=10)
    for text, says in (
        ("[]", "no keyframe"),
        ("{", "neither JSON nor CSV"),
        ('{"a": 1}', "no list of keyframes"),
        ('[{"yaw": 1}]', "keyframe 1 needs a time"),
        ('[{"time": 1}, {"time": 1}]', "times rise"),
        ('[{"time": 0, "nose": 1}]', "keyframe 1: there is no control 'nose'"),
        ('[{"time": 0, "yaw": 99}]', "keyframe 1: yaw is between"),
        ('[{"time": 0, "yaw": true}]', "yaw is a number"),
        ('{"interpolation": "wild", "keyframes": [{"time": 0}]}', "smooth or linear"),
    ):
        path = tmp_path / "bad.json"
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            read_keyframes(path)
    (tmp_path / "bad.csv").write_text("time,yaw\n0,1,2\n")
    with pytest.raises(InputError, match="more cells than the header"):
        read_keyframes(tmp_path / "bad.csv")


def test_every_control_has_a_name_and_a_text() -> None:
    assert len(NAMES) == len(set(NAMES)) == 23
