"""Algorithm 1 our way: corrections on top of the driven motion, in an order that keeps shoulders in place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_motion import motion_of
from torch import Tensor

from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config import Options, published, tiny, tiny_whole
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.liveportrait.generator_compact import shoulders_still
from vivant.engines.liveportrait.motion import Motion, amplify, drive, keypoints, rescaled
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.retargeting import neutral_reference, place
from vivant.engines.liveportrait.retargeting_compact import MOST_OPENING, SHUT, WIDEST_EYES, WIDEST_LIPS
from vivant.errors import InputError
from vivant.session import Session

WHOLE = tiny_whole()
PUBLISHED = published()


def measured(motion: Motion) -> Motion:
    right, left, lips = points.openness(motion.canonical + motion.expression)
    return replace(motion, eyes_open=torch.stack([right, left], 1), lips_open=lips[:, None])


def face(num_frames: int, seed: int = 0) -> Motion:
    """A compact motion whose eyes and lips are where eyes and lips are."""
    motion = motion_of(num_frames, WHOLE, seed)
    shape = torch.zeros(points.NUM_POINTS, 3)
    for start, x in ((36, -0.3), (42, 0.3)):
        across = torch.tensor([-0.15, -0.05, 0.05, 0.15, 0.05, -0.05])
        shape[start : start + 6, 0] = x + across
        shape[start : start + 6, 1] = torch.tensor([0.0, -0.04, -0.04, 0.0, 0.04, 0.04]) - 0.3
    shape[60:68, 0] = torch.tensor([-0.25, -0.1, 0.0, 0.1, 0.25, 0.1, 0.0, -0.1])
    shape[60:68, 1] = 0.4 + torch.tensor([0.0, -0.03, -0.03, -0.03, 0.0, 0.03, 0.03, 0.03])
    canonical = shape.expand(num_frames, -1, -1)
    return measured(replace(motion, canonical=canonical, expression=0.01 * motion.expression))


@pytest.fixture(scope="module")
def networks() -> CompactNetworks:
    torch.manual_seed(0)
    return CompactNetworks(WHOLE).eval().requires_grad_(False)


def own(motion: Motion, config: Any = WHOLE) -> Tensor:
    return keypoints(motion, motion.canonical, config)


def placed(networks: Any, source: Motion, driving: Motion, options: Options, config: Any = WHOLE) -> Any:
    return place(networks, source, own(source, config), driving, driving[0], options, config)


@pytest.mark.parametrize("wanted", [0.0, 0.2, 0.35])
def test_geometry_opens_eyes_and_lips_as_far_as_asked(networks: CompactNetworks, wanted: float) -> None:
    source, driving = face(1), face(3, 1)
    plain, before = placed(networks, source, driving, Options())
    driven, after = placed(networks, source, driving, Options(eyes_open=wanted, lips_open=wanted))
    ratios = torch.full((3, 2), wanted), torch.full((3, 1), wanted)
    opened, offset = networks.retarget(source, own(source), plain, *ratios)
    torch.testing.assert_close(after, before + offset)
    right, left, lips = points.openness(opened.canonical + opened.expression)
    now = torch.stack(points.openness(plain.canonical + plain.expression)[:2])
    lids = wanted + SHUT * (1 - wanted / now).clamp(min=0)  # lids go further than what is to be seen
    torch.testing.assert_close(torch.stack([right, left]), lids.abs(), atol=0.02, rtol=0)
    torch.testing.assert_close(lips, torch.full((3,), wanted), atol=0.02, rtol=0)
    still = [i for i in range(points.NUM_POINTS) if i not in (*points.EYE_RIGHT, *points.EYE_LEFT)]
    still = [i for i in still if i not in points.MOUTH_REGION]
    assert torch.equal(after[:, still], before[:, still])
    assert torch.equal(driven.rotation, plain.rotation), "retargeting corrects, it does not discard"


def test_asking_for_more_opens_more_and_never_beyond_a_face(networks: CompactNetworks) -> None:
    source = face(1)
    opened = []
    for wanted in (0.0, 0.2, 0.4, 0.6, 0.8):
        ratios = torch.full((1, 2), wanted), torch.full((1, 1), wanted)
        changed, _ = networks.retarget(source, own(source), source, *ratios)
        opened.append(torch.stack(points.openness(changed.canonical + changed.expression))[:, 0])
    table = torch.stack(opened)
    assert bool((table.diff(dim=0) > 0.005).all()), table
    assert bool((table[-1] < 1.02 * torch.tensor([WIDEST_EYES, WIDEST_EYES, WIDEST_LIPS])).all())


def test_shut_eyes_open_less_far_and_what_is_there_stays(networks: CompactNetworks) -> None:
    lids = [k for k in range(36, 48) if k not in (36, 39, 42, 45)]
    source = face(1)
    shape = source.canonical.clone()
    shape[:, lids, 1] = -0.3 + 0.15 * (shape[:, lids, 1] + 0.3)
    source = measured(replace(source, canonical=shape, expression=torch.zeros_like(shape)))
    assert source.eyes_open is not None
    assert float(source.eyes_open.max()) < 0.06
    changed, _ = networks.retarget(source, own(source), source, torch.full((1, 2), 0.8), None)
    opened = torch.stack(points.openness(changed.canonical + changed.expression)[:2], 1)
    assert bool((opened < source.eyes_open + 1.05 * MOST_OPENING).all())
    assert bool((opened > source.eyes_open + 0.9 * MOST_OPENING).all())
    _, offset = networks.retarget(source, own(source), source, source.eyes_open, None)
    assert float(offset.abs().max()) < 1e-6


def test_eyes_and_lips_do_not_meet(networks: CompactNetworks) -> None:
    source, driving = face(1), face(2, 1)
    both = placed(networks, source, driving, Options(eyes_open=0.1, lips_open=0.5))[1]
    eyes = placed(networks, source, driving, Options(eyes_open=0.1))[1]
    lips = placed(networks, source, driving, Options(lips_open=0.5))[1]
    plain = placed(networks, source, driving, Options())[1]
    torch.testing.assert_close(both - plain, (eyes - plain) + (lips - plain), atol=1e-6, rtol=0)


def test_an_open_mouth_is_closed_before_driving(networks: CompactNetworks) -> None:
    source = face(1)
    shape = source.expression.clone()
    shape[:, [65, 66, 67], 1] += 0.2
    source = measured(replace(source, expression=shape))
    driven, _ = placed(networks, source, face(1, 1), Options(normalize_lip=True))
    assert float(source.lips_open) > 0.4
    assert abs(float(measured(driven).lips_open)) < 0.02


def test_rescaled_openness() -> None:
    source, first = torch.tensor([[0.4, 0.2]]), torch.tensor([[0.2, 0.2]])
    torch.testing.assert_close(rescaled(source, first, first), source)  # the first frame changes nothing
    assert torch.equal(rescaled(source, 0 * first, first), 0 * source), "closed is closed"
    torch.testing.assert_close(rescaled(source, first / 2, first), source / 2)
    closed = torch.zeros(1, 1)
    torch.testing.assert_close(rescaled(closed, closed + 0.3, closed), closed + 0.3)
    assert float(rescaled(closed + 0.5, closed + 0.7, closed + 0.01)) == pytest.approx(0.8)


def test_the_first_frame_needs_no_correction(plain: PublishedNetworks) -> None:
    """Ours: R(wanted) - R(driven), which is nothing at the driver's first frame. Published: a jump."""
    ratios = {"eyes_open": torch.full((1, 2), 0.3), "lips_open": torch.full((1, 1), 0.1)}
    source, driving = (replace(motion_of(1, PUBLISHED, seed), **ratios) for seed in (1, 2))
    options = Options(eye_retargeting=True, lip_retargeting=True, stitching=False)
    _, where = placed(plain, source, driving, options, PUBLISHED)
    torch.testing.assert_close(where, own(source, PUBLISHED), atol=1e-5, rtol=0)
    _, jumped = placed(plain, source, driving, replace(options, compatibility="published"), PUBLISHED)
    assert float((jumped - where).abs().max()) > 1e-3


