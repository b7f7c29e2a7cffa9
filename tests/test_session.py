"""Session with a make-believe family that has what liveportrait lacks: chunks, a delay, sound, randomness.

The real families run through tests/engines/test_contract.py; here every branch of the loop is walked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vivant.engine import Engine, Portrait, State, StreamSpec
from vivant.engines import engine_class
from vivant.errors import InputError
from vivant.face.framing import given_square
from vivant.face.window import Similarity
from vivant.media.types import AudioChunk, Frame
from vivant.runtime import precision
from vivant.session import Session


@dataclass(frozen=True)
class Options:
    gain: float = 1.0


@dataclass(kw_only=True)
class EchoState(State):
    options: Options
    late: tuple[Tensor, ...] = ()
    """Frames that the delay holds back, each (3, 2, 2)."""
    num_restarts: int = 0


class Echo(Engine[None, Options, Tensor, Portrait, EchoState]):
    """Gives back the mean of what drives it, plus seeded noise, some frames later."""

    family = "echo"
    config_type = type(None)
    options_type = Options
    state_type = EchoState
    network_methods = ()
    crop_size_px = 2

    def __init__(self, stream: StreamSpec) -> None:
        super().__init__(None, nn.Linear(1, 1))
        self.stream = stream

    @staticmethod
    def build_networks(config: None) -> nn.Module:
        return nn.Linear(1, 1)

    @staticmethod
    def tiny_configs() -> Mapping[str, None]:
        return {"echo": None}

    def frame_size(self, portrait: Portrait) -> tuple[int, int]:
        return 2, 2

    def encode_reference(self, reference: Tensor) -> Portrait:
        return Portrait()

    def start(self, portrait: Portrait, options: Options | None = None, seed: int = 0) -> EchoState:
        generator = torch.Generator().manual_seed(seed)
        return EchoState(portrait=portrait, options=options or Options(), generator=generator)

    def encode_motion(self, state: EchoState, driving: Tensor) -> Tensor:
        per_frame = driving.reshape(self.stream.chunk_frames, -1)
        return per_frame.mean(1)

    def seen_from(self, motion: Tensor, windows: Tensor) -> Tensor:
        return motion * windows[:, 0] + windows[:, 1]

    def restart(self, state: EchoState) -> None:
        state.num_restarts += 1

    def render(self, state: EchoState, motion: Tensor) -> Tensor:
        noise = torch.rand(len(motion), generator=state.generator) * 0.01
        values = (motion * state.options.gain + noise).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        state.late = state.late + tuple(values)
        due = max(0, len(state.late) - self.stream.delay_frames)
        out, state.late = state.late[:due], state.late[due:]
        return torch.stack(out) if out else torch.zeros(0, 3, 2, 2)

    def flush(self, state: EchoState) -> Tensor:
        out, state.late = state.late, ()
        return torch.stack(out) if out else torch.zeros(0, 3, 2, 2)


VIDEO = StreamSpec(driving="video", chunk_frames=4, delay_frames=6, frame_rate_hz=None)
SOUND = StreamSpec(driving="audio", chunk_frames=3, delay_frames=2, frame_rate_hz=25, sample_rate_hz=16000)


def session(stream: StreamSpec = VIDEO, **settings: Any) -> Session:
    return Session(Echo(stream), Portrait(), **settings)


def frames_of(count: int) -> Tensor:
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9, 10, 11, 12, 30])
def test_frames_in_are_frames_out(count: int) -> None:
    one, many = session(), session()
    single = [frame for picture in frames_of(count) for frame in one.push(picture)] + one.flush()
    at_once = (many.push(frames_of(count)) if count else []) + many.flush()
    assert len(single) == len(at_once) == count
    assert all(torch.equal(a, b) for a, b in zip(single, at_once, strict=True))
    assert one.timing.frames_out == count


def test_delay_is_what_was_declared() -> None:
    running = session()
    out = [len(running.push(picture)) for picture in frames_of(16)]
    assert out == [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4]


@pytest.mark.parametrize("count", [0, 1, 639, 640, 641, 1920, 5000])
def test_sound_gives_a_frame_per_whole_slice(count: int) -> None:
    sound = torch.rand(count, generator=torch.Generator().manual_seed(1)) - 0.5
    one, many = session(SOUND), session(SOUND)
    at_once = many.push(sound) + many.flush()
    pieces = [frame for piece in sound.split(77) for frame in one.push(piece)] if count else []
    pieces += one.flush()
    assert len(at_once) == count // 640
    assert all(torch.equal(a, b) for a, b in zip(pieces, at_once, strict=True))


def test_seeds_matter_and_repeat() -> None:
    runs = []
    for seed in (0, 0, 1):
        running = session(seed=seed)
        runs.append(torch.stack(running.push(frames_of(8)) + running.flush()))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("stream", [VIDEO, SOUND], ids=["video", "sound"])
@pytest.mark.parametrize("cut", [0, 1, 3, 7, 10])
def test_saved_anywhere_it_goes_on(stream: StreamSpec, cut: int, tmp_path: Path) -> None:
    items = list(frames_of(11)) if stream is VIDEO else list(frames_of(60).flatten().split(523))[:11]
    whole = session(stream)
    expected = [frame for item in items for frame in whole.push(item)] + whole.flush()
    first = session(stream)
    frames = [frame for item in items[:cut] for frame in first.push(item)]
    first.save_state(tmp_path / "state.safetensors")
    again = Session.restore(tmp_path / "state.safetensors", Echo(stream), Portrait())
    frames += [frame for item in items[cut:] for frame in again.push(item)] + again.flush()
    assert all(torch.equal(a, b) for a, b in zip(frames, expected, strict=True))
    assert again.timing.frames_in == whole.timing.frames_in


def test_windows_reach_their_own_frames(tmp_path: Path) -> None:
    driving = torch.full((3, 4, 4), 0.1)
    running = session(StreamSpec(driving="video", chunk_frames=2, delay_frames=0, frame_rate_hz=None))
    running.push(driving, window=Similarity(2.0, (0.5, 0.0)))
    running.save_state(tmp_path / "state.safetensors")
    for s in (running, Session.restore(tmp_path / "state.safetensors", running.engine, Portrait())):
        first, second = s.push(driving, restart=True)
        assert 0.7 <= float(first.mean()) < 0.72
        assert 0.1 <= float(second.mean()) < 0.12
        assert s._open_state().num_restarts == 1  # type: ignore[attr-defined]


def test_a_new_shot_begins_before_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    running = session(StreamSpec(driving="video", chunk_frames=1, delay_frames=0, frame_rate_hz=None))
    restarts: list[int] = []
    original = Echo.encode_motion

    def noted(self: Echo, state: EchoState, driving: Tensor) -> Tensor:
        restarts.append(state.num_restarts)
        return original(self, state, driving)

    monkeypatch.setattr(Echo, "encode_motion", noted)
    for restart in (False, True, False):
        running.see(torch.full((3, 4, 4), 0.1), restart=restart)
    assert restarts == [0, 1, 1]


def test_options_change_between_frames() -> None:
    running = session(StreamSpec(driving="video", chunk_frames=1, delay_frames=0, frame_rate_hz=None))
    driving = torch.full((3, 4, 4), 0.2)
    (before,) = running.push(driving)
    running.options = Options(gain=3.0)
    (after,) = running.push(driving)
    assert float(after.mean()) > 2.5 * float(before.mean())


def test_what_may_be_pushed() -> None:
    picture = np.full((4, 6, 3), 51, np.uint8)
    alike = [picture, Frame(picture, Fraction(0)), torch.full((3, 4, 6), 0.2), torch.full((1, 3, 4, 6), 0.2)]
    running = session()
    assert len(running.push(alike[0])) == 0
    for item in alike[1:]:
        running.push(item)
    frames = running.flush()
    assert len(frames) == 4
    assert all(0.2 <= float(frame.mean()) < 0.22 for frame in frames)


@pytest.mark.parametrize(
    ("stream", "item", "message"),
    [
        (VIDEO, np.zeros((4, 4, 3), np.float32), "uint8"),
        (VIDEO, np.zeros((4, 4), np.uint8), "uint8"),
        (VIDEO, torch.zeros(4, 4, 3), "float"),
        (VIDEO, torch.zeros(3, 4, 4, dtype=torch.uint8), "float"),
        (VIDEO, AudioChunk(np.zeros(9, np.float32), 16000, Fraction(0)), "driven by video"),
        (SOUND, AudioChunk(np.zeros(9, np.float32), 44100, Fraction(0)), "44100"),
        (SOUND, Frame(np.zeros((4, 4, 3), np.uint8), Fraction(0)), "mono samples"),
        (SOUND, torch.zeros(2, 9), "mono samples"),
    ],
)
def test_what_may_not(stream: StreamSpec, item: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        session(stream).push(item)


def test_size_may_not_change_within_a_chunk() -> None:
    running = session()
    running.push(torch.zeros(3, 4, 4))
    with pytest.raises(InputError, match="changed size from 4x4 to 8x4"):
        running.push(torch.zeros(3, 4, 8))


def test_a_session_of_another_family_is_refused(tmp_path: Path) -> None:
    session().save_state(tmp_path / "state.safetensors")
    other = Echo(VIDEO)
    other.family = "otto"  # type: ignore[misc]
    with pytest.raises(InputError, match="a session of echo"):
        Session.restore(tmp_path / "state.safetensors", other, Portrait())


def test_timing() -> None:
    running = session()
    assert np.isnan(running.timing.seconds_per_frame)
    running.push(frames_of(12))
    timing = running.timing
    assert (timing.frames_in, timing.frames_out) == (12, 6)
    assert 0 < (timing.first_frame_seconds or 0) <= timing.seconds
    assert timing.seconds_per_frame == timing.seconds / 6


@pytest.mark.parametrize(
    "change", [{"chunk_frames": 0}, {"delay_frames": -1}, {"driving": "audio"}], ids=lambda c: next(iter(c))
)
def test_specs_that_cannot_be(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "driving": "video",
        "chunk_frames": 1,
        "delay_frames": 0,
        "frame_rate_hz": None,
    }
    with pytest.raises(ValueError, match=r"chunk_frames|audio family"):
        StreamSpec(**(good | change))


def narrow(layer: str) -> Any:
    """An engine whose layer's weights are finite in float16, and sums of them are not."""
    family = engine_class("liveportrait")
    config = family.tiny_configs()["compact"]
    torch.manual_seed(0)
    networks = family.build_networks(config)
    with torch.no_grad():
        networks.get_submodule(layer).weight.fill_(60000)
    return family(config, precision.place(networks, torch.device("cpu"), torch.float16), torch.float16)


