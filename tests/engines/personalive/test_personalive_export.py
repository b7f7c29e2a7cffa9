"""ONNX files of PersonaLive: a stream on stock onnxruntime equals the eager one, with any number of keyframes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vivant
from vivant import checkpoint, export
from vivant.engines.personalive.config import Options, tiny
from vivant.engines.personalive.engine import PersonaLive
from vivant.engines.personalive.networks.unet import joined
from vivant.errors import CheckpointError, InputError
from vivant.runtime import onnx as runtime

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# A quarter of a minute on an idle core, several times that beside other jobs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

OUTSIDE = {"denoise.data", "motion_tokens.data", "references.data"}


def pictures(count: int, seed: int) -> Tensor:
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint in which everything does something, and its export, whose larger files have weights beside them."""
    trained = tmp_path_factory.mktemp("personalive") / "trained"
    torch.manual_seed(0)
    networks = PersonaLive.build_networks(tiny())
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    checkpoint.save(trained, "personalive", tiny(), networks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "MAX_BYTES_INSIDE", 500_000)
        export.export(trained, trained.with_name("exported"))
    return trained, trained.with_name("exported")


@pytest.fixture(scope="module")
def engines(folders: tuple[Path, Path]) -> tuple[PersonaLive, PersonaLive]:
    """Eager, and on onnxruntime."""
    trained, exported = folders
    return (
        vivant.load(trained, device="cpu", dtype="float32"),
        vivant.load(exported, runtime="onnx"),
    )


def streamed(engine: PersonaLive, options: Options) -> tuple[Tensor, int]:
    """Frames, and how many sets of references the last call looked at."""
    portrait = engine.prepare(pictures(1, seed=9)[0], face=None)
    state = engine.start(portrait, options, seed=3)
    frames = [engine.step(state, chunk) for chunk in pictures(10, seed=1).split(2)]
    return torch.cat([*frames, engine.flush(state)]), 1 + len(state.window.keyframes)


@pytest.mark.parametrize(
    ("options", "sets"),
    [
        (Options(keyframes="off"), 1),
        (Options(keyframe_warmup_chunks=0, keyframe_threshold=0.0, max_keyframes=3), 4),
        (Options(decoder="tiny", renoise="fresh", placement="paper"), 1),
    ],
    ids=["portrait", "keyframes", "tiny"],
)
def test_a_stream_equals_the_eager_one(
    engines: tuple[PersonaLive, PersonaLive], options: Options, sets: int
) -> None:
    (expected, seen), (actual, seen_there) = (streamed(engine, options) for engine in engines)
    assert seen == seen_there == sets
    assert len(expected) == 10
    assert float((actual - expected).abs().max()) < export.MAX_ERROR
    assert float(expected.std()) > 0.01, "a picture of nothing proves nothing"


def test_the_step_takes_any_number_of_references_and_nothing_between(
    engines: tuple[PersonaLive, PersonaLive],
) -> None:
    latents, timesteps, conditions = engines[0].network_calls(5)["denoise"]
    for count in (1, 2, 3):
        given = vars(conditions) | {"references": joined([conditions.references] * count)}
        more = type(conditions)(**given)
        expected, actual = (engine.networks.denoise(latents, timesteps, more) for engine in engines)
        assert float((actual - expected).abs().max()) < export.MAX_ERROR, count
    cut = [(keys[:, :, 1:], values[:, :, 1:]) for keys, values in conditions.references]
    short = type(conditions)(**(vars(conditions) | {"references": cut}))
    with pytest.raises(InputError, match=r"exported for conditions\.references"):
        engines[1].networks.denoise(latents, timesteps, short)
    still = type(conditions)(**(vars(conditions) | {"temporal": False}))
    with pytest.raises(TypeError, match=r"conditions\.temporal"):
        engines[1].networks.denoise(latents, timesteps, still)


def test_the_files_say_what_they_take(folders: tuple[Path, Path]) -> None:
    _, exported = folders
    config, sizes = tiny(), {}
    for path in exported.glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        assert {node.domain for node in graph.node} == {""}, "standard operators only"
        sizes[path.stem] = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in graph.input
        }
    step = sizes["denoise"]
    assert step["latents"] == [1, config.window_frames, 4, 8, 8]
    assert step["timesteps"] == [1, config.window_frames]
    assert step["conditions.references.0.0"] == [1, 2, "n*64", 4]
    assert step["conditions.references.6.1"] == [1, 2, "n*1", 8], "keys and values of the middle"
    assert sizes["references"].keys() == {"latents", "identity_token"}
    assert {path.name for path in exported.glob("*.data")} == OUTSIDE


def test_another_size_and_damaged_weights_are_refused(
    folders: tuple[Path, Path], engines: tuple[PersonaLive, PersonaLive], tmp_path: Path
) -> None:
    oblong = torch.rand(3, 64, 128)
    with pytest.raises(
        InputError, match=r"encode\.onnx was exported for pictures of 1x3x64x64, got 1x3x64x128"
    ):
        engines[1].prepare(oblong, face=None)
    damaged = shutil.copytree(folders[1], tmp_path / "damaged")
    (damaged / "denoise.data").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"denoise\.data is missing or damaged"):
        vivant.load(damaged, runtime="onnx")
