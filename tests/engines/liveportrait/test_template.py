"""Published motion templates are read, in both spellings and all protocols; hostile pickles run nothing."""

from __future__ import annotations

import os
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivant.engines.liveportrait.template import read_template
from vivant.errors import InputError


def template(num_frames: int = 2, *, old: bool = False, shape: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def array(*dims: int) -> np.ndarray:
        return rng.normal(size=dims).astype(np.float32)

    frames = []
    for _ in range(num_frames):
        frame = {"scale": array(1, 1), "exp": array(1, 21, 3), "t": array(1, 3)}
        frame["R_d" if old else "R"] = array(1, 3, 3)
        if shape:
            frame |= {"kp": array(1, 21, 3), "x_s": array(1, 21, 3)}
        frames.append(frame)
    prefix = "c_d_" if old else "c_"
    return {
        "n_frames": num_frames,
        "output_fps": 25,
        "motion": frames,
        f"{prefix}eyes_lst": [array(1, 2) for _ in range(num_frames)],
        f"{prefix}lip_lst": [array(1, 1) for _ in range(num_frames)],
    }


def write(path: Path, data: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(data, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("old", [False, True])
def test_templates_are_read(tmp_path: Path, protocol: int, old: bool) -> None:
    data = template(old=old)
    read = read_template(write(tmp_path / "t.pkl", data, protocol))
    assert (read.frame_rate, len(read.motions)) == (Fraction(25), 2)
    for motion, frame, eyes in zip(
        read, data["motion"], data["c_d_eyes_lst" if old else "c_eyes_lst"], strict=True
    ):
        assert np.array_equal(motion.rotation, frame["R_d" if old else "R"])
        assert np.array_equal(motion.expression, frame["exp"])
        assert np.array_equal(motion.canonical, frame["kp"])
        assert np.array_equal(motion.eyes_open, eyes)


def test_without_ratios_or_shape(tmp_path: Path) -> None:
    data = template(shape=False)
    del data["c_eyes_lst"], data["c_lip_lst"]
    data["output_fps"] = np.float64(29.97)
    read = read_template(write(tmp_path / "t.pkl", data))
    assert read.frame_rate == Fraction(2997, 100)
    assert read.motions[0].eyes_open is None
    assert not read.motions[0].canonical.any()


class Calls:
    """Pickles to a call of whatever it is given."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    good = pickle.dumps(template(), 4)
    return {
        "system": pickle.dumps(Calls(os.system, command)),
        "eval": pickle.dumps(Calls(eval, f"open({str(marker)!r}, 'w')")),
        "inside a frame": pickle.dumps({"motion": [{"R": Calls(os.system, command)}]}),
        "nested": pickle.dumps([Calls(getattr, Calls(__import__, "os"), "system")]),
        "numpy load": b"cnumpy\nload\n(S'x'\ntR.",
        "a huge array": b"cnumpy\nndarray\n((I1000000000000\nttR.",
        "a huge memo": b"\x80\x04Nr\xff\xff\xff\x7f.",
        "a huge string": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",
        "objects": pickle.dumps({"motion": [{"R": np.array([{}], dtype=object)}]}),
        "truncated": good[: len(good) // 2],
        "text": b"this is not a pickle",
        "empty": b"",
        "deep": b"(" * 100_000 + b".",
        "wrong shape": pickle.dumps({"motion": [{"R": np.zeros((1, 2, 2), np.float32)}]}),
        "not finite": pickle.dumps(
            {**template(), "motion": [{**template()["motion"][0], "t": np.full((1, 3), np.nan)}]}
        ),
        "no motion": pickle.dumps({"motion": []}),
        "a list": pickle.dumps([1, 2]),
    }


@pytest.mark.parametrize("name", sorted(hostile(Path("x"))))
def test_hostile_files_run_nothing(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "t.pkl"
    path.write_bytes(hostile(marker)[name])
    with pytest.raises(InputError, match=r"t\.pkl is not a motion template"):
        read_template(path)
    assert not marker.exists()


def test_missing_and_oversized(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_template(tmp_path / "none.pkl")
    with (tmp_path / "big.pkl").open("wb") as file:
        file.truncate(500_000_001)
    with pytest.raises(InputError, match="larger than 500 MB"):
        read_template(tmp_path / "big.pkl")
