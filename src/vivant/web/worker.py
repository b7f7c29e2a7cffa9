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

from vivant.errors import InputError, VivantError
from vivant.web.decode import restrict
from vivant.web.told import renamed

TELL_SECONDS = 0.25
RESULT, COMPARISON = "result.mp4", "result--compare.mp4"


def main(folder: Path) -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # live sessions first
    order = json.loads((folder / "order.json").read_text("utf-8"))
    # DATA and not AS: libraries of GPUs reserve far more addresses than they use.
    restrict({"DATA": order["memory_bytes"], "CORE": 0})
    try:
        manifest = _render(order, folder)
    except MemoryError:
        _tell(
            {
                "error": "the job needs more memory than this server gives to one; use a smaller picture or clip"
            }
        )
        return 2
    except InputError as error:
        message = (
            str(error).replace(f"{folder}{os.sep}", "").replace(order["recording"]["driving"], "the clip")
        )
        message = renamed(message, order["recording"]["preset"], "the preset")
        _tell({"error": message.replace(order["recording"]["source"], "the picture")})
        return 2
    except VivantError as error:
        # Weights, packages: nothing that a user could mend, and full of the server's folders.
        told = "the preset cannot be used on this server at present; its log says why"
        _tell({"error": told, "reason": str(error)})
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
        if done > order["max_frames"]:
            raise InputError(f"the clip has more than {order['max_frames']} frames, which this server takes")
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
    while os.read(0, 4096):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
