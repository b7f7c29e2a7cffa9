"""Child processes of the server: their surroundings, their time, and what they say."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from vivant.errors import InputError
from vivant.web.decode import Limits

DECODE_SECONDS = 40.0
"""Wall time of one decoding; on a busy machine more than the process's own limit."""
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "VIVANT_HOME", "XDG_CACHE_HOME", "SYSTEMROOT", "HF_HUB_OFFLINE")


def surroundings() -> dict[str, str]:
    """Environment for a child: no secrets of the server, the same modules."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = os.pathsep.join(path for path in sys.path if path)
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


async def decoded(kind: str, source: Path, target: Path, limits: Limits) -> dict[str, Any]:
    """What `vivant.web.decode` finds. Raises InputError for everything that is wrong with the file."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vivant.web.decode",
        kind,
        str(source),
        str(target),
        limits.to_json(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=surroundings(),
    )
    try:
        out, _ = await asyncio.wait_for(child.communicate(), DECODE_SECONDS)
    except TimeoutError:
        raise InputError("the file takes too long to decode; save or export it again") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    lines = out.decode(errors="replace").splitlines()
    if not lines:
        raise InputError("the file cannot be decoded within this server's limits; save or export it again")
    found: dict[str, Any] = json.loads(lines[-1])
    if "error" in found:
        raise InputError(found["error"])
    return found
