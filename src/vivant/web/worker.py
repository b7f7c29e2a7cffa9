"""A process of its own that renders one job: `python -m vivant.web.worker FOLDER`, with `order.json` in it.

Tells its progress as JSON lines on standard output. It ends when its standard input ends, so that a server that dies
leaves no worker behind; the next server goes on with the job where it was.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

from vivant.errors import VivantError

TELL_SECONDS = 0.25
RESULT, COMPARISON = "result.mp4", "result--compare.mp4"


def main(folder: Path) -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # live sessions first
    order = json.loads((folder / "order.json").read_text("utf-8"))
    try:
        manifest = _render(order, folder)
    except VivantError as error:
        message = (
            str(error).replace(f"{folder}{os.sep}", "").replace(order["recording"]["driving"], "the clip")
        )
        _tell({"error": message.replace(order["recording"]["source"], "the picture")})
        return 2
    _tell({"finished": True, "frames": manifest["num_frames"]})
    return 0


def _render(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    import vivant
    from vivant.recording import record
    from vivant.settings import Recording
    from vivant.web.house import changed_options

    given = dict(order["recording"])
    given |= {name: Path(given[name]) for name in ("source", "driving")}
    recording = Recording(**given, output=str(folder / RESULT), overwrite=True, resume=True)
    last = [0.0]

    def progress(done: int, total: int | None) -> None:
        if done == total or monotonic() - last[0] >= TELL_SECONDS:
            last[0] = monotonic()
            _tell({"done": done, "total": total})

    return record(
        recording,
        lambda: vivant.load(recording.preset),
        lambda options_type: changed_options(options_type(), order["options"]),
        progress,
    )


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
