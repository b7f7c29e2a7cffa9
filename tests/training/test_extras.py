"""Training where packages that a family needs are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .synthetic import write_sessions

WITHOUT_THEM = """
import sys
sys.modules |= {"diffusers": None, "transformers": None}
from vivant.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("recipe", ["flashportrait/debug", "personalive/debug_stage1"])
def test_training_without_the_extra_diffusion_names_it(recipe: str, tmp_path: Path) -> None:
    """In a process of its own: modules that were imported before would be there."""
    data = write_sessions(tmp_path / "data", range(12, 14))
    line = ["train", recipe, "--data", data, "-o", tmp_path / "run", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THEM, *map(str, line)], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert f"{recipe.split('/')[0]} needs " in done.stderr
    assert "run `python -m pip install 'vivant[diffusion]'`" in done.stderr
    assert "Traceback" not in done.stderr
