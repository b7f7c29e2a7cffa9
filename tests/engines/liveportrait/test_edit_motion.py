"""Controls become Motion: each on its own part of the face, in proportion, bounded; published sliders as published."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_motion import motion_of

from vivant.controls import LIMITS, Controls
from vivant.engines.liveportrait import editing_compact, points
from vivant.engines.liveportrait.config import Config, tiny, tiny_published, tiny_whole
from vivant.engines.liveportrait.editing import edited, touched
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.liveportrait.motion import Motion, expression_gain, keypoints
from vivant.engines.liveportrait.published_motion import neutral_expression
from vivant.errors import InputError
from vivant.runtime import precision

ASSETS = Path(__file__).parents[2] / "assets"
EYES = {*points.EYE_RIGHT, *points.EYE_LEFT, points.PUPIL_LEFT, points.PUPIL_RIGHT}
BROWS = {*points.BROW_RIGHT, *points.BROW_LEFT}
LIDS_RIGHT, LIDS_LEFT = set(points.EYE_RIGHT), set(points.EYE_LEFT)


def engine(config: Config) -> LivePortrait:
    torch.manual_seed(0)
    networks = LivePortrait.build_networks(config)
    return LivePortrait(config, precision.place(networks, torch.device("cpu"), torch.float32))


def neutral() -> Motion:
    """A face with open eyes and slightly open lips, looking ahead."""
    canonical = torch.zeros(1, 81, 3)
    for side, (outer, inner), pairs in editing_compact.EYES:
        sign = -1 if side == "R" else 1
        canonical[0, outer], canonical[0, inner] = (
            torch.tensor([0.45 * sign, 0, 0]),
            torch.tensor([0.15 * sign, 0, 0]),
        )
        for k, (high, low) in enumerate(pairs):
            x = sign * (0.35 - 0.1 * k)
            canonical[0, high], canonical[0, low] = torch.tensor([x, -0.05, 0]), torch.tensor([x, 0.05, 0])
    canonical[0, list(points.LIPS), 1] = 0.6
    canonical[0, points.LIP_CORNER_RIGHT, 0], canonical[0, points.LIP_CORNER_LEFT, 0] = -0.2, 0.2
    return replace(
        motion_of(1, tiny()),
        rotation=torch.eye(3)[None],
        expression=torch.zeros(1, 81, 3),
        scale=torch.ones(1, 1),
        translation=torch.zeros(1, 3),
        canonical=canonical,
    )


def moved(control: str, value: float) -> set[int]:
    """Keypoints that an edit moves by more than a third of a millimetre."""
    offset = editing_compact.expression(neutral(), Controls(**{control: value}))[0]
    return {int(k) for k in (offset.norm(dim=-1) > 0.003).nonzero()}


def test_each_control_moves_its_own_part() -> None:
    parts = {
        "blink": EYES,
        "wink_left": LIDS_LEFT,
        "wink_right": LIDS_RIGHT,
        "gaze_x": EYES,
        "gaze_y": EYES,
        "brows": BROWS | set(points.HEAD),
    }
    for control in (*editing_compact.MOUTH, "mouth_x", "mouth_y"):
        parts[control] = set(editing_compact.MOUTH_PART)
    for control, part in parts.items():
        for value in {LIMITS.get(control, (-1.0, 1.0))[0], 1.0} - {0.0}:
            found = moved(control, value)
            assert found or (control, value) == ("lip_open", -1.0), control  # closed lips cannot close
            assert found <= part, (control, found - part)
    assert not set(editing_compact.MOUTH_PART) & (EYES | BROWS)


def test_more_is_more_and_closed_is_closed() -> None:
    source = neutral()
    source.expression[0, list(editing_compact.LOWER_LIP), 1] = 0.1
    for control, measure in (("blink", 1), ("lip_open", 2)):
        values = (-1.0, -0.5, 0.0, 0.5, 1.0)
        shapes = [
            source.canonical + editing_compact.expression(source, Controls(**{control: v})) for v in values
        ]
        opened = torch.stack([points.openness(shape)[measure] for shape in shapes])[:, 0]
        steps = opened.diff() * (-1 if control == "blink" else 1)
        assert bool((steps > 0).all()), control
        closed = shapes[-1 if control == "blink" else 0][0]
        pairs = editing_compact.EYES[0][2] if control == "blink" else ((62, 66),)
        assert abs(float(editing_compact.lid_gap(closed, pairs))) < 1e-4, "fitted to the portrait"
    crowd = Controls(aa=1, ee=1, oo=1, lip_open=1, smile=1)
    alone = editing_compact.expression(source, Controls(aa=1)) - source.expression
    together = editing_compact.expression(source, crowd) - source.expression
    assert float(together.abs().max()) < 1.5 * float(alone.abs().max()), "mouths stay mouths"
    calm = editing_compact.expression(source, Controls(calm=1))
    assert float(calm[:, list(points.LIPS)].abs().max()) == 0


@pytest.mark.parametrize("config", [tiny(), tiny_published()], ids=["compact", "published"])
def test_nothing_asked_for_is_nothing_changed(config: Config) -> None:
    model = engine(config)
    portrait = model.prepare(torch.rand(3, config.image_size, config.image_size), face=None)
    same = model.edit_motion(portrait, Controls())
    torch.testing.assert_close(same.expression, portrait.motion.expression, atol=0, rtol=0)
    torch.testing.assert_close(same.rotation, portrait.motion.rotation, atol=1e-6, rtol=0)
    assert float(touched(portrait.motion, same, config, 32).max()) < 1e-3


def test_the_head_goes_where_it_is_sent() -> None:
    """Measured on keypoints as a viewer sees them: right, down, larger, turned right."""
    source, config = neutral(), tiny()
    networks = engine(config).networks
    before = keypoints(source, source.canonical, config)[0]

    def after(tilt: float = 0.0, **asked: float) -> torch.Tensor:
        motion = edited(networks, source, before[None], Controls(**asked), config, tilt)
        assert len(motion) == 1
        return keypoints(motion, motion.canonical, config)[0]

    torch.testing.assert_close(after(x=0.1) - before, torch.tensor([0.2, 0.0, 0.0]).expand(81, 3))
    torch.testing.assert_close((after(y=0.1) - before)[:, 1], torch.full((81,), 0.2))
    quarter = after(math.pi / 2, x=0.1) - before
    torch.testing.assert_close(quarter[:, 1], torch.full((81,), -0.2), atol=1e-6, rtol=0)
    torch.testing.assert_close(after(scale=0.1)[:, :2], 1.1 * before[:, :2])
    nose = replace(source, canonical=source.canonical.index_fill(1, torch.tensor([30]), 0.0))
    nose.canonical[0, 30, 2] = -1.0  # towards the camera

    def nose_at(**asked: float) -> torch.Tensor:
        motion = edited(networks, nose, before[None], Controls(**asked), config, 0.0)
        return keypoints(motion, motion.canonical, config)[0, 30]

    assert float(nose_at(yaw=20)[0]) > 0.3
    assert float(nose_at(pitch=20)[1]) > 0.3
    assert float(after(roll=20)[points.EYE_OUTER_LEFT, 1]) < -0.1, "counter-clockwise: image right goes up"


def test_gains_of_driving_are_taken_off() -> None:
    config, source = tiny(), neutral()
    asked = Controls(brows=0.5, smile=0.4)
    motion = edited(engine(config).networks, source, torch.zeros(1, 81, 3), asked, config, 0.0)
    drawn = source.expression + expression_gain(config) * (motion.expression - source.expression)
    torch.testing.assert_close(drawn, editing_compact.expression(source, asked))


def test_published_sliders_are_the_published_constants() -> None:
    config = tiny_published()
    model = engine(config)
    portrait = model.prepare(torch.rand(3, 128, 128), face=None)
    own = portrait.motion.expression

    def delta(**asked: float) -> torch.Tensor:
        return model.edit_motion(portrait, Controls(**asked)).expression[0] - own[0]

    smile = delta(smile=1)
    assert smile[20, 1] == pytest.approx(-0.013, abs=1e-6)
    assert smile[14, 1] == pytest.approx(-0.026, abs=1e-6)
    assert smile[17].tolist() == pytest.approx([0, 1.3 * 0.0065, 1.3 * 0.003], abs=1e-6)
    assert delta(smile=-1)[20, 1] == pytest.approx(0.003, abs=1e-6)
    assert delta(gaze_x=1)[[11, 15], 0].tolist() == pytest.approx([0.021, 0.03], abs=1e-6)
    assert delta(gaze_x=-1)[[11, 15], 0].tolist() == pytest.approx([-0.03, -0.021], abs=1e-6)
    assert delta(gaze_y=1)[11, 1] == pytest.approx(0.0315, abs=1e-6)
    assert delta(brows=1)[[1, 2], 1].tolist() == pytest.approx([0.03, -0.03], abs=1e-6)
    assert delta(brows=-1)[1].tolist() == pytest.approx([0.03, -0.009, 0], abs=1e-6)
    assert delta(aa=1)[19].tolist() == pytest.approx([0, 0.12, 0.012], abs=1e-6)
    assert delta(mouth_x=-0.5)[19, 0] == pytest.approx(-0.045, abs=1e-6)
    torch.testing.assert_close(delta(calm=1) + own[0], neutral_expression())
    for lacking in ("wink_right", "grimace", "pout", "purse", "mouth_y"):
        with pytest.raises(InputError, match=f"published networks have no {lacking}"):
            delta(**{lacking: 0.5})
    with pytest.raises(InputError, match="blink needs the portrait's face points"):
        delta(blink=0.5)
    seen = replace(portrait.motion, eyes_open=torch.tensor([[0.3, 0.3]]), lips_open=torch.tensor([[0.1]]))
    portrait = replace(portrait, motion=seen)
    blink = delta(blink=1)
    _, offset = model.networks.retarget(seen, portrait.keypoints, seen, torch.zeros(1, 2), None)
    torch.testing.assert_close(blink * seen.scale[0], offset[0], atol=1e-6, rtol=0)


def test_only_heads_that_move_are_stitched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stitching would take a head back from where its closed lids are drawn."""
    model = engine(tiny_whole())
    portrait = model.prepare(torch.rand(3, 64, 64), face=None)
    portrait = replace(portrait, motion=neutral())
    state, calls = model.start_edit(portrait), []

    def stitch(source: torch.Tensor, driven: torch.Tensor) -> torch.Tensor:
        calls.append(len(driven))
        return driven

    monkeypatch.setattr(model.networks, "stitch", stitch)
    for asked in (Controls(blink=1, gaze_x=0.5), Controls(smile=1), Controls()):
        assert model.render_edit(state, model.edit_motion(portrait, asked)).shape == (1, 3, 64, 64)
    assert not calls
    model.render_edit(state, model.edit_motion(portrait, Controls(x=0.1)))
    assert calls == [1]
    assert state.smoothed is None


def test_families_without_sliders_say_so() -> None:
    from vivant.engines import engine_class

    family = engine_class("refvae")
    config = next(iter(family.tiny_configs().values()))
    networks = precision.place(family.build_networks(config), torch.device("cpu"), torch.float32)
    with pytest.raises(InputError, match="refvae has no pitch"):
        family(config, networks).edit_motion(None, Controls())  # type: ignore[arg-type]


def test_shapes_are_those_of_the_face_model() -> None:
    pytest.importorskip("numba")
    from vivant.studio.face_model import face_model_path, load_face_model

    if not face_model_path().is_file():
        pytest.skip("the studio's face model is fetched by `vivant studio fetch`")
    spec = importlib.util.spec_from_file_location("make_edit_shapes", ASSETS / "make_edit_shapes.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.edit_shapes(load_face_model()) == json.loads(script.TARGET.read_text("utf-8"))
