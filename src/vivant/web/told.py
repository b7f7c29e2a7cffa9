"""What a viewer is told of an error: names, and no path of this machine. Its log has the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vivant.errors import InputError, VivantError

if TYPE_CHECKING:
    from vivant.web.offers import Offer

log = logging.getLogger(__name__)


@contextmanager
def for_viewers(offer: Offer, picture: Path | None = None) -> Iterator[None]:
    """Errors of a preset, and of a picture that it animates, become InputErrors for a stranger to read."""
    try:
        yield
    except InputError as error:
        message = renamed(str(error), offer.given, offer.name)
        if picture is not None:
            message = message.replace(str(picture), "the picture")
        raise InputError(message) from error
    except VivantError as error:  # weights, packages: nothing that a viewer could mend
        raise InputError(unmendable(error, offer.name)) from error


def renamed(message: str, preset: str, name: str) -> str:
    """The message with `name` for a preset that is a folder of this machine."""
    return message.replace(preset, name) if len(Path(preset).parts) > 1 else message


def unmendable(error: VivantError, what: str = "something that is needed") -> str:
    """A sentence without the reason, which goes into the log."""
    log.error("something cannot be used", extra={"what": what, "reason": str(error)})
    return f"{what} cannot be used on this server at present; its log says why"
