"""Training of the voice network on synthetic speech: sound by espeak-ng and flite, truth from the studio's visemes.

Needs no pictures. The corpus is spoken when the stage is built and kept as mel power; echo, noise, colour of the
microphone, length of the vocal tract and level are varied per sequence, in the mel domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.engines.liveportrait.voice_networks import (
    BLOCK,
    COLUMNS,
    FRAME_RATE_HZ,
    SAMPLE_RATE_HZ,
    TAIL,
    VoiceConfig,
    VoiceNetwork,
    log_mel,
    mel_power,
)
from vivant.studio.camera import UNIT_CM
from vivant.studio.clip import FLITE_VOICES
from vivant.studio.face_model import FaceModel, load_face_model
from vivant.studio.motion import columns_of
from vivant.studio.speech import Speech, VisemeSpan, speak_with_espeak, speak_with_flite, speech_curves
from vivant.studio.talking import sentence
from vivant.training.config import ParameterGroup, TrainConfig

Array = NDArray[Any]

CONTROLS = (
    "jawOpen",
    "mouthClose",
    "mouthPress",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthUpperUp",
    "mouthLowerDown",
    "mouthStretch",
    "mouthFunnel",
    "mouthPucker",
    "mouthSmile",
)
HELD_OUT_VOICES = ("rms", "en-us+m7", "it", "de+f3")
ESPEAK_LANGUAGES = ("en-us", "en", "cmn-latn-pinyin", "de", "fr", "es")
ESPEAK_VARIANTS = ("", "+m1", "+m2", "+m3", "+m5", "+f2", "+f4", "+f5")
PAD_SECONDS = 0.4
"""Silence around each utterance."""


@dataclass(frozen=True)
class Utterance:
    """What was said, as power and truth at 25 Hz."""

    power: Array
    """f32 [4 T, bands]."""
    curves: Array
    """f32 [T, C]."""


def spoken(voice: str, rng: np.random.Generator) -> Speech:
    """A random sentence of that voice, at a random speed and pitch where the voice has them."""
    text = sentence(voice if voice not in FLITE_VOICES else "en", rng, int(rng.integers(4, 11)))
    if voice in FLITE_VOICES:
        return speak_with_flite(text, voice)
    speed, pitch, lively = rng.integers(120, 215), rng.integers(15, 85), rng.integers(20, 80)
    return speak_with_espeak(text, voice, int(speed), int(pitch), int(lively))


def utterance(speech: Speech, rng: np.random.Generator, num_bands: int) -> Utterance:
    """Power and curves, with silence around it and the frame grid at a random phase."""
    samples = resample_poly(speech.samples.astype(np.float32) / 32768, SAMPLE_RATE_HZ, speech.sample_rate)
    lead = int(SAMPLE_RATE_HZ * PAD_SECONDS) + int(rng.integers(BLOCK))
    num_frames = (lead + len(samples) + int(SAMPLE_RATE_HZ * PAD_SECONDS)) // BLOCK
    whole = np.zeros(TAIL + num_frames * BLOCK, np.float32)
    part = samples[: len(whole) - TAIL - lead]
    whole[TAIL + lead : TAIL + lead + len(part)] = part
    shift = lead / SAMPLE_RATE_HZ
    spans = [VisemeSpan(s.start + shift, s.end + shift, s.viseme) for s in speech.visemes]
    seconds = (num_frames + 0.5) / FRAME_RATE_HZ
    curves = speech_curves(spans, seconds, CONTROLS, FRAME_RATE_HZ)[:num_frames]
    return Utterance(mel_power(torch.from_numpy(whole), num_bands).numpy(), curves)


def training_voice(index: int, rng: np.random.Generator) -> str:
    """Every second utterance by flite's recorded voices, the rest by espeak-ng's languages and variants."""
    if index % 2:
        own = [voice for voice in FLITE_VOICES if voice not in HELD_OUT_VOICES]
        return own[int(rng.integers(len(own)))]
    language = ESPEAK_LANGUAGES[index // 2 % len(ESPEAK_LANGUAGES)]
    return language + ESPEAK_VARIANTS[int(rng.integers(len(ESPEAK_VARIANTS)))]


def corpus(num_utterances: int, num_bands: int, seed: int) -> list[Utterance]:
    """Training speech; the same for the same seed."""
    made = []
    for index in range(num_utterances):
        rng = np.random.default_rng([seed, index, 31])
        made.append(utterance(spoken(training_voice(index, rng), rng), rng, num_bands))
    return made


def disturbed(power: Array, rng: np.random.Generator) -> Array:
    """Power [N, bands] as another throat, room, microphone and level would give it."""
    count, bands = power.shape
    place = np.arange(bands)
    stretch = np.clip(place * rng.uniform(0.85, 1.18) + rng.normal() * 1.0, 0, bands - 1.001)
    low = stretch.astype(int)
    power = power[:, low] * (1 - (stretch - low)) + power[:, low + 1] * (stretch - low)
    if rng.uniform() < 0.4:
        decay = np.exp(-0.01 * 13.8 / rng.uniform(0.15, 0.6))
        tail = lfilter([0, 1 - decay], [1, -decay], power, axis=0)
        power = power + rng.uniform(0.05, 0.5) * tail
    knots = rng.normal(size=7) * rng.uniform(0.3, 1.6)
    power = power * np.exp(np.interp(place, np.linspace(0, bands - 1, 7), knots))
    loud = np.quantile(power.mean(1), 0.9) + 1e-12
    power = power * (10 ** rng.uniform(-4.0, -1.2) / loud)
    floor = np.exp(np.interp(place, np.linspace(0, bands - 1, 5), rng.normal(size=5)))
    level = 10 ** (rng.uniform(-6.5, -4.0) if rng.uniform() < 0.6 else rng.uniform(-9, -7))
    level = min(level, power.mean(1).max() * 0.05)
    noise = rng.exponential(size=(count, bands)) * floor * level
    return np.asarray(power + noise, np.float32)


class SpokenSequences(Dataset[dict[str, Tensor]]):
    """Item k: a batch of `mel` (B, 4 (T + lookahead), bands) and `truth` (B, T, C), a function of (seed, rank, k)."""

    def __init__(
        self, spoken: Sequence[Utterance], config: VoiceConfig, train: TrainConfig, rank: int
    ) -> None:
        self.spoken, self.config, self.train, self.rank = spoken, config, train, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.train.seed, self.rank, index])
        frames = int(self.train.extra["num_frames"])
        whole = frames + self.config.lookahead_frames
        mels, truths = [], []
        for _ in range(self.train.batch_size):
            power, curves = self._sequence(whole, rng)
            mels.append(log_mel(torch.from_numpy(disturbed(power, rng))))
            truths.append(torch.from_numpy(curves[:frames]))
        return {"mel": torch.stack(mels), "truth": torch.stack(truths)}

    def _sequence(self, frames: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Utterances one after another, from a random place on; each at its own level."""
        powers, curves, length = [], [], 0
        skip = int(rng.integers(0, 40))
        while length < frames + skip:
            one = self.spoken[int(rng.integers(len(self.spoken)))]
            powers.append(one.power * np.float32(10 ** rng.uniform(-0.3, 0.3)))
            curves.append(one.curves)
            length += len(one.curves)
        power = np.concatenate(powers)[COLUMNS * skip : COLUMNS * (skip + frames)]
        return power, np.concatenate(curves)[skip : skip + frames]


