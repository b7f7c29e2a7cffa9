"""The voice: streaming equals all at once, memory is bounded, and training learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vivant import records
from vivant.engines.liveportrait.voice import ONSET_FRAMES, Voice, VoiceState
from vivant.engines.liveportrait.voice_networks import (
    BLOCK,
    COLUMNS,
    TAIL,
    VoiceConfig,
    VoiceNetwork,
    log_mel,
    mel_power,
)
from vivant.engines.liveportrait.voice_training import Utterance, VoiceStage, debug_voice
from vivant.errors import InputError
from vivant.store import embedded_weights


def tiny_voice() -> Voice:
    torch.manual_seed(0)
    config = VoiceConfig(num_bands=12, controls=("jawOpen", "mouthPucker"), lookahead_frames=2, encoder_channels=6,
                         hidden=8, num_layers=2, num_heads=2, window_frames=5)  # fmt: skip
    network = VoiceNetwork(config)
    network.basis.normal_()
    for layer in network.layers:
        torch.nn.init.normal_(layer.distance)
    torch.nn.init.constant_(network.speak.bias, 0.5)
    return Voice(network)


def sound(num_samples: int) -> torch.Tensor:
    return torch.randn(num_samples, generator=torch.Generator().manual_seed(1)) * 0.1


def test_any_pieces_give_the_same_motion_bit_for_bit() -> None:
    voice, samples = tiny_voice(), sound(BLOCK * 11 + 77)
    whole = voice.motions(samples)
    assert len(whole) == 12
    for size in (1000, 640, 133):
        state = voice.start()
        pieces = [
            m
            for start in range(0, len(samples), size)
            for m in voice.push(state, samples[start : start + size])
        ]
        pieces += voice.flush(state)
        joined = type(whole).cat(pieces)
        assert torch.equal(joined.expression, whole.expression)
        assert torch.equal(joined.rotation, whole.rotation)


def test_stepping_equals_the_whole_sequence() -> None:
    voice, samples = tiny_voice(), sound(BLOCK * 20)
    network = voice.network
    mel = log_mel(mel_power(torch.cat([torch.zeros(TAIL), samples]), network.config.num_bands))
    memory = network.begin()
    steps = [network.step(memory, mel[start : start + 4]) for start in range(0, len(mel), 4)]
    answers = torch.stack([step for step in steps if step is not None])
    history = torch.cat([torch.zeros(1, 2), answers[:-1]])
    assert len(answers) == 18
    assert answers.std() > 0.01
    torch.testing.assert_close(
        network(mel[None], history[None])[0].clamp(0, 1), answers, atol=1e-5, rtol=1e-4
    )


def test_heads_nod_with_stress_as_far_as_asked() -> None:
    """Two seconds of quiet speech, half a second of loud speech, silence: down, and back."""
    tone = torch.sin(torch.arange(BLOCK * 50) * 0.3)
    samples = torch.cat([0.02 * tone, 0.2 * tone[: BLOCK * 12], torch.zeros(BLOCK * 26)])
    still, nodding, wild = (Voice(tiny_voice().network, degrees) for degrees in (0.0, 2.0, 4.0))
    heads = [voice.motions(samples).pitch for voice in (still, nodding, wild)]
    nods = heads[1] - heads[0]
    assert 48 <= int(nods.argmax()) < 62
    assert 0.5 < float(nods.max()) <= 2
    assert float(nods[-10:].abs().max()) < 0.2
    torch.testing.assert_close(heads[2] - heads[0], 2 * nods, atol=0.01, rtol=0)
    with pytest.raises(InputError, match="0 to 6, got 7"):
        Voice(tiny_voice().network, 7)


def test_memory_does_not_grow() -> None:
    voice = tiny_voice()
    state = voice.start()

    def size() -> int:
        tensors: dict[str, torch.Tensor] = {}
        records.to_data(state, tensors)
        return sum(tensor.numel() for tensor in tensors.values())

    voice.push(state, sound(BLOCK * 3))
    before = size()
    voice.push(state, sound(BLOCK * 60))
    assert size() == before


def test_a_saved_stream_goes_on_as_if_never_stopped() -> None:
    voice, samples = tiny_voice(), sound(BLOCK * 12)
    state = voice.start(seed=3)
    voice.push(state, samples[:3000])
    tensors: dict[str, torch.Tensor] = {}
    saved = records.to_data(state, tensors)
    again = records.from_data(VoiceState, saved, tensors)
    for a, b in zip(voice.push(state, samples[3000:]), voice.push(again, samples[3000:]), strict=True):
        assert torch.equal(a.expression, b.expression)
        assert torch.equal(a.rotation, b.rotation)


def test_the_declared_lookahead_is_all_that_is_heard() -> None:
    voice, samples = tiny_voice(), sound(BLOCK * 12)
    other = samples.clone()
    other[BLOCK * 8 :] = 0
    a, b = voice.motions(samples).expression, voice.motions(other).expression
    ahead = voice.stream.delay_frames
    assert torch.equal(a[: 8 - ahead], b[: 8 - ahead])
    assert not torch.equal(a[8 - ahead], b[8 - ahead])


def test_the_first_frame_is_the_rest_and_seeds_differ() -> None:
    voice, samples = tiny_voice(), sound(BLOCK * 40)
    one, two = voice.motions(samples, seed=0), voice.motions(samples, seed=1)
    assert float(one.expression[0].abs().max()) == 0
    torch.testing.assert_close(one.rotation[0], torch.eye(3))
    assert float(one.expression[ONSET_FRAMES:].abs().max()) > 0
    assert not torch.equal(one.rotation, two.rotation)


def test_bad_sound_is_refused() -> None:
    with pytest.raises(InputError, match="mono"):
        tiny_voice().motions(torch.zeros(2, 700))
    with pytest.raises(InputError, match="no sound"):
        tiny_voice().motions(torch.zeros(0))


@pytest.mark.skipif(
    not (embedded_weights("liveportrait-voice-mini") / "model.safetensors").is_file(), reason="no weights"
)
def test_embedded_voice_keeps_silence_closed_and_opens_for_sound() -> None:
    voice = Voice.load(embedded_weights("liveportrait-voice-mini"))
    silent = voice.motions(torch.zeros(16_000 * 2)).expression
    lips = silent[:, 66] - silent[:, 62]
    assert float(lips.norm(dim=-1).max()) < 0.02


def test_training_learns_to_open_for_sound() -> None:
    """On hand-made speech: loud stretches are open mouths. Needs no synthesiser."""
    recipe = debug_voice()
    torch.manual_seed(0)
    network = VoiceNetwork(recipe.config)
    network.basis.normal_(std=0.05)
    loud = (np.arange(100) // 10 % 2).astype(np.float32)
    power = np.repeat(0.001 * loud, COLUMNS)[:, None] * np.ones((1, recipe.config.num_bands), np.float32)
    curves = loud[:, None] * np.linspace(0.1, 0.4, len(recipe.config.controls), dtype=np.float32)
    stage = VoiceStage(network, [Utterance(power.astype(np.float32), curves)])
    data = stage.dataset(recipe.train, 0, 1)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for index in range(30):
        loss = torch.stack(list(stage.losses(data[index], 0.0).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
