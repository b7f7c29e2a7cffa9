"""`vivant train --init` with a checkpoint that the recipe cannot start from: one line, and nothing is begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vivant import checkpoint
from vivant.cli import main
from vivant.engines.liveportrait.config import (
    Config,
    takes_weights,
    tiny,
    tiny_animals,
    tiny_published,
    tiny_whole,
    with_retargeting,
)
from vivant.engines.liveportrait.config_compact import mini_retargeting
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.recipes import RECIPES
from vivant.engines.liveportrait.recipes_stage2 import RetargetingRecipe
from vivant.engines.liveportrait.voice_networks import VoiceNetwork
from vivant.engines.liveportrait.voice_training import voice
from vivant.errors import CheckpointError

from .synthetic import make_session, write_sessions
from .test_training import backgrounds

CHAIN = "start from a checkpoint of the same recipe chain"


def wider() -> Config:
    """Published networks of other sizes."""
    config = tiny_published()
    assert config.published is not None
    return replace(config, published=replace(config.published, volume_channels=3))


def other_stage2() -> Config:
    return with_retargeting(tiny(), mini_retargeting())


KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any], nn.Module]]] = {
    "compact": (tiny, CompactNetworks),
    "other stage II": (other_stage2, CompactNetworks),
    "published": (tiny_published, PublishedNetworks),
    "wider": (wider, PublishedNetworks),
    "voice": (lambda: voice().config, VoiceNetwork),
}


def write(kind: str, folder: Path) -> Path:
    make, build = KINDS[kind]
    family = "liveportrait-voice" if kind == "voice" else "liveportrait"
    checkpoint.save(folder, family, make(), build(make()))
    return folder


@pytest.mark.parametrize(
    ("recipe", "kind", "remedy"),
    [
        (
            "liveportrait/debug_published_stage1",
            "compact",
            CHAIN,
        ),
        ("liveportrait/debug_published_stage1", "wider", CHAIN),
        ("liveportrait/debug_generator", "published", CHAIN),
        ("liveportrait/debug_stage2", "published", CHAIN),
        ("liveportrait/debug_stage2", "other stage II", CHAIN),
        ("liveportrait/debug_voice", "voice", CHAIN),
        ("liveportrait/debug_voice", "compact", "config.json: VoiceConfig"),
        ("face/identity", "compact", "leave out --init"),
    ],
)
def test_the_wrong_kind_is_refused_in_one_line(
    recipe: str, kind: str, remedy: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    init, out = write(kind, tmp_path / "init"), tmp_path / "run"
    data = write_sessions(tmp_path / "data", range(12, 14))
    line = ["train", recipe, "--data", data, "-o", out, "--init", init, "--device", "cpu"]
    assert main([str(word) for word in line]) == 2
    said = capfd.readouterr().err
    assert str(init) in said
    assert remedy in said
    assert len(said.splitlines()) == 1
    assert not out.exists()


def test_published_stage2_takes_published_networks_of_its_sizes_only(tmp_path: Path) -> None:
    recipe = RetargetingRecipe(RECIPES["published_stage2"]().train, tiny_published())
    for kind in ("compact", "wider"):
        with pytest.raises(
            CheckpointError, match="init has another architecture than the recipe published_stage2"
        ):
            recipe.build([], backgrounds(64), write(kind, tmp_path / "init"))


def test_what_fits_is_taken(tmp_path: Path) -> None:
    """Stage II from a checkpoint with its networks, and from one without; pictures may have another size."""
    recipe = RECIPES["debug_stage2"]()
    assert isinstance(recipe, RetargetingRecipe)
    for config in (tiny(), tiny_whole()):
        networks = CompactNetworks(config)
        checkpoint.save(tmp_path / "init", "liveportrait", config, networks)
        own = recipe.build([make_session(0)], backgrounds(64), tmp_path / "init").networks.state_dict()
        assert all(torch.equal(own[name], value) for name, value in networks.state_dict().items())
    large = replace(tiny_published(), image_size=256, output_size=512)
    assert takes_weights(tiny_published(), large)
    assert takes_weights(tiny_animals(), tiny_published())
    assert not takes_weights(tiny_published(), tiny_animals()), "stage II has networks that are not there"
