"""Several faces of one picture: each follows its driver, nobody is pasted over anybody, borders do not show."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from stand_ins import pictures, tiny_engine

import vivant
from vivant.engine import Engine
from vivant.engines.liveportrait.config import Options
from vivant.errors import FaceError, InputError
from vivant.evaluation.metrics import seam_ratio
from vivant.face.models import face_models_available
from vivant.face.paste import BORDER, Patch, owners
from vivant.presets import DEFAULT_PRESET
from vivant.sources import SourceVideo

pytestmark = pytest.mark.skipif(
    not face_models_available(), reason="needs the face models (vivant doctor --fix)"
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return tiny_engine()


@pytest.fixture(scope="module")
def couple() -> np.ndarray:
    """Two heads cheek by cheek, 95 pixels apart: the square of each, 213 pixels wide, covers an eye of the other."""
    left = astronaut()[:400, 40:440]
    right = np.asarray(255 - (255 - left[:, ::-1].astype(int)) * 0.8, np.uint8)
    return np.concatenate([left[:, :230], right[:, 165:]], axis=1)


@pytest.fixture(scope="module")
def people(engine: Engine, couple: np.ndarray) -> list[Any]:
    return engine.prepare_faces(couple, face="0,1")


def animated(engine: Engine, who: Any, driving: Any, **settings: Any) -> list[np.ndarray]:
    return list(vivant.animate(engine, who, driving, driving_face=None, **settings))


def patches_of(people: list[Any]) -> list[Patch]:
    return [Patch(np.zeros((1, 1, 3), np.uint8), who.framing.crop, who.framing.others) for who in people]


def test_each_face_follows_its_driver(engine: Engine, couple: np.ndarray, people: list[Any]) -> None:
    """Exactly as if it were animated alone, and in any order."""
    first, second = pictures(4, seed=1), pictures(4, seed=2)
    alone = [animated(engine, who, clip) for who, clip in zip(people, (first, second), strict=True)]
    together = animated(engine, people, {0: first, 1: second})
    backwards = animated(engine, people[::-1], {1: second, 0: first})
    for index in range(4):
        for face, who in enumerate(people):
            x, y = np.rint(who.framing.landmarks.xy.mean(0)).astype(int)
            mine = np.s_[y - 40 : y + 40, x - 30 : x + 30]
            np.testing.assert_array_equal(together[index][mine], alone[face][index][mine])
            assert not np.array_equal(together[index][mine], couple[mine])
        np.testing.assert_array_equal(together[index][300:], couple[300:])
        assert np.abs(together[index].astype(int) - backwards[index]).max() <= 1
    one_driver = animated(engine, people, first)
    np.testing.assert_array_equal(one_driver[3], animated(engine, people, {0: first, 1: first})[3])


@pytest.mark.parametrize("on_missing", ["hold", "source"])
def test_a_shorter_driver_holds_its_face(engine: Engine, people: list[Any], on_missing: Any) -> None:
    long, short = pictures(4, seed=1), pictures(2, seed=2)
    plain = Options(smoothing_ms=0)
    held = animated(engine, people, {0: long, 1: short}, options=plain, on_missing=on_missing)
    expected = animated(engine, people, {0: long, 1: [*short, short[1], short[1]]}, options=plain)
    for frame, want in zip(held, expected, strict=True):
        np.testing.assert_array_equal(frame, want)


def test_a_neighbour_is_left_alone(engine: Engine, couple: np.ndarray, people: list[Any]) -> None:
    """The square of the animated face covers the other's eyes; they are not touched."""
    _, frame = animated(engine, people[0], pictures(2, seed=1))
    other = people[1].framing
    eyes = np.rint(other.landmarks.xy[[33, 133, 362, 263]]).astype(int)
    square = people[0].framing.crop.to_crop(eyes.astype(np.float32))
    assert ((square > 4) & (square < 60)).all(1).any(), "there is something to protect"
    for x, y in eyes:
        np.testing.assert_array_equal(
            frame[y - 5 : y + 5, x - 5 : x + 5], couple[y - 5 : y + 5, x - 5 : x + 5]
        )


def test_people_of_a_video_keep_their_drivers(engine: Engine, couple: np.ndarray, tmp_path: Path) -> None:
    """The camera pans; each face goes on with its own driver, and stays as it is where only the other is named."""
    for index in range(4):
        Image.fromarray(np.ascontiguousarray(couple[:320, 2 * index : 455 + 2 * index])).save(
            tmp_path / f"{index}.png"
        )
    source = SourceVideo(engine, tmp_path, face="0,1")
    assert source.numbers == (0, 1)
    first, second = pictures(4, seed=1), pictures(4, seed=2)
    together = animated(engine, source, {0: first, 1: second})
    swapped = animated(engine, SourceVideo(engine, tmp_path, face="all"), {0: second, 1: first})
    alone = animated(engine, SourceVideo(engine, tmp_path, face="1"), second)
    scenes = list(source.scenes(Fraction(25), hold=False))
    for index, scene in enumerate(scenes):
        for face, framing in enumerate(scene.faces):
            assert framing is not None
            x, y = np.rint(framing.landmarks.xy.mean(0)).astype(int)
            mine = np.s_[y - 30 : y + 30, x - 25 : x + 25]
            given = scene.image[mine] if scene.image is not None else None
            assert not np.array_equal(together[index][mine], given)
            if index:
                assert not np.array_equal(together[index][mine], swapped[index][mine])
            if face == 1:
                assert np.abs(alone[index][mine].astype(int) - together[index][mine]).max() <= 1
            else:
                np.testing.assert_array_equal(alone[index][mine], given)


def test_what_cannot_be(engine: Engine, couple: np.ndarray, people: list[Any]) -> None:
    clip = pictures(1)
    with pytest.raises(FaceError, match="shows 2 faces numbered 0-1; --face 4 does not exist"):
        engine.prepare_faces(couple, face="0,1,4")
    with pytest.raises(FaceError, match="faces 0, 1 are meant and one is needed"):
        engine.prepare(couple, face="all")
    with pytest.raises(InputError, match="faces 0, 1 are animated and faces 0, 3 have a driver"):
        animated(engine, people, {0: clip, 3: clip})
    with pytest.raises(InputError, match="leave --no-paste-back out"):
        animated(engine, people, clip, paste_back=False)
    with pytest.raises(InputError, match="prepare them with `prepare_faces`"):
        animated(engine, [people[0], engine.prepare(couple.copy())], clip)


def test_borders_do_not_show(couple: np.ndarray) -> None:
    """With the embedded preset, steps across the borders are no larger than the picture's own (measured: 0.86)."""
    mini = vivant.load(DEFAULT_PRESET, "cpu", "float32")
    people = mini.prepare_faces(couple)
    driving = [np.ascontiguousarray(astronaut()[i : i + 200, 120 + 2 * i : 320 + 2 * i]) for i in (0, 2)]
    frame = list(vivant.animate(mini, people, driving))[-1]
    assert np.abs(frame.astype(int) - couple).mean() > 0.5, "something moves"
    width = round(2 * BORDER * people[0].framing.crop.side_px)
    owner = owners(*couple.shape[:2], patches_of(people))
    assert seam_ratio(couple, couple, owner, width) == 1
    assert seam_ratio(frame, couple, owner, width) < 1.05
    hard = frame.copy()
    hard[owner == 1] = np.clip(hard[owner == 1].astype(int) + 20, 0, 255)
    assert seam_ratio(hard, couple, owner, width) > 1.15, "a face that is 20 levels brighter is seen"
