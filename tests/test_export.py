"""ONNX: what vivant exports runs on stock onnxruntime, and a whole animation on it equals the eager one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vivant
from vivant import checkpoint, export
from vivant.cli import main
from vivant.engine import Engine
from vivant.engines.liveportrait.config import Config, Options, tiny_published, tiny_whole
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import CheckpointError, InputError, SetupError
from vivant.runtime import onnx as runtime
from vivant.session import Session

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# Half a minute on an idle core; on a machine with ten other jobs the exporter has been seen to take five.
pytestmark = pytest.mark.timeout(1500)

CONFIGS = {"whole": tiny_whole(), "published": tiny_published()}


def pictures(count: int, seed: int) -> Tensor:
    """(T, 3, 64, 64): soft blobs."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


@pytest.fixture(scope="module", params=list(CONFIGS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of tiny networks in which everything does something."""
    return _checkpoint(tmp_path_factory.mktemp(request.param) / "trained", CONFIGS[request.param])


def _checkpoint(folder: Path, config: Config) -> Path:
    torch.manual_seed(0)
    networks = LivePortrait.build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    checkpoint.save(folder, "liveportrait", config, networks)
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    folder = trained.with_name("exported")
    export.export(trained, folder)
    return folder


def animated(engine: Engine, options: Options) -> Tensor:
    portrait = engine.prepare(pictures(1, 1), face=None)
    opened = torch.full((1, 2), 0.25)
    measured = replace(portrait.motion, eyes_open=opened, lips_open=opened[:, :1])
    session = Session(engine, replace(portrait, motion=measured), options)
    frames = [
        frame for picture in pictures(3, 2) for frame in session.push(picture, openness=(0.2, 0.3, 0.1))
    ]
    session.close()
    return torch.stack(frames)


@pytest.mark.slow
def test_a_whole_animation_equals_the_eager_one(trained: Path, exported: Path) -> None:
    eager = vivant.load(trained, device="cpu", dtype="float32")
    onnx_engine = vivant.load(exported, runtime="onnx")
    assert onnx_engine.config == eager.config
    for options in (
        Options(),
        Options(eye_retargeting=True, lips_open=0.4, normalize_lip=True, stitching=True),
        Options(relative=False, region="pose", compatibility="published", lip_retargeting=True),
    ):
        expected, actual = animated(eager, options), animated(onnx_engine, options)
        assert float((actual - expected).abs().max()) < export.MAX_ERROR
        assert float(expected.std()) > 0.01, "a picture of nothing proves nothing"


@pytest.mark.slow
def test_several_frames_at_once_are_drawn_one_by_one(trained: Path, exported: Path) -> None:
    eager = vivant.load(trained, device="cpu", dtype="float32")
    onnx_engine = vivant.load(exported, runtime="onnx")
    expected, actual = (
        engine.networks.motion(engine._fitted(pictures(3, 5))) for engine in (eager, onnx_engine)
    )
    for name, value in vars(expected).items():
        if value is not None:
            assert torch.allclose(getattr(actual, name), value, atol=1e-3), name


@pytest.mark.slow
def test_the_files_need_no_plugin_and_say_what_they_are(trained: Path, exported: Path) -> None:
    manifest = json.loads((exported / "onnx.json").read_text())
    assert manifest["opset"] == 18
    for name, method in manifest["methods"].items():
        path = exported / method["file"]
        assert method["sha256"] == checkpoint.sha256_of(path)
        assert method["max_error"] <= export.MAX_ERROR
        model = onnx.load(path)
        assert {node.domain for node in model.graph.node} == {""}, "standard operators only"
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
        for direction, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            found = [
                (value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]) for value in values
            ]
            said = [(port["name"], port["shape"]) for port in method["ports"][direction]]
            assert found == said, name
        ranks = _ranks(model)
        for node in model.graph.node:
            if node.op_type == "GridSample":
                assert ranks[node.input[0]] == 4, f"{name} samples a volume, which few runtimes can"


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    values = [*model.graph.value_info, *model.graph.input]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    return ranks | {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}


@pytest.mark.slow
def test_what_cannot_be_is_said(
    exported: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="need the runtime onnx"):
        vivant.load(exported)
    with pytest.raises(InputError, match="float32"):
        vivant.load(exported, dtype="bfloat16", runtime="onnx")
    with pytest.raises(InputError, match="on the CPU"):
        vivant.load(exported, device="cuda:0", runtime="onnx")
    with pytest.raises(InputError, match="--overwrite"):
        export.export(trained, exported)
    with pytest.raises(InputError, match="other files"):
        export.export(trained, trained, overwrite=True)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in exported.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "motion.onnx").write_bytes(b"not a network")
    with pytest.raises(CheckpointError, match=r"motion\.onnx is missing or damaged"):
        vivant.load(damaged, runtime="onnx")
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"vivant\[export\]"):
        vivant.load(exported, runtime="onnx")
    with pytest.raises(SetupError, match=r"vivant\[export\]"):
        export.export(trained, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_line(trained: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "-o", str(exported), "--preset", str(trained), "--dtype", "float16"]) == 2
    assert "float32" in capsys.readouterr().err
    assert main(["export", "-o", str(exported), "--preset", str(trained)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_family_that_cannot_be_exported(tmp_path: Path) -> None:
    from vivant.engines.refvae.engine import RefVae

    (config,) = list(RefVae.tiny_configs().values())[:1]
    checkpoint.save(tmp_path / "voice", "refvae", config, RefVae.build_networks(config))
    with pytest.raises(InputError, match="cannot be exported"):
        export.export(tmp_path / "voice", tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


@pytest.mark.slow
def test_a_checkpoint_is_exported_once(
    exported: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into the user's store, where the next load finds it."""
    monkeypatch.setenv("VIVANT_HOME", str(tmp_path))
    made: list[Path] = []

    def copied(source: Path, folder: Path, *, sha256: str | None) -> None:
        made.append(folder)
        exported_copy = folder
        exported_copy.mkdir()
        for path in exported.iterdir():
            (exported_copy / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(export, "export", copied)
    first, second = (vivant.load(trained, runtime="onnx") for _ in range(2))
    assert len(made) == 1
    assert made[0].is_relative_to(tmp_path)
    assert torch.equal(animated(first, Options()), animated(second, Options()))