GENERATOR = "generator.enter.0"


def test_a_first_frame_that_is_not_a_number_is_computed_again_in_float32(
    caplog: pytest.LogCaptureFixture,
) -> None:
    half = narrow(GENERATOR)
    frames = torch.rand(4, 3, 64, 64)
    image = torch.rand(3, 64, 64)

    wide = half.in_float32()
    expected = Session(wide, wide.prepare(image, face=None)).push(frames)
    session = Session(half, half.prepare(image, face=None))
    with caplog.at_level(logging.WARNING):
        got = session.push(frames[:1]) + session.push(frames[1:])
    assert torch.isfinite(torch.stack(got)).all()
    torch.testing.assert_close(torch.stack(got), torch.stack(expected), atol=2e-3, rtol=0)
    assert session.engine.dtype == torch.float32
    assert half.dtype == torch.float16, "the engine of others stays as it is"
    assert session.timing.frames_in == session.timing.frames_out == 4
    assert [record.getMessage() for record in caplog.records] == [
        "the first frame is not a number in torch.float16; computing in float32"
    ]

    with torch.no_grad():
        wide.networks.generator.enter[0].weight.fill_(float("nan"))
    with pytest.raises(InputError, match="weights must be damaged"):
        Session(wide, wide.prepare(image, face=None)).push(frames)


