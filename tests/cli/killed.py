"""Run in a process of its own by test_resume.py: `vivant ARGUMENTS`, killed without warning at a chosen point.

python killed.py POINT COUNT ARGUMENTS    kills itself when POINT is reached for the COUNT-th time
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from vivant.cli import main
from vivant.media import image, parts, segments, soundtrack
from vivant.media.h264 import PictureEncoder

POINTS: dict[str, tuple[Any, str]] = {
    "frame": (PictureEncoder, "write"),
    "picture": (image, "save_image"),
    "mark": (parts.Parts, "put_mark"),
    "join": (soundtrack._CopiedSound, "write_until"),
    "move": (parts, "_replace_file"),
}


def kill_at(point: str, count: int) -> None:
    owner, name = POINTS[point]
    original = getattr(owner, name)
    calls = 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, deadly)
    if point == "picture":
        segments.save_image = deadly  # type: ignore[assignment]


if __name__ == "__main__":
    kill_at(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