class VoiceStage:
    """Regression of the controls, with a history that is partly true, partly its own, partly missing."""

    def __init__(self, network: VoiceNetwork, spoken: Sequence[Utterance]) -> None:
        self.network: nn.Module = network
        self.spoken = spoken

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        return SpokenSequences(self.spoken, self._voice.config, config, rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Errors of controls, of the lip and jaw points that they move, and of the points' speed."""
        mel, truth = batch["mel"], batch["truth"]
        before = torch.cat([torch.zeros_like(truth[:, :1]), truth[:, :-1]], 1)
        noisy = (before + 0.15 * torch.randn_like(before)).clamp(0, 1)
        kind = torch.rand(len(truth), 1, 1, device=truth.device)
        with torch.no_grad():
            own = (
                self.network(mel, torch.where(kind < 0.7, noisy, torch.zeros_like(noisy))).float().clamp(0, 1)
            )
        own = torch.cat([torch.zeros_like(own[:, :1]), own[:, :-1]], 1)
        history = torch.where(kind < 0.2, noisy, torch.where(kind < 0.85, own, torch.zeros_like(own)))
        got = self.network(mel, history).float()
        move = self._voice.basis[: truth.shape[-1]].flatten(1)
        error = (got - truth) @ move
        return {
            "controls": 2 * (got - truth).abs().mean(),
            "points": 40 * error.abs().mean(),
            "speed": 40 * error.diff(dim=1).abs().mean(),
        }

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "liveportrait-voice", self._voice.config, network, torch.float16)

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()

    @property
    def _voice(self) -> VoiceNetwork:
        assert isinstance(self.network, VoiceNetwork)
        return self.network


