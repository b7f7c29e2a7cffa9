"""Which presets a server offers, by the names that its users see. Checked when it starts; weights are loaded later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vivant.checkpoint import read_config
from vivant.engines import engine_class
from vivant.errors import InputError
from vivant.presets import PRESETS, find_checkpoint


class UnknownPresetError(InputError):
    """The server does not offer that preset."""


@dataclass(frozen=True)
class Offer:
    """One preset."""

    name: str
    """What users call it: the preset's name, or that of the checkpoint's folder; never a path of this machine."""
    given: str
    """What `vivant.load` takes."""
    licence: str | None
    """None: that of weights of one's own."""
    hears: bool
    """Whether sound can drive it: by a voice, or because the family is driven by sound."""
    sees: bool
    """Whether pictures can."""
    options: Any
    """The family's Options with their defaults."""


class Offers:
    """All of them; the first is the default. Raises CheckpointError or InputError where one cannot be offered."""

    def __init__(self, presets: Sequence[str]) -> None:
        self._offers: dict[str, Offer] = {}
        for given in presets:
            offer = _offer(given)
            if offer.name in self._offers:
                raise InputError(f"--preset {given}: two presets are called {offer.name}; rename a folder.")
            self._offers[offer.name] = offer

    def __iter__(self) -> Iterator[Offer]:
        return iter(self._offers.values())

    @property
    def default(self) -> Offer:
        return next(iter(self._offers.values()))

    def named(self, name: str | None) -> Offer:
        """None: the default. Raises UnknownPresetError."""
        if name is None:
            return self.default
        if name not in self._offers:
            raise UnknownPresetError(f"this server offers {', '.join(self._offers)}, not {name}")
        return self._offers[name]


def _offer(given: str) -> Offer:
    folder, preset = find_checkpoint(given), PRESETS.get(given)
    family = engine_class(preset.family if preset is not None else read_config(folder)["family"])
    return Offer(
        name=given if preset is not None else folder.resolve().name,
        given=given,
        licence=preset.licence if preset is not None else None,
        hears=family.hears or (preset is not None and preset.voice is not None),
        sees=not family.hears,
        options=family.options_type(),
    )
