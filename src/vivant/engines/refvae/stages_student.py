"""A student that draws a block in four steps without guidance, taught on windows that it drew itself.

The teacher is the generator with its twelve steps and its guidance. For every block of a window that the student drew
from its own past (as in Self-Forcing, Huang et al., arXiv 2506.08009), the teacher walks from noise to picture, and the
student learns to cover three of its steps in one, guidance included (guided distillation, Meng et al., arXiv
2210.03142; progressive distillation, Salimans and Ho, arXiv 2202.00512). The paper has no student; this is ours.
Legend: B clips, L latents in time, M references, Z latent channels, h w cells, A audio channels.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step, shifted_times
from vivant.engines.refvae.drawing import Guidance
from vivant.engines.refvae.forcing import TeacherForcing
from vivant.engines.refvae.generator import Generator, Segment
from vivant.engines.refvae.losses import flow_matching
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.places import places_of, reference_places
from vivant.engines.refvae.stages import GeneratorStage, TrainedNetworks


@dataclass(frozen=True, kw_only=True)
class Window:
    """What a window of a talking person is drawn from."""

    references: Tensor
    """(B, M, Z, h, w)."""
    features: Tensor
    """What each video frame hears, (B, F, audio features)."""
    starts: bool
    """Whether it begins its stream."""


@torch.no_grad()
def rolled_out(network: Generator, window: Window, noise: Tensor, times: Tensor) -> Tensor:
    """Blocks drawn from noise (B, L, Z, h, w), each after those before it, without guidance -> the same shape.

    times: (steps + 1,) from 1 to 0.
    """
    batch, num_latents, _, height, width = noise.shape
    starts, size, device = window.starts, network.config.block_latents, noise.device
    sounds = network.embed_audio(window.features, starts=starts)
    clean = noise.new_zeros(batch)
    places = reference_places(window.references.shape[1], height, width, device)
    past = network.run([Segment(network.embed(window.references), places, clean)])[2]
    blocks = []
    for first in range(0, num_latents, size):
        stop, begins = first + size, starts and first == 0
        places = places_of(range(first, stop), height, width, device)
        x = noise[:, first:stop]
        for time, next_time in pairwise(times.tolist()):
            tokens = network.embed_noisy(x, sounds[:, first:stop], window.references, starts=begins)
            drawn, at, _ = network.run([Segment(tokens, places, torch.full_like(clean, time))], past)
            x = euler_step(x, network.velocity(drawn, at, height, width), time, next_time)
        made = network.run([Segment(network.embed(x, starts=begins), places, clean)], past)[2]
        past = [
            (torch.cat([key, new_key], 2), torch.cat([value, new_value], 2))
            for (key, value), (new_key, new_value) in zip(past, made, strict=True)
        ]
        blocks.append(x)
    return torch.cat(blocks, 1)


@torch.no_grad()
def guided_path(
    network: Generator,
    window: Window,
    context: Tensor,
    noise: Tensor,
    guidance: Guidance,
    times: Tensor,
) -> list[Tensor]:
    """Points at `times` of the guided way from noise (B, L, Z, h, w), of all blocks at once, each after `context`.

    context: a window of latents (B, L, Z, h, w), of which a block sees what is before it.
    """
    sounds = network.embed_audio(window.features, starts=window.starts)
    null = network.null_reference.view(-1, 1, 1).expand_as(window.references)
    rows, weights = guidance.rows, guidance.weights
    references = torch.cat([window.references, window.references, null][rows])
    sounds = torch.cat([sounds, network.null_audio.expand_as(sounds), sounds][rows])
    branches, count, path = len(weights), len(noise), [noise]
    _, num_latents, _, height, width = noise.shape
    cells, places = height * width, places_of(range(num_latents), height, width, noise.device)
    forcing = TeacherForcing(references.shape[1] * cells, network.config.block_latents * cells)
    clean = noise.new_zeros(branches * count)
    # References and context do not see what is drawn, so what is remembered of them serves all times.
    at = reference_places(references.shape[1], height, width, noise.device)
    before = network.embed(context.repeat(branches, 1, 1, 1, 1), starts=window.starts)
    known = [Segment(network.embed(references), at, clean), Segment(before, places, clean)]
    past = network.run(known, attend=forcing.known)[2]
    for time, next_time in pairwise(times.tolist()):
        x = path[-1]
        tokens = network.embed_noisy(x.repeat(branches, 1, 1, 1, 1), sounds, references, starts=window.starts)
        drawn, when, _ = network.run(
            [Segment(tokens, places, torch.full_like(clean, time))], past, forcing.noisy
        )
        velocities = network.velocity(drawn, when, height, width)
        parts = zip(weights, velocities.to(noise.dtype).split(count), strict=True)
        velocity = torch.stack([weight * part for weight, part in parts]).sum(0)
        path.append(euler_step(x, velocity, time, next_time))
    return path


class StudentStage(GeneratorStage):
    """See the head of this file. Begins from the export of a generator, which is also its teacher.

    extra: `teacher_steps`, `student_steps` (which divides them), `step_shift`, `guidance` of sound and references.
    """

    def _trained(self, networks: Networks) -> TrainedNetworks:
        # Among what is saved, so that a run that goes on has the teacher that it began with.
        return TrainedNetworks(networks, teacher=deepcopy(networks.generator))

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        extra, student = self.settings.extra, self.networks.generator
        teacher = cast("Generator", cast("TrainedNetworks", self.network).teacher)
        latents, references, features, mouths = self.encoded.batch(self.networks, batch)
        window = Window(references=references, features=features, starts=not bool(batch["first"].any()))
        times = shifted_times(int(extra["teacher_steps"]), float(extra["step_shift"]))
        stride = int(extra["teacher_steps"]) // int(extra["student_steps"])
        own = rolled_out(student, window, torch.randn_like(latents), times[::stride])
        audio_scale, reference_scale = extra["guidance"]
        guidance = Guidance(audio=audio_scale, references=reference_scale)
        path = guided_path(teacher, window, own, torch.randn_like(latents), guidance, times)[::stride]
        spans = list(pairwise(times[::stride].tolist()))
        targets = [
            (b - a) / (after - before) for (a, b), (before, after) in zip(pairwise(path), spans, strict=True)
        ]
        count, clips = len(spans), len(latents)
        at = torch.tensor([before for before, _ in spans], device=latents.device).repeat_interleave(clips)
        predicted = student(
            references.repeat(count, 1, 1, 1, 1),
            own.repeat(count, 1, 1, 1, 1),
            torch.cat(path[:-1]),
            student.embed_audio(features, starts=window.starts).repeat(count, 1, 1),
            torch.zeros_like(at, dtype=latents.dtype),
            at.to(latents.dtype),
            starts=window.starts,
        )
        return {"student": flow_matching(predicted, torch.cat(targets), mouths.repeat(count, 1, 1, 1, 1))}
