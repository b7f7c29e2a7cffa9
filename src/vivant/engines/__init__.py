"""The families, by name. Strings, so that no family is imported before it is asked for.

Adding a family adds one line here and one preset; no other file outside its folder changes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from vivant.errors import InputError

if TYPE_CHECKING:
    from vivant.engine import Engine

ENGINES: dict[str, str] = {
    "flashportrait": "vivant.engines.flashportrait.engine:FlashPortrait",
    "liveportrait": "vivant.engines.liveportrait.engine:LivePortrait",
    "personalive": "vivant.engines.personalive.engine:PersonaLive",
    "refvae": "vivant.engines.refvae.engine:RefVae",
}

VOICES: dict[str, str] = {
    "liveportrait": "vivant.engines.liveportrait.voice:Voice",
}
"""What turns speech into motion, for families that video drives."""

REHEARSALS: dict[str, str] = {
    "flashportrait": "vivant.engines.flashportrait.rehearsal",
    "personalive": "vivant.engines.personalive.rehearsal",
}
"""What a family does from reference to picture, for counting memory: families larger than some GPUs."""


def engine_class(family: str) -> type[Engine]:
    """Import the Engine class of a family. Raises InputError for a name that is not in ENGINES."""
    if family not in ENGINES:
        raise InputError(f"there is no family {family!r}; there are {', '.join(sorted(ENGINES))}")
    module, _, name = ENGINES[family].partition(":")
    return cast("type[Engine]", getattr(import_module(module), name))


def voice_class(family: str) -> Any:
    """Import the Voice class of a family. Raises InputError where the family has none."""
    if family not in VOICES:
        raise InputError(f"the family {family} cannot be driven by sound alone; give a video.")
    module, _, name = VOICES[family].partition(":")
    return getattr(import_module(module), name)


def rehearsal(family: str) -> Any:
    """The function `rehearse` of a family. Raises InputError where the family has none."""
    if family not in REHEARSALS:
        raise InputError(
            f"the memory of {family} is not counted, only measured; leave --count-memory out (it fits any GPU)."
        )
    return import_module(REHEARSALS[family]).rehearse