def test_retargeting_keeps_the_driven_motion(plain: PublishedNetworks) -> None:
    ratios = {"eyes_open": torch.full((2, 2), 0.3), "lips_open": torch.full((2, 1), 0.1)}
    source = replace(
        motion_of(1, PUBLISHED, 1), eyes_open=ratios["eyes_open"][:1], lips_open=ratios["lips_open"][:1]
    )
    driving = replace(motion_of(2, PUBLISHED, 2), **ratios)
    options = Options(eye_retargeting=True, stitching=False)
    _, where = placed(plain, source, driving, options, PUBLISHED)
    plainly = drive(source, driving, driving[0], options, PUBLISHED)
    torch.testing.assert_close(where, own(plainly, PUBLISHED), atol=1e-5, rtol=0)
    closing = replace(driving, eyes_open=torch.tensor([[0.3, 0.3], [0.0, 0.0]]))
    _, closed = placed(plain, source, closing, options, PUBLISHED)
    torch.testing.assert_close(closed[0], where[0], atol=1e-6, rtol=0)


def test_the_multiplier_leaves_stitching_alone(plain: PublishedNetworks) -> None:
    source, driving = motion_of(1, PUBLISHED, 1), motion_of(2, PUBLISHED, 2)
    x_s = own(source, PUBLISHED)
    _, loose = placed(plain, source, driving, Options(stitching=False, driving_multiplier=1.5), PUBLISHED)
    _, stitched = placed(plain, source, driving, Options(driving_multiplier=1.5), PUBLISHED)
    torch.testing.assert_close(stitched, plain.stitch(x_s, loose))
    _, once = placed(plain, source, driving, Options(stitching=False), PUBLISHED)
    torch.testing.assert_close(loose, amplify(x_s, once, 1.5))


