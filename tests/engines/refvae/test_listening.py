"""What the generator hears: the mel spectrogram and the lip-sync expert, against the official implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.seeded_weights import seeded_state_dict
from vivant.engines.refvae.sync_expert import SyncExpert, audio_tower
from vivant.ops.mel import SILENCE, mel, mel_piece, new_mel_state

GOLDEN = Path(__file__).parents[2] / "assets" / "audio_golden.safetensors"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


def test_mel_is_the_official_one(golden: dict[str, Tensor]) -> None:
    got = mel(golden["signal.pcm16"].double() / 32768)
    assert got.shape == (80, 161)
    assert (got - golden["mel.out"]).abs().max() < 3e-6
    assert got.min() == SILENCE


@pytest.mark.parametrize("sizes", [[32000], [640] * 50, [1, 399, 1, 200, 31399], [0, 777, 31223]])
def test_mel_of_a_stream_is_mel_of_the_whole(golden: dict[str, Tensor], sizes: list[int]) -> None:
    samples = golden["signal.pcm16"].double() / 32768
    state = new_mel_state()
    got = torch.cat([mel_piece(state, piece) for piece in samples.split(sizes)], 1)
    whole = mel(samples)
    # Column m needs samples up to 200 m + 399: of 160 hops all but the last two columns are there.
    assert got.shape[1] == whole.shape[1] - 2
    assert (got - whole[:, :-2]).abs().max() < 1e-12
    assert len(state.samples) < 1000


def test_expert_is_the_official_one(golden: dict[str, Tensor]) -> None:
    expert = SyncExpert().eval()
    with safe_open(GOLDEN, "pt") as file:
        manifest = json.loads(file.metadata()["manifest"])
    assert {name: list(tensor.shape) for name, tensor in expert.state_dict().items()} == manifest
    expert.load_state_dict(seeded_state_dict(expert.state_dict()))
    with torch.no_grad():
        assert (expert.embed_sound(golden["expert.mel_in"]) - golden["expert.audio_emb"]).abs().max() < 2e-6
        assert (expert.embed_faces(golden["expert.face_in"]) - golden["expert.face_emb"]).abs().max() < 2e-6
        raw = expert.audio_encoder(golden["expert.mel_in"]).flatten(1)
        assert (raw - golden["expert.audio_raw"]).abs().max() < 2e-5


def test_narrow_towers_have_the_same_form() -> None:
    assert audio_tower((2, 3, 4, 5, 6)).eval()(torch.zeros(1, 1, 80, 16)).shape == (1, 6, 1, 1)
