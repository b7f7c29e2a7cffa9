"""What every family promises, checked on every family: the list comes from ENGINES, so none escapes.

Tiny configs, random weights, CPU, one thread. A family that passes here works with Session, animate, the command
line and the web app without any of them knowing its name.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vivant import checkpoint
from vivant.engine import Engine
from vivant.engines import ENGINES, engine_class
from vivant.errors import CheckpointError, InputError
from vivant.face.crop import box_crop
from vivant.face.framing import Framing
from vivant.face.points import Landmarks
from vivant.runtime import precision
from vivant.session import Session

CPU = torch.device("cpu")
CASES = [(family, name) for family in ENGINES for name in engine_class(family).tiny_configs()]


def make_networks(family: str, name: str, seed: int = 0) -> torch.nn.Module:
    """Networks with weights that make every input matter (fresh heads are often near zero)."""
    torch.manual_seed(seed)
    config = engine_class(family).tiny_configs()[name]
    networks = engine_class(family).build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return networks


def make_engine(family: str, name: str, dtype: torch.dtype = torch.float32, *, fold: bool = False) -> Engine:
    config = engine_class(family).tiny_configs()[name]
    networks = make_networks(family, name).eval()
    if fold:
        engine_class(family).fold_networks(networks)
    return engine_class(family)(config, precision.place(networks, CPU, dtype), dtype)


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine(*request.param)


@pytest.fixture
def portrait(engine: Engine) -> Any:
    return engine.prepare(picture(7), face=None)


def picture(seed: int, height: int = 64, width: int = 64) -> Tensor:
    """(3, H, W) in [0, 1]: soft blobs, so that resizing keeps most of it."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]


def driving_of(engine: Engine, num_frames: int, seed: int = 100) -> Tensor:
    """Driving that lasts num_frames: frames (T, 3, H, W), or samples (S,)."""
    if engine.hears:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(num_frames * engine.stream.samples_per_frame, generator=generator) - 0.5
    return torch.stack([picture(seed + index) for index in range(num_frames)])


def length_of(engine: Engine) -> int:
    """Frames enough to fill the delay and leave a part of a chunk over."""
    return engine.stream.delay_frames + 2 * engine.stream.chunk_frames + 1


def per_frame(engine: Engine, driving: Tensor) -> list[Tensor]:
    return list(driving.split(engine.stream.samples_per_frame or 1))


def run(session: Session, driving: Tensor) -> Tensor:
    """Everything pushed at once, everything taken."""
    return torch.stack(session.push(driving) + session.flush())


@pytest.fixture
def whole(engine: Engine, portrait: Any) -> Tensor:
    """The reference result: all frames pushed at once."""
    return run(Session(engine, portrait), driving_of(engine, length_of(engine)))


def test_1_as_many_frames_come_out_as_went_in(engine: Engine, portrait: Any) -> None:
    assert engine.hears == (engine.stream.driving == "audio")
    for num_frames in (1, engine.stream.chunk_frames, length_of(engine)):
        session = Session(engine, portrait)
        assert len(run(session, driving_of(engine, num_frames))) == num_frames
        assert session.timing.frames_in == session.timing.frames_out == num_frames
    assert Session(engine, portrait).flush() == []


def test_2_chunks_do_not_matter(engine: Engine, portrait: Any, whole: Tensor) -> None:
    driving = driving_of(engine, length_of(engine))
    for pieces in (per_frame(engine, driving), [driving[:1], driving[1:]]):
        session = Session(engine, portrait)
        frames = [frame for piece in pieces for frame in session.push(piece)] + session.flush()
        assert torch.equal(torch.stack(frames), whole)


def test_2_what_is_drawn_apart_is_drawn_alike(engine: Engine, portrait: Any) -> None:
    chunk = engine.stream.chunk_frames * (engine.stream.samples_per_frame or 1)
    chunks = driving_of(engine, 4 * engine.stream.chunk_frames).split(chunk)
    at_once, apart = engine.start(portrait), engine.start(portrait)
    expected = [engine.step(at_once, driving) for driving in chunks]
    drawings = [engine.begin_render(apart, engine.see(apart, driving)) for driving in chunks]
    drawn = [drawing() for drawing in reversed(drawings)][::-1]
    for mine, theirs in zip(drawn, expected, strict=True):
        assert torch.equal(mine, theirs)
    if engine.draws_apart:
        assert torch.equal(drawings[0](), expected[0]), "drawing once more is no other picture"