def test_expression_friendly_starts_at_the_portrait(networks: CompactNetworks) -> None:
    source, driving = face(1), face(3, 1)
    _, where = placed(networks, source, driving, Options(driving_option="expression-friendly"))
    torch.testing.assert_close(where[:1], own(source), atol=1e-5, rtol=0)
    _, turned = placed(networks, source, driving, Options())
    assert float((where - turned)[1:].abs().max()) > 1e-3


def test_one_picture_drives_from_a_neutral_face() -> None:
    driving = motion_of(1, tiny())
    first = neutral_reference(driving, tiny())
    source = replace(motion_of(1, tiny(), 1), rotation=torch.eye(3)[None], expression=0 * driving.expression)
    driven = drive(source, driving, first, Options(), tiny())
    torch.testing.assert_close(driven.rotation, driving.rotation)
    torch.testing.assert_close(driven.translation, source.translation)
    assert float((driven.expression - source.expression).abs().max()) > 0


@pytest.mark.parametrize("wish", [{"eye_retargeting": True}, {"lips_open": 0.1}, {"normalize_lip": True}])
def test_what_the_preset_cannot_do_is_refused(wish: dict[str, Any]) -> None:
    engine = LivePortrait(tiny(), CompactNetworks(tiny()))
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)
    with pytest.raises(InputError, match="no networks for"):
        Session(engine, portrait, Options(**wish))
    session = Session(engine, portrait)
    session.options = Options(**wish)
    with pytest.raises(InputError, match="no networks for"):
        session.push(torch.rand(3, 64, 64))


def test_compact_stitching_holds_the_shoulders_and_leaves_the_face_alone() -> None:
    source = own(face(1))
    driven = source + torch.tensor([0.2, -0.1, 0.0])
    still = shoulders_still(source, driven, 64)
    chin = float(source[:, list(points.JAW), 1].max())
    rows = (torch.arange(64) + 0.5) / 32 - 1
    assert still.shape == (1, 64, 64, 1)
    assert float(still[0, rows < chin].max()) == 0
    assert float(still[0, -1].min()) == 1
    torch.manual_seed(0)
    engine = LivePortrait(WHOLE, CompactNetworks(WHOLE))
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)
    drawn = []
    for stitching in (False, True, None):
        session = Session(engine, portrait, Options(stitching=stitching))
        session.push(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)))
        drawn += session.push(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2)))
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[1], drawn[2]), "on where nothing is said"


def test_unmeasured_openness_is_refused(plain: PublishedNetworks) -> None:
    source, driving = motion_of(1, PUBLISHED, 1), motion_of(1, PUBLISHED, 2)
    with pytest.raises(InputError, match="the portrait's face points"):
        placed(plain, source, driving, Options(eye_retargeting=True), PUBLISHED)
    source = replace(source, lips_open=torch.full((1, 1), 0.1))
    with pytest.raises(InputError, match="the driver's face points"):
        placed(plain, source, driving, Options(lip_retargeting=True), PUBLISHED)


def test_openness_of_the_driver_reaches_the_engine() -> None:
    """What the face points say about a frame wins over what the networks read themselves."""
    torch.manual_seed(0)
    engine = LivePortrait(WHOLE, CompactNetworks(WHOLE))
    session = Session(engine, engine.prepare(torch.rand(3, 64, 64), face=None))
    session.push(torch.rand(3, 64, 64), openness=(0.1, 0.2, 0.4))
    first = session._open_state().first
    assert first is not None
    torch.testing.assert_close(first.eyes_open, torch.tensor([[0.1, 0.2]]))
    torch.testing.assert_close(first.lips_open, torch.tensor([[0.4]]))


def test_a_source_video_swaps_portraits() -> None:
    """Eq. 8: the source's motion is that of its own frame, the driver's first frame stays the reference."""
    torch.manual_seed(0)
    engine = LivePortrait(WHOLE, CompactNetworks(WHOLE))
    driving = [torch.rand(3, 64, 64) for _ in range(2)]
    portraits = [engine.prepare(torch.rand(3, 64, 64), face=None) for _ in range(2)]
    options = Options(smoothing_ms=0)
    state = engine.start(portraits[0], options)
    engine.step(state, driving[0][None])
    first = state.first
    state.portrait = portraits[1]
    swapped = engine.step(state, driving[1][None])
    assert state.first is first
    fresh = engine.start(portraits[1], options)
    fresh.first = first
    assert torch.equal(engine.step(fresh, driving[1][None]), swapped)
