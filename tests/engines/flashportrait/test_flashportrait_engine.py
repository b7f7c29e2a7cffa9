"""The engine with every option that changes how it works; what all families promise is in test_contract.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flash_engine import motions, tiny_engine
from torch import Tensor

from vivant.engines.flashportrait.config import Options, tiny
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.motion import Motion, seen_through
from vivant.errors import InputError
from vivant.session import Session


@pytest.fixture(scope="module")
def engine() -> FlashPortrait:
    return tiny_engine()


@pytest.fixture(scope="module")
def portrait(engine: FlashPortrait) -> Any:
    return engine.prepare(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1)), face=None)


def play(engine: FlashPortrait, portrait: Any, motion: Motion, options: Options | None = None) -> Tensor:
    session = Session(engine, portrait, options)
    frames = session.push_motion(motion) + session.flush()
    return torch.stack(frames) if frames else torch.zeros(0, 3, 32, 32)


@pytest.mark.parametrize("num_frames", [1, 5, 99, 100, 101, 201])
def test_any_number_of_frames(engine: FlashPortrait, portrait: Any, num_frames: int) -> None:
    frames = play(engine, portrait, motions(engine, num_frames), Options(num_steps=1))
    assert len(frames) == num_frames
    changes = (frames[1:] - frames[:-1]).abs().flatten(1).mean(1)
    assert (changes > 0).all(), "a frame came twice"


def test_state_does_not_grow(engine: FlashPortrait, portrait: Any) -> None:
    session = Session(engine, portrait, Options(num_steps=2, prediction="newton"))
    sizes = []
    for row in motions(engine, 120).features.split(1):
        session.push_motion(Motion(row))
        tensors, _ = session._open_state().to_tensors()
        sizes.append(sum(tensor.numel() for tensor in tensors.values()))
    assert max(sizes[60:]) <= max(sizes[:60])


@pytest.mark.parametrize(
    "options",
    [
        Options(fusion="published"),
        Options(fusion="published", prediction="controlled", prediction_level="module"),
        Options(prediction="adaptive", prediction_horizon=2, text_guidance=2.0),
        Options(prediction="threshold", prediction_bound=0.5, expression_guidance=1.0),
        Options(decoder="tiny", scene="singing", num_steps=2),
        Options(tile_px=16, num_steps=2),
        Options(sampler="unipc", fusion="published"),
        Options(sampler="dpm", prediction="newton", prediction_horizon=2),
    ],
    ids=[
        "published",
        "published-controlled",
        "adaptive",
        "threshold",
        "tiny-decoder",
        "tiles",
        "unipc-published",
        "dpm-predicted",
    ],
)
def test_streamed_saved_and_whole_are_one(
    engine: FlashPortrait, portrait: Any, options: Options, tmp_path: Path
) -> None:
    motion = motions(engine, 23)
    expected = play(engine, portrait, motion, options)
    assert len(expected) == 23
    session = Session(engine, portrait, options)
    frames: list[Tensor] = []
    for index in range(len(motion)):
        if index in (7, 18):
            session.save_state(tmp_path / "state.safetensors")
            session = Session.restore(tmp_path / "state.safetensors", engine, portrait)
        frames += session.push_motion(motion[index])
    assert torch.equal(torch.stack(frames + session.flush()), expected)
    plain = play(engine, portrait, motion, Options())
    assert not torch.equal(expected, plain)


def test_words_matter_only_with_their_guidance(engine: FlashPortrait, portrait: Any) -> None:
    motion = motions(engine, 5)
    spoken, sung = (
        play(engine, portrait, motion, Options(num_steps=1, text_guidance=3.0, scene=scene))
        for scene in ("talking", "singing")
    )
    assert not torch.equal(spoken, sung)


def test_no_tiny_decoder(engine: FlashPortrait, portrait: Any) -> None:
    config = replace(tiny(), tiny_vae=None)
    without = FlashPortrait(config, FlashPortrait.build_networks(config))
    with pytest.raises(InputError, match="no tiny decoder"):
        without.start(portrait, Options(decoder="tiny"))


def test_a_face_is_aligned_and_remembered(engine: FlashPortrait, portrait: Any) -> None:
    from vivant.engine import as_reference

    example = Path(__file__).resolve().parents[3] / "examples" / "astronaut.png"
    face = engine.prepare(example).references
    assert face is not None
    state = engine.start(portrait)
    engine.encode_motion(state, torch.zeros(1, 3, 64, 64))
    assert state.alignment is None
    whole = as_reference(example)[:, :, :300, 100:400]
    engine.encode_motion(state, whole)
    assert state.alignment is not None
    again = state.alignment.clone()
    engine.encode_motion(state, torch.zeros(1, 3, 300, 300))
    assert torch.equal(state.alignment, again), "where no face is seen the last alignment holds"


def test_a_window_that_moved_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first face aligned, a shifted window that shows the same gives the same, and a new shot begins anew."""
    from vivant.engines.flashportrait import motion as module

    alignment = np.array([[1.9, -0.2, 3.0], [0.2, 1.9, -4.0]])
    place = (1.3, 0.2, -0.1)
    moved = seen_through(alignment, place, 64)
    where = np.array([10.0, 20.0])
    in_first = place[0] * ((2 * where + 1) / 64 - 1) + np.array(place[1:])
    expected = alignment[:, :2] @ ((in_first + 1) * 32 - 0.5) + alignment[:, 2]
    np.testing.assert_allclose(moved[:, :2] @ where + moved[:, 2], expected)
    config = replace(tiny(), alignment="first")
    engine = FlashPortrait(config, FlashPortrait.build_networks(config))
    state = engine.start(engine.prepare(torch.rand(3, 32, 32), face=None))
    calls: list[int] = []

    def found(picture: np.ndarray, size_px: int) -> np.ndarray:
        calls.append(size_px)
        return alignment

    monkeypatch.setattr(module, "alignment_of", found)
    picture = torch.rand(1, 3, 64, 64)
    first = engine.see(state, picture, torch.tensor([[1.0, 0.0, 0.0]]))
    again = engine.encode_motion(state, picture)
    assert torch.equal(first.features, again.features)
    assert len(calls) == 1, "looked for once"
    engine.restart(state)
    engine.encode_motion(state, picture)
    assert len(calls) == 2