def set_face(network: VoiceNetwork, model: FaceModel) -> None:
    """Write what each control moves, on the mean face, into the network's buffers."""
    names, still = model.expression_names, np.zeros(2, np.float32)
    shape = model.shape(np.zeros(len(model.identity_modes), np.float32))
    centres = model.eye_centres_of(np.zeros(len(model.identity_modes), np.float32))

    def points(weights: dict[str, float]) -> Array:
        expression = np.zeros(len(names), np.float32)
        for name, weight in weights.items():
            expression[columns_of(name, names)] = weight
        posed = model.posed(shape, expression, still, centres)[model.keypoints]
        # The studio looks y up and z to the camera, the engine y down and z inward.
        return np.asarray(posed / UNIT_CM * [1, -1, -1], np.float32)

    rest = points({})
    rows = [points({name: 1.0}) - rest for name in CONTROLS]
    rows += [points({"eyeBlink": 1.0}) - rest, points({"browInnerUp": 1.0, "browOuterUp": 0.7}) - rest]
    network.rest.copy_(torch.from_numpy(rest))
    network.basis.copy_(torch.from_numpy(np.stack(rows)))


@dataclass(frozen=True)
class VoiceRecipe:
    """A TrainConfig, the sizes, and how much is spoken."""

    train: TrainConfig
    config: VoiceConfig
    num_utterances: int

    def build(self, init: Path | None = None) -> VoiceStage:
        """The stage. Raises InputError where espeak-ng or flite or the face model is missing."""
        network = VoiceNetwork(self.config)
        if init is None:
            set_face(network, load_face_model())
        else:
            loaded = checkpoint.load_same(init, self.config, VoiceNetwork, self.train.name)
            network.load_state_dict(loaded.state_dict())
        return VoiceStage(network, corpus(self.num_utterances, self.config.num_bands, self.train.seed))


def voice() -> VoiceRecipe:
    """liveportrait-voice-mini: minutes on one CPU core."""
    config = VoiceConfig(
        num_bands=80,
        controls=CONTROLS,
        lookahead_frames=4,
        encoder_channels=96,
        hidden=160,
        num_layers=4,
        num_heads=4,
        window_frames=32,
    )
    train = TrainConfig(
        name="voice",
        num_images=3_200,
        batch_size=8,
        groups=(ParameterGroup(modules=("",), learning_rate=1.5e-3),),
        warmup_images=240,
        ema_decay=0.98,
        num_workers=0,
        precision="fp32",
        log_steps=10,
        extra={"num_frames": 125},
    )
    return VoiceRecipe(train, config, 220)


def debug_voice() -> VoiceRecipe:
    """Seconds on a CPU; the loss goes down. For tests."""
    base = voice()
    config = replace(base.config, num_bands=20, encoder_channels=8, hidden=16, num_layers=2, window_frames=8)
    train = replace(base.train, name="debug_voice", num_images=240, batch_size=4, warmup_images=20, log_steps=5,
                    extra={"num_frames": 50})  # fmt: skip
    return VoiceRecipe(train, config, 6)
