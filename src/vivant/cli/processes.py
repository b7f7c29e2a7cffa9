"""Programs that torchrun started several times: one goes on, the others work for it; most are refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vivant.errors import InputError

SHARING = ("animate", "train")
"""Commands whose work processes can share. `live`, `serve` and `batch` load, watch and end by rules of their own."""


@contextmanager
def leading(load: Callable[[str], Any], device: str) -> Iterator[Callable[[], Any] | None]:
    """What loads the engine on its device in the process that goes on; None in the others, once there is no more to do.

    Without torchrun there is one process, and torch is not imported here: bad input is refused sooner.
    """
    if _number() == "1":
        yield lambda: load(device)
        return
    from vivant.runtime import parallel

    with parallel.leading(lambda: load(parallel.own_device(device))) as loaded:
        yield loaded


def check_number(command: str | None) -> None:
    """Raise InputError where several processes would all do the same work, and write the same files."""
    if _number() != "1" and command is not None and command not in SHARING:
        raise InputError(
            f"vivant {command} runs in one process, and WORLD_SIZE says {_number()}: start it without torchrun (only "
            f"{' and '.join(SHARING)} share work), or unset WORLD_SIZE where something else has set it."
        )


def _number() -> str:
    return os.environ.get("WORLD_SIZE", "1")
