"""The engine beyond what every family promises: lead-in, keyframes, windows of other shapes, oblong portraits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vivant.engines.personalive import engine as personalive
from vivant.engines.personalive.config import Config, Options, published, tiny
from vivant.engines.personalive.engine import PersonaLive
from vivant.errors import InputError
from vivant.session import Session


@pytest.fixture(scope="module")
def engine() -> PersonaLive:
    torch.manual_seed(0)
    networks = PersonaLive.build_networks(tiny())
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return PersonaLive(tiny(), networks)


def pictures(count: int, height: int = 64, width: int = 64, seed: int = 1) -> Tensor:
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def run(engine: PersonaLive, options: Options | None = None, count: int = 10, **size: Any) -> Tensor:
    portrait = engine.prepare(pictures(1, seed=9, **size)[0], face=None)
    session = Session(engine, portrait, options)
    return torch.stack(session.push(pictures(count)) + session.flush())


def test_latency_is_that_of_the_paper() -> None:
    config = published()
    assert (config.window_frames, config.delay_frames) == (16, 12)
    stream = PersonaLive(tiny(), PersonaLive.build_networks(tiny())).stream
    assert (stream.chunk_frames, stream.delay_frames, stream.latency_frames) == (2, 4, 5)
    of_the_paper = replace(stream, chunk_frames=config.chunk_frames, delay_frames=config.delay_frames)
    assert of_the_paper.latency_seconds(15.8, 0.25) == pytest.approx(15 / 15.8 + 0.25)


@pytest.mark.parametrize("kind", PersonaLive.tiny_configs())
def test_places_are_computed_in_float32(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place near 1 moves by a pixel of 512 in bfloat16, which is what most devices draw in."""
    torch.manual_seed(0)
    config = PersonaLive.tiny_configs()[kind]
    networks, placed = PersonaLive.build_networks(config), []

    def noted(name: str) -> None:
        compute = getattr(personalive, name)

        def noting(*given: Any) -> Any:
            placed.append(compute(*given))
            return placed[-1]

        monkeypatch.setattr(personalive, name, noting)

    for name in ("draw", "face_boxes", "cut_faces", "bent_portraits"):
        noted(name)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        engine = PersonaLive(config, networks, dtype)
        state = engine.start(engine.prepare(pictures(1, seed=9)[0], face=None))
        engine.step(state, pictures(config.chunk_frames))
        found.append(placed[:])
        placed.clear()
    assert len(found[0]) == len(found[1]) >= 5
    for exact, other in zip(*found, strict=True):
        torch.testing.assert_close(other, exact, atol=1e-6, rtol=1e-6)


def test_lead_in_shown_is_the_same_stream_earlier(engine: PersonaLive) -> None:
    dropped = run(engine)
    shown = run(engine, Options(lead_in="shown"))
    assert len(dropped) == len(shown) == 10
    delay = engine.stream.delay_frames
    assert torch.equal(shown[delay:], dropped[:-delay])
    portrait = engine.prepare(pictures(1, seed=9)[0], face=None)
    session = Session(engine, portrait, Options(lead_in="shown"))
    assert len(session.push(pictures(2))) == 2, "frames come out at once"


def test_keyframes_are_looked_at_saved_and_let_go(engine: PersonaLive) -> None:
    eager = Options(keyframe_warmup_chunks=0, keyframe_threshold=0.0, max_keyframes=2)
    with_keyframes = run(engine, eager)
    assert not torch.equal(with_keyframes, run(engine, replace(eager, keyframes="off")))
    portrait = engine.prepare(pictures(1, seed=9)[0], face=None)
    state = engine.start(portrait, eager)
    driving = pictures(10)
    for chunk in driving.split(2):
        engine.step(state, chunk)
    assert len(state.window.keyframes) == 2
    again = type(state).from_tensors(*state.to_tensors(), portrait)
    assert len(again.window.keyframes) == 2
    for one, other in zip(engine.flush(state), engine.flush(again), strict=True):
        assert torch.equal(one, other)
    state.options = replace(eager, max_keyframes=1)
    engine.step(state, driving[:2])
    assert len(state.window.keyframes) == 1


@pytest.mark.parametrize(
    "options",
    [
        Options(renoise="fresh"),
        Options(placement="paper"),
        Options(decoder="tiny"),
    ],
    ids=["fresh", "paper", "tiny"],
)
def test_options_change_frames_and_not_their_number(engine: PersonaLive, options: Options) -> None:
    frames = run(engine, options)
    assert len(frames) == 10
    assert not torch.equal(frames, run(engine))


@pytest.mark.parametrize(
    ("chunk_frames", "timesteps"), [(1, (0, 499, 999)), (2, (499, 999)), (4, (999,)), (2, (0, 333, 666, 999))]
)
def test_any_window_that_the_weights_allow(
    engine: PersonaLive, chunk_frames: int, timesteps: tuple[int, ...]
) -> None:
    config = replace(engine.config, chunk_frames=chunk_frames, timesteps=timesteps)
    other = PersonaLive(config, engine.networks)
    assert other.stream.delay_frames == chunk_frames * (len(timesteps) - 1)
    frames = run(other, count=5)
    assert len(frames) == 5
    assert bool(torch.isfinite(frames).all())


def test_oblong_portraits(engine: PersonaLive) -> None:
    frames = run(engine, count=3, height=64, width=128)
    assert frames.shape == (3, 3, 64, 128)
    assert run(engine, count=3, height=64, width=100).shape == (3, 3, 64, 64)


def test_a_new_shot_is_measured_from_its_first_frame(engine: PersonaLive) -> None:
    portrait = engine.prepare(pictures(1, seed=9)[0], face=None)
    state = engine.start(portrait)
    engine.step(state, pictures(2))
    first = state.first
    engine.restart(state)
    engine.step(state, pictures(2, seed=5))
    assert first is not None
    assert state.first is not None
    assert not torch.equal(first, state.first)


def test_what_cannot_be(engine: PersonaLive) -> None:
    with pytest.raises(InputError, match="one picture of a person, got 2"):
        engine.prepare(pictures(2), face=None)
    portrait = engine.prepare(pictures(1)[0], face=None)
    state = engine.start(portrait)
    with pytest.raises(InputError, match="draws 2 frames at a time, got 1"):
        engine.render(state, engine.encode_motion(state, pictures(1)))
    plain = replace(engine.config, tiny_decoder=None)
    with pytest.raises(InputError, match="no tiny decoder"):
        PersonaLive(plain, engine.networks).start(portrait, Options(decoder="tiny"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "multiple of 64"),
        ({"timesteps": (0, 999, 333)}, "ascend"),
        ({"timesteps": ()}, "ascend"),
        ({"chunk_frames": 3}, "1 to 8 frames, got 3 chunks of 3"),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(tiny(), **changes)


@pytest.mark.parametrize(
    "given",
    [
        {"renoise": "never"},
        {"max_keyframes": 0},
        {"keyframe_threshold": -1.0},
        {"keyframe_max_drift": 0.0},
        {"keyframe_max_drift": float("nan")},
    ],
)
def test_options_that_cannot_be(given: dict[str, Any]) -> None:
    name = next(iter(given)).replace("_", "-")
    with pytest.raises(ValueError, match=f"--{name}"):
        Options(**given)


def test_config_is_plain_data() -> None:
    from vivant import records

    for config in (published(), tiny()):
        assert records.from_data(Config, records.to_data(config)) == config
