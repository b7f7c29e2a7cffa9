"""What a student learns from: its own windows, and the guided way of its teacher."""

from __future__ import annotations

import pytest
import torch

from vivant.diffusion.flow_match import shifted_times
from vivant.engines.refvae import config_generator
from vivant.engines.refvae.drawing import Guidance, draw_block, new_memory, new_walk, remember_references
from vivant.engines.refvae.generator import Generator
from vivant.engines.refvae.stages_student import Window, guided_path, rolled_out

EXACT = 1e-12
BLOCKS, SIZE = 3, 4


@pytest.fixture(scope="module")
def network() -> Generator:
    torch.manual_seed(0)
    made = Generator(config_generator.tiny()).double().eval().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


@pytest.mark.parametrize("starts", [True, False])
def test_the_students_window_is_what_a_stream_would_draw(network: Generator, starts: bool) -> None:
    torch.manual_seed(1)
    frames = 4 * BLOCKS * SIZE - (3 if starts else 0)
    window = Window(
        references=torch.randn(2, 2, 64, 2, 1).double(),
        features=torch.randn(2, frames, 512).double(),
        starts=starts,
    )
    noise = torch.randn(2, BLOCKS * SIZE, 64, 2, 1).double()
    times = shifted_times(4, 5.0)
    own = rolled_out(network, window, noise, times)
    for row in range(2):
        memory = new_memory(network, remember_references(network, window.references[row : row + 1]), 2)
        memory.num_drawn = 0 if starts else 7
        sounds = network.embed_audio(window.features[row : row + 1], starts=starts)
        plain, walk = Guidance(audio=1.0, references=1.0), new_walk(network, times.tolist(), 2, 1)
        for first in range(0, (BLOCKS - 1) * SIZE, SIZE):  # then a stream's window begins anew
            part = slice(first, first + SIZE)
            block = draw_block(walk, memory, noise[row : row + 1, part], sounds[:, part], plain)
            assert (block - own[row : row + 1, part]).abs().max() < EXACT
    # Without guidance a teacher that walks in the same steps goes the same way, from each block of that window.
    path = guided_path(network, window, own, noise, plain, times)
    assert len(path) == 5
    assert (path[-1] - own).abs().max() < EXACT
    strong = guided_path(network, window, own, noise, Guidance(audio=2.0, references=3.0), times)[-1]
    assert (strong - own).abs().max() > 1e-6
