"""vivant: a still portrait comes alive, driven by a video, a webcam, a voice or a saved motion.

    import vivant

    engine = vivant.load("liveportrait-mini")
    portrait = engine.prepare("portrait.png")
    for frame in vivant.animate(engine, portrait, "driving.mp4"):
        ...  # uint8 RGB (height, width, 3)

Everything is loaded on first use: `import vivant` alone takes milliseconds and pulls in neither torch nor
OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Animation",
    "Engine",
    "Portrait",
    "Session",
    "VivantError",
    "__version__",
    "animate",
    "load",
    "presets",
]

_HOME = {
    "Animation": "vivant.animation",
    "Engine": "vivant.engine",
    "Portrait": "vivant.engine",
    "Session": "vivant.session",
    "VivantError": "vivant.errors",
    "animate": "vivant.animation",
    "load": "vivant.presets",
}

if TYPE_CHECKING:
    from vivant import presets
    from vivant.animation import Animation, animate
    from vivant.engine import Engine, Portrait
    from vivant.errors import VivantError
    from vivant.presets import load
    from vivant.session import Session


def __getattr__(name: str) -> object:
    """Import the public names when they are first asked for."""
    if name == "presets":
        return import_module("vivant.presets")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'vivant' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