@pytest.mark.parametrize("sees", [True, False])
def test_so_is_motion_that_is_pushed_with_all_that_came_before_it(
    sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Motion that is seen, referred to, restarted, on a portrait that appeared: as in float32 from the start."""
    half = narrow(GENERATOR)
    if not sees:
        original = type(half).encode_motion

        def blind(self: Any, state: Any, driving: Tensor) -> Any:
            motion = original(self, state, driving)
            lost = motion.scale * (1.0 if self.dtype == torch.float32 else float("nan"))
            return replace(motion, scale=lost)

        monkeypatch.setattr(type(half), "encode_motion", blind)
    wide = half.in_float32()
    image, driver, rest = torch.rand(3, 3, 64, 64)
    picture = (image * 255).byte().permute(1, 2, 0).contiguous().numpy()
    framing = given_square(picture, (32, 32, 64), size_px=64)

    def drawn(engine: Any) -> tuple[Session, torch.Tensor]:
        session = Session(engine, engine.prepare(rest, face=None))
        session.appear(framing)
        session.refer(session.see(rest), restart=True)
        frames = session.push_motion(session.see(driver)) + session.push_motion(session.see(image))
        return session, torch.stack(frames)

    session, got = drawn(half)
    again, expected = drawn(wide)
    assert session.engine.dtype == torch.float32
    assert half.dtype == torch.float16
    torch.testing.assert_close(got, expected, atol=2e-3, rtol=0)
    assert session.timing.frames_in == session.timing.frames_out == 2
    one, other = (each.bookmark().data["state"] for each in (session, again))
    assert one["source_moves"] is other["source_moves"] is True
    with torch.no_grad():
        wide.networks.get_submodule(GENERATOR).weight.fill_(float("nan"))
    with pytest.raises(InputError, match="weights must be damaged"):
        drawn(wide)
