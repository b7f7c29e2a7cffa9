"""The one folder outside the project where vivant keeps files for the user: converted weights, face models.

Set VIVANT_HOME to move it. Nothing is made here until something is stored.
"""

from __future__ import annotations

import os
from pathlib import Path


def store_folder() -> Path:
    """VIVANT_HOME, or `vivant` in the user's cache folder."""
    if home := os.environ.get("VIVANT_HOME"):
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vivant"
