"""Where files are: those that come with the package, and those kept for the user outside the project.

Set VIVANT_HOME to move the user's folder. Nothing is made there until something is stored.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def store_folder() -> Path:
    """VIVANT_HOME, or `vivant` in the user's cache folder."""
    if home := os.environ.get("VIVANT_HOME"):
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    if not cache and sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA")
    return (Path(cache) if cache else Path.home() / ".cache") / "vivant"


def embedded_weights(name: str) -> Path:
    """The folder of weights that come with the package; whether it exists is the caller's question.

    A wheel carries them inside the package; a checkout keeps them in its top-level `weights/`.
    """
    checkout = PACKAGE.parents[1] / "weights" / name
    return checkout if checkout.is_dir() else PACKAGE / "weights" / name