def test_3_two_sessions_do_not_meet(engine: Engine, portrait: Any, whole: Tensor) -> None:
    other_portrait = engine.prepare(picture(8), face=None)
    length = length_of(engine)
    other_driving = driving_of(engine, length, seed=500)
    alone = run(Session(engine, other_portrait, seed=1), other_driving)
    one, two = Session(engine, portrait), Session(engine, other_portrait, seed=1)
    mine: list[Tensor] = []
    theirs: list[Tensor] = []
    pieces = zip(per_frame(engine, driving_of(engine, length)), per_frame(engine, other_driving), strict=True)
    for piece, other_piece in pieces:
        mine += one.push(piece)
        theirs += two.push(other_piece)
    assert torch.equal(torch.stack(mine + one.flush()), whole)
    assert torch.equal(torch.stack(theirs + two.flush()), alone)
    assert not torch.equal(alone, whole)


def test_4_same_seed_same_frames(engine: Engine, portrait: Any, whole: Tensor) -> None:
    driving = driving_of(engine, length_of(engine))
    torch.rand(3)  # the global generator must not matter
    assert torch.equal(run(Session(engine, portrait, seed=0), driving), whole)
    run(Session(engine, portrait), driving_of(engine, length_of(engine), seed=900))
    assert torch.equal(run(Session(engine, portrait), driving), whole), "a fresh start remembers something"


def test_5_the_engine_does_not_change(engine: Engine, portrait: Any) -> None:
    def snapshot() -> tuple[dict[str, Any], dict[str, Tensor]]:
        attributes = {name: value for name, value in vars(engine).items() if name != "networks"}
        return copy.deepcopy(attributes), {k: v.clone() for k, v in engine.networks.state_dict().items()}

    def modules() -> list[tuple[str, set[str], bool]]:
        return [
            (name, set(vars(module)), module.training) for name, module in engine.networks.named_modules()
        ]

    (attributes, tensors), shape = snapshot(), modules()
    run(Session(engine, portrait), driving_of(engine, length_of(engine)))
    later_attributes, later_tensors = snapshot()
    assert later_attributes == attributes
    assert tensors.keys() == later_tensors.keys()
    assert all(torch.equal(later_tensors[name], tensor) for name, tensor in tensors.items())
    assert modules() == shape, "networks gained attributes, or changed mode, while running"


def test_6_the_future_is_unknown(engine: Engine, portrait: Any, whole: Tensor) -> None:
    stream = engine.stream
    length = length_of(engine)
    changed = length - 1
    driving = driving_of(engine, length).clone()
    start = changed * (stream.samples_per_frame or 1)
    driving[start:] = 1 - driving[start:]
    frames = run(Session(engine, portrait), driving)
    chunk_start = changed - changed % stream.chunk_frames
    safe = max(0, chunk_start - stream.delay_frames)
    assert torch.equal(frames[:safe], whole[:safe])
    assert not torch.equal(frames, whole), "the driving has no effect at all"


def test_7_saved_and_loaded_is_the_same(engine: Engine, tmp_path: Path) -> None:
    family = type(engine)
    checkpoint.save(tmp_path, engine.family, engine.config, engine.networks)
    config, networks = checkpoint.load(tmp_path, family.config_type, family.build_networks)
    assert config == engine.config
    again = family(config, precision.place(networks, CPU, torch.float32))
    driving = driving_of(engine, length_of(engine))
    frames = [run(Session(e, e.prepare(picture(7), face=None)), driving) for e in (engine, again)]
    assert torch.equal(frames[0], frames[1])

    header = json.loads((tmp_path / "config.json").read_text())
    some = next(iter(header["config"]))
    for broken in (
        {key: value for key, value in header["config"].items() if key != some},
        {**header["config"], "sauce": 1},
    ):
        (tmp_path / "config.json").write_text(json.dumps({**header, "config": broken}))
        with pytest.raises(CheckpointError, match=f"{some}|sauce"):
            checkpoint.load(tmp_path, family.config_type, family.build_networks)


