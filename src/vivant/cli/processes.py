"""Programs that torchrun started several times: one goes on, the others work for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def leading(load: Callable[[str], Any], device: str) -> Iterator[Callable[[], Any] | None]:
    """What loads the engine on its device in the process that goes on; None in the others, once there is no more to do.

    Without torchrun there is one process, and torch is not imported here: bad input is refused sooner.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield lambda: load(device)
        return
    from vivant.runtime import parallel

    with parallel.leading(lambda: load(parallel.own_device(device))) as loaded:
        yield loaded
