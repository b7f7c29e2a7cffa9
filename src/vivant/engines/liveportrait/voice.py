"""Speech in, Motion out: the voice network as a stream, with nods and idle movement of head, lids and brows.

    samples --mel--> VoiceNetwork.step --> mouth controls --basis--> expression --+--> Motion, 25 per second
       +--loudness against what is usual--> nods ---------------------------------+
                             seeded idle movement --> rotation, blinks, brows ----+

What comes out does not depend on how the samples were cut into pieces: work is done per block of 640 samples. Memory
does not grow. Frame t needs the sound up to `delay_frames` frames after its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from vivant import checkpoint
from vivant.engine import StreamSpec
from vivant.engines.liveportrait.config_compact import NUM_POINTS
from vivant.engines.liveportrait.motion import Motion
from vivant.engines.liveportrait.voice_networks import (
    BLOCK,
    COLUMNS,
    FRAME_RATE_HZ,
    SAMPLE_RATE_HZ,
    TAIL,
    VoiceConfig,
    VoiceMemory,
    VoiceNetwork,
    log_mel,
    mel_power,
)
from vivant.errors import InputError
from vivant.ops.rotation import rotation_from_degrees

FAMILY = "liveportrait-voice"
IDLE_DEGREES = (1.6, 2.4, 1.2)
"""Spread of pitch, yaw and roll."""
IDLE_BROWS = 0.12
IDLE_SECONDS = 0.8
BLINK_HALF_SECONDS = 0.11
BLINK_GAP_SECONDS = (2.0, 6.0)
NOD_DEGREES = 1.5
"""How far the head goes down where speech is louder than usual; by default."""
MOST_NOD_DEGREES = 6.0
NOD_SECONDS = 0.08
"""Of each of two low-passes. Together they are as late as the network's look-ahead is early."""
USUAL_SECONDS = 1.5
"""Loudness is compared with its mean over about so long."""
QUIET = -1.2
"""`log_mel` of the mean power: less loud than this nobody speaks."""
ONSET_FRAMES = 2
"""Frame 0 is the rest that relative motion is relative to; the mouth is free from this frame on."""


@dataclass(kw_only=True)
class VoiceState:
    """One stream of speech."""

    memory: VoiceMemory
    samples: Tensor
    """(n,): samples that do not fill a block yet, after the TAIL before them."""
    wander: Tensor
    """(2, 4): twice low-passed noise for pitch, yaw, roll and brows."""
    usual_loudness: float
    stress: tuple[float, float]
    """How much louder it is than usual, low-passed once and twice; -1 to 1."""
    blink_frame: int
    """Frames since the last blink began."""
    blink_gap: int
    """Frames until the next one."""
    num_blocks_due: int
    """Blocks pushed by the user, the padding of `flush` not counted."""
    num_frames: int
    """Frames given."""
    generator: torch.Generator