@pytest.mark.parametrize("size", [(17, 31), (64, 64), (200, 120)])
def test_8_any_size_in_unit_range_out(engine: Engine, size: tuple[int, int]) -> None:
    if engine.hears:
        pytest.skip("sound has no size")
    portrait = engine.prepare(picture(7, *size), face=None)
    driving = torch.stack([picture(index, *size) for index in range(engine.stream.chunk_frames)])
    frames = run(Session(engine, portrait), driving)
    assert frames.dtype == torch.float32
    assert frames.shape[1] == 3
    assert 0 <= float(frames.min()) <= float(frames.max()) <= 1


def test_7_the_person_may_be_another_picture_in_each_frame(engine: Engine, portrait: Any) -> None:
    """Where a family says so: the driver's state goes on, what is drawn is the new portrait."""
    image = np.ascontiguousarray((picture(8) * 255).byte().permute(1, 2, 0).numpy())
    landmarks = Landmarks(np.random.default_rng(0).uniform(20, 44, (468, 3)).astype(np.float32), 1.0)
    framing = Framing(image, box_crop(np.array([0.0, 0.0, 64.0, 64.0]), engine.crop_size_px), landmarks, 0)
    session = Session(engine, portrait)
    if not engine.takes_source_video:
        with pytest.raises(InputError, match=f"{engine.family} animates pictures, not videos"):
            session.appear(framing)
        return
    assert (engine.stream.chunk_frames, engine.stream.delay_frames) == (1, 0), "answers each frame at once"
    driving = driving_of(engine, 2)
    frames = session.push(driving[:1])
    session.appear(framing)
    frames += session.push(driving[1:])
    other = run(Session(engine, engine.prepare_framed([framing])), driving)
    assert torch.equal(frames[1], other[1])
    assert not torch.equal(frames[1], run(Session(engine, portrait), driving)[1])


@pytest.mark.parametrize("case", CASES, ids=["-".join(case) for case in CASES])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_8_half_precision_is_finite_and_close(case: tuple[str, str], dtype: torch.dtype) -> None:
    full, half = make_engine(*case), make_engine(*case, dtype, fold=True)
    driving = driving_of(full, length_of(full))
    frames = [run(Session(e, e.prepare(picture(7), face=None)), driving) for e in (full, half)]
    assert bool(torch.isfinite(frames[1]).all())
    assert frames[1].dtype == torch.float32
    assert float((frames[0] - frames[1]).abs().mean()) < 0.03


@pytest.mark.parametrize("case", CASES, ids=["-".join(case) for case in CASES])
def test_8_folding_changes_nothing(case: tuple[str, str]) -> None:
    plain, folded = make_engine(*case), make_engine(*case, fold=True)
    driving = driving_of(plain, length_of(plain))
    frames = [run(Session(e, e.prepare(picture(7), face=None)), driving) for e in (plain, folded)]
    assert torch.allclose(frames[0], frames[1], atol=1e-4)


def test_9_a_saved_session_goes_on(engine: Engine, portrait: Any, whole: Tensor, tmp_path: Path) -> None:
    pieces = per_frame(engine, driving_of(engine, length_of(engine)))
    for cut in (0, 1, len(pieces) - 1):
        session = Session(engine, portrait)
        frames = [frame for piece in pieces[:cut] for frame in session.push(piece)]
        session.save_state(tmp_path / "session.safetensors")
        session.close()
        again = Session.restore(
            tmp_path / "session.safetensors", engine, engine.prepare(picture(7), face=None)
        )
        frames += [frame for piece in pieces[cut:] for frame in again.push(piece)] + again.flush()
        assert torch.equal(torch.stack(frames), whole)
        assert again.timing.frames_in == again.timing.frames_out == len(whole)


def test_9_options_travel_with_the_session(engine: Engine, portrait: Any, tmp_path: Path) -> None:
    session = Session(engine, portrait)
    session.options = replace(session.options)
    session.save_state(tmp_path / "session.safetensors")
    assert Session.restore(tmp_path / "session.safetensors", engine, portrait).options == session.options
    with pytest.raises(TypeError, match="options are"):
        session.options = object()


def test_a_session_ends_once(engine: Engine, portrait: Any) -> None:
    session = Session(engine, portrait)
    session.flush()
    with pytest.raises(RuntimeError, match="flushed"):
        session.push(driving_of(engine, 1))
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.flush()


def test_a_strange_file_is_not_a_session(engine: Engine, portrait: Any, tmp_path: Path) -> None:
    path = tmp_path / "session.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not a saved session"):
        Session.restore(path, engine, portrait)
