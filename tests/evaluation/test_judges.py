"""Judges against their references: names, shapes and numbers of the released code, with weights made from names.

The digests and numbers were taken from lpips 0.1.4, torch-fidelity 0.4.0 and arcface_torch on seeded weights; ours
were equal to the last bit. ArcFace was compared by reading: names, and 24.0, 43.6 and 65.2 million parameters.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.seeded_weights import seeded_state_dict
from vivant.errors import CheckpointError, InputError
from vivant.evaluation.judges.arcface import ArcFace, load_arcface
from vivant.evaluation.judges.given import load_judges, parse_weights
from vivant.evaluation.judges.inception import Inception, load_inception
from vivant.evaluation.judges.perceptual import Lpips, load_lpips, published_keys
from vivant.evaluation.judges.scripted import load_scripted
from vivant.evaluation.judges.syncnet import SyncNet
from vivant.evaluation.metrics import sync_score
from vivant.face.identity import embedded_identity
from vivant.ops.mfcc import mfcc

GOLDEN = Path(__file__).parents[1] / "assets" / "sync_golden.safetensors"
AUDIO = GOLDEN.with_name("audio_golden.safetensors")


def digest(shapes: dict[str, tuple[int, ...]]) -> str:
    lines = [f"{name} {tuple(shape)}" for name, shape in sorted(shapes.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def noisy() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, 64, 96, generator=generator)
    return frames, (frames + 0.1 * torch.rand(2, 3, 64, 96, generator=generator)).clamp(0, 1)


def released_lpips(kind: str) -> dict[str, Tensor]:
    """As lpips saves it: trunk with seeded weights, heads that are the mean of the channels."""
    keys = published_keys(Lpips(kind))
    tensors = seeded_state_dict({name: torch.zeros(shape) for name, shape in keys.items() if "slice" in name})
    return tensors | {name: torch.full(shape, 1 / shape[1]) for name, shape in keys.items() if "lin" in name}


@pytest.mark.parametrize(
    ("kind", "keys", "value"),
    [
        ("alex", "e0ad0b851eeac5a3", (0.0005911575, 0.0006125425)),
        ("vgg", "66823868ba600fe7", (0.0008748029, 0.0008852049)),
    ],
)
def test_lpips_is_that_of_its_package(
    kind: str, keys: str, value: tuple[float, float], tmp_path: Path
) -> None:
    assert digest(dict(published_keys(Lpips(kind)))) == keys
    whole = released_lpips(kind)
    torch.save(whole | {"lins.0.model.1.weight": whole["lin0.model.1.weight"]}, tmp_path / "whole.pth")
    network = load_lpips(kind, tmp_path / "whole.pth")
    frames, truth = noisy()
    found = network(frames, truth)
    assert found.tolist() == pytest.approx(value, rel=1e-4)
    assert network(frames, frames).tolist() == [0, 0]
    trunk = {
        ".".join(["features", *name.split(".")[2:]]): tensor
        for name, tensor in whole.items()
        if "slice" in name
    }
    save_file(trunk | {"classifier.1.weight": torch.zeros(2, 2)}, tmp_path / "trunk.safetensors")
    torch.save({name: tensor for name, tensor in whole.items() if "lin" in name}, tmp_path / "heads.pth")
    judges = load_judges(
        {f"lpips-{kind}": tmp_path / "trunk.safetensors", f"lpips-{kind}-heads": tmp_path / "heads.pth"}
    )
    parts = judges.lpips_alex or judges.lpips_vgg
    assert parts is not None
    assert torch.equal(parts(frames, truth), found)
    assert judges.names - {"identity", "sync-expert"} == {f"lpips-{kind}"}
    with pytest.raises(CheckpointError, match="trunk of LPIPS only"):
        load_lpips(kind, tmp_path / "trunk.safetensors")


def test_inception_is_that_of_fid(tmp_path: Path) -> None:
    network = Inception()
    assert digest(shapes_of(network)) == "760681d791cb624e"
    seeded = seeded_state_dict(network.state_dict(), gain=1.4)
    old = {name: tensor for name, tensor in seeded.items() if not name.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "inception.safetensors")
    network = load_inception(tmp_path / "inception.safetensors")
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, 256, (1, 3, 299, 299), generator=generator)
    # The reference computes in (level - 128) / 128.
    features = network(((levels - 128) / 128 + 1) / 2)[0]
    assert features[:4].tolist() == pytest.approx((0.0, 2.9979270, 0.9124177, 0.0351215), abs=1e-4)
    assert network(torch.zeros(2, 3, 40, 60)).shape == (2, 2048)


@pytest.mark.parametrize(
    ("num_layers", "keys"), [(18, "6bdb508fbe8f9172"), (50, "d80a68220d7280f1"), (100, "dc48aa67c7449a7c")]
)
def test_arcface_has_the_released_keys(num_layers: int, keys: str) -> None:
    with torch.device("meta"):
        assert digest(shapes_of(ArcFace(num_layers))) == keys


def test_arcface_is_told_by_its_depth(tmp_path: Path) -> None:
    network = ArcFace(18)
    tensors = seeded_state_dict(network.state_dict())
    save_file(tensors, tmp_path / "r18.safetensors")
    loaded = load_arcface(tmp_path / "r18.safetensors")
    unit = loaded(torch.rand(2, 3, 112, 112))
    assert unit.norm(dim=1).tolist() == pytest.approx([1, 1])
    del tensors["layer4.1.conv1.weight"]
    save_file(tensors, tmp_path / "torn.safetensors")
    with pytest.raises(CheckpointError, match=r"layer4\.1\.conv1"):
        load_arcface(tmp_path / "torn.safetensors")
    save_file({"layer1.0.x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not an IR-ResNet"):
        load_arcface(tmp_path / "other.safetensors")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def test_mfcc_is_the_official_one(golden: dict[str, Tensor]) -> None:
    samples = load_file(AUDIO)["signal.pcm16"].double() / 32768
    assert (mfcc(samples) - golden["mfcc.out"]).abs().max() < 1e-9


def test_syncnet_is_the_official_one(golden: dict[str, Tensor]) -> None:
    network = SyncNet().eval()
    with safe_open(GOLDEN, "pt") as file:
        manifest = json.loads(file.metadata()["manifest"])
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == manifest
    network.load_state_dict(seeded_state_dict(network.state_dict()))
    frames = (
        golden["frames28_bgr"].repeat_interleave(8, 1).repeat_interleave(8, 2).permute(3, 0, 1, 2).float()
    )
    with torch.no_grad():
        assert (network.embed_sound(golden["syncnet.aud_in"]) - golden["syncnet.aud_out"]).abs().max() < 1e-4
        lips = torch.stack([frames[:, i : i + 5] for i in range(2)])
        assert (network.embed_lips(lips) - golden["lips"]).abs().max() < 1e-3


@pytest.mark.parametrize("case", ["plus3", "minus4", "tiny", "unsynced"])
def test_sync_score_is_the_official_one(golden: dict[str, Tensor], case: str) -> None:
    score = sync_score(golden[f"{case}.lip"].numpy(), golden[f"{case}.aud"].numpy())
    assert score.offset_frames == golden[f"{case}.offset"].item()
    assert score.confidence == pytest.approx(golden[f"{case}.confidence"].item(), abs=1e-5)
    assert score.distance == pytest.approx(golden[f"{case}.min_dist"].item(), abs=1e-5)


class _Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


class _Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1)


def test_scripts_are_tried_when_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mean.ts"
    with pytest.warns(DeprecationWarning, match="torch.jit"):  # of torch's own writer
        torch.jit.save(torch.jit.trace(_Mean(), torch.zeros(2, 3, 4, 4)), str(path))
    script = load_scripted(path, "gaze", [(2, 3, 8, 8)], [3])
    assert script(torch.ones(5, 3, 6, 6))[0].tolist() == [[1, 1, 1]] * 5
    with pytest.raises(CheckpointError, match=r"gives \(3,\) numbers per row; it should give \(any, 4\)"):
        load_scripted(path, "gaze", [(2, 3, 8, 8)], [None, 4])
    with pytest.raises(CheckpointError, match="does not take"):
        load_scripted(path, "gaze", [(2,)], [3])
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.trace(_Flat(), torch.zeros(2, 3, 4, 4)), str(tmp_path / "flat.ts"))
    with pytest.raises(CheckpointError, match=r"flat\.ts does not"):  # one number per row, not a row of one
        load_scripted(tmp_path / "flat.ts", "gaze", [(2, 3, 8, 8)], [1])
    (tmp_path / "text.ts").write_text("no script")
    with pytest.raises(CheckpointError, match="is not TorchScript"):
        load_scripted(tmp_path / "text.ts", "gaze", [(2, 3, 8, 8)], [3])


def test_weights_are_named_once_and_exist(tmp_path: Path) -> None:
    file = tmp_path / "a=b.pth"
    file.write_bytes(b"x")
    assert parse_weights([f"inception={file}"]) == {"inception": file}
    for text, says in (
        ("inception", "NAME=PATH"),
        (f"resnet={file}", "knows no 'resnet'"),
        (f"gaze={tmp_path / 'none'}", "no such file"),
    ):
        with pytest.raises(InputError, match=says):
            parse_weights([text])
    with pytest.raises(InputError, match="given twice"):
        parse_weights([f"gaze={file}"] * 2)
    with pytest.raises(InputError, match="needs the trunk"):
        load_judges({"lpips-alex-heads": file})


def test_our_own_judges_are_embedded(tmp_path: Path) -> None:
    """Measured in their model cards; here: they load by themselves, reports name them, a given file replaces them."""
    own = load_judges({})
    assert own.names == {"identity", "sync-expert"}
    file = embedded_identity()
    assert own.fingerprints["identity"] == hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    assert own.fingerprints.keys() == own.names
    other = tmp_path / "other.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, other)
    given = load_judges({"identity": other}).fingerprints
    assert given["identity"] != own.fingerprints["identity"]
    assert given["sync-expert"] == own.fingerprints["sync-expert"]
    assert own.identity is not None
    assert own.sync_expert is not None
    generator = torch.Generator().manual_seed(0)
    vectors = own.identity(torch.rand(2, 3, 96, 96, generator=generator))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    lips = own.sync_expert.embed_faces(torch.rand(2, 15, 48, 96, generator=generator))
    sound = own.sync_expert.embed_sound(4 * torch.rand(2, 1, 80, 16, generator=generator))
    assert lips.shape == sound.shape == (2, 256)