class Voice:
    """A voice network ready to drive portraits of compact networks; holds no state."""

    def __init__(self, network: VoiceNetwork, nod_degrees: float | None = None) -> None:
        """nod_degrees: how far the head nods with the stress of speech; None: NOD_DEGREES. Raises InputError."""
        self.nod_degrees = NOD_DEGREES if nod_degrees is None else nod_degrees
        if not 0 <= self.nod_degrees <= MOST_NOD_DEGREES:
            raise InputError(f"--nod-degrees is 0 to {MOST_NOD_DEGREES:g}, got {nod_degrees}.")
        self.network = network.eval().requires_grad_(False)
        self.stream = StreamSpec(
            driving="audio",
            chunk_frames=1,
            delay_frames=network.config.lookahead_frames,
            frame_rate_hz=FRAME_RATE_HZ,
            sample_rate_hz=SAMPLE_RATE_HZ,
        )

    @classmethod
    def load(cls, folder: Path, nod_degrees: float | None = None) -> Voice:
        """From a checkpoint folder. Raises CheckpointError where there is none, or it is something else."""
        _, network = checkpoint.load(folder, VoiceConfig, VoiceNetwork)
        return cls(cast("VoiceNetwork", network), nod_degrees)

    def start(self, seed: int = 0) -> VoiceState:
        """A fresh stream; the seed decides the idle movement."""
        return VoiceState(
            memory=self.network.begin(),
            samples=torch.zeros(TAIL),
            wander=torch.zeros(2, 4),
            usual_loudness=QUIET,
            stress=(0.0, 0.0),
            blink_frame=1000,
            blink_gap=round(BLINK_GAP_SECONDS[0] * FRAME_RATE_HZ / 2),
            num_blocks_due=0,
            num_frames=0,
            generator=torch.Generator().manual_seed(seed),
        )

    def push(self, state: VoiceState, samples: Tensor) -> list[Motion]:
        """Mono samples (S,) in [-1, 1] at 16 kHz -> the motions (one frame each) that are due."""
        if samples.dim() != 1 or not samples.is_floating_point():
            raise InputError(f"speech is float mono samples (S,), got {samples.dtype} {tuple(samples.shape)}")
        waiting = torch.cat([state.samples, samples.float().cpu()])
        motions: list[Motion] = []
        start = 0
        while len(waiting) - start >= TAIL + BLOCK:
            state.num_blocks_due += 1
            motions += self._step(state, waiting[start : start + TAIL + BLOCK])
            start += BLOCK
        state.samples = waiting[start:].clone()
        return motions

    def flush(self, state: VoiceState) -> list[Motion]:
        """What the look-ahead still owes, and the rest of the sound made whole with silence."""
        rest = (len(state.samples) - TAIL) % BLOCK
        motions = self.push(state, torch.zeros(BLOCK - rest)) if rest else []
        due = state.num_blocks_due
        while state.num_frames < due:
            motions += self.push(state, torch.zeros(BLOCK))
        return motions

    def motions(self, samples: Tensor, seed: int = 0) -> Motion:
        """The motion of a whole recording (S,), one frame per 40 ms begun. Raises InputError for no sound."""
        state = self.start(seed)
        found = [*self.push(state, samples), *self.flush(state)]
        if not found:
            raise InputError("There is no sound to speak; give at least one sample.")
        return Motion.cat(found)

    def _step(self, state: VoiceState, samples: Tensor) -> Iterator[Motion] | list[Motion]:
        bands = self.network.config.num_bands
        power = mel_power(samples, bands)
        mel = log_mel(power)
        assert len(mel) == COLUMNS
        _listen(state, float(log_mel(power.mean())))
        controls = self.network.step(state.memory, mel)
        return [] if controls is None else [self._motion(state, controls)]

    def _motion(self, state: VoiceState, controls: Tensor) -> Motion:
        awake = min(1.0, state.num_frames / FRAME_RATE_HZ)
        angles, brows, lids = self._idle(state)
        mouth = controls * min(1.0, state.num_frames / ONSET_FRAMES)
        weights = torch.cat([mouth, torch.tensor([lids, brows * awake])])
        state.num_frames += 1
        nod = self.nod_degrees * state.stress[1]
        pitch, yaw, roll = (angles + torch.tensor([nod, 0.0, 0.0])) * awake
        return Motion(
            rotation=rotation_from_degrees(pitch, yaw, roll)[None],
            expression=(weights @ self.network.basis.flatten(1)).view(1, NUM_POINTS, 3),
            scale=torch.ones(1, 1),
            translation=torch.zeros(1, 3),
            canonical=self.network.rest[None],
        )

    def _idle(self, state: VoiceState) -> tuple[Tensor, float, float]:
        """Head angles (3,) in degrees, brow weight and lid weight. Draws the same number of times every frame."""
        noise = torch.randn(4, generator=state.generator)
        chance = float(torch.rand((), generator=state.generator))
        share = 1 / (IDLE_SECONDS * FRAME_RATE_HZ)
        first = state.wander[0] + share * (noise - state.wander[0])
        second = state.wander[1] + share * (first - state.wander[1])
        state.wander = torch.stack([first, second])
        # Two low-passes of share a leave a/4 of the variance.
        steady = second * (2 / share**0.5)
        state.blink_frame += 1
        state.blink_gap -= 1
        if state.blink_gap <= 0:
            low, high = BLINK_GAP_SECONDS
            state.blink_frame, state.blink_gap = 0, round((low + chance * (high - low)) * FRAME_RATE_HZ)
        away = abs(state.blink_frame / FRAME_RATE_HZ - BLINK_HALF_SECONDS) / BLINK_HALF_SECONDS
        lids = min(1.0, max(0.0, 1.15 - away))
        return steady[:3] * torch.tensor(IDLE_DEGREES), IDLE_BROWS * max(0.0, float(steady[3])), lids


def _listen(state: VoiceState, loudness: float) -> None:
    """Follow the stress of speech: how much louder than usual it is. Phrases begin loud and end less so."""
    louder = loudness - state.usual_loudness if loudness > QUIET else 0.0
    state.usual_loudness += (loudness - state.usual_loudness) / (USUAL_SECONDS * FRAME_RATE_HZ)
    share = 1 / (NOD_SECONDS * FRAME_RATE_HZ)
    once = state.stress[0] + share * (min(1.0, max(-1.0, louder)) - state.stress[0])
    state.stress = once, state.stress[1] + share * (once - state.stress[1])
