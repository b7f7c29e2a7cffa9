"""Run the server until it is told to stop; then finish what is at work, tell viewers, and delete uploads."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from vivant.errors import InputError
from vivant.media.parts import locked
from vivant.media.staging import output_errors
from vivant.web.app import build, state_folder
from vivant.web.house import House, halve_threads
from vivant.web.protocol import MAX_PACKET_BYTES
from vivant.web.settings import Serving

SHUTDOWN_SECONDS = 10
LAST_WORD_SECONDS = 0.1
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and what was given as `extra`. No addresses, names or tokens."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        told |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def serve(serving: Serving, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the page's address. Raises InputError, or CheckpointError
    where the default preset cannot be loaded.

    Where port is 0, a free one is chosen.
    """
    halve_threads()
    with _alone(serving), _listening(serving) as listener:
        app, house = build(serving)
        # Here rather than when the application starts: weights that are damaged are said in a sentence.
        asyncio.run(house.workshop.engine(house.workshop.offers.default))
        _run(app, house, listener, ready)


def _run(app: ASGIApp, house: House, listener: socket.socket, ready: Callable[[str], None]) -> None:
    host, port = listener.getsockname()[:2]
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # tells addresses at lower levels
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=MAX_PACKET_BYTES,
        ws_max_queue=4,  # what waits there would be lag
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=32_768,
    )
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{port}/")
    _Server(config, house).run(sockets=[listener])


@contextmanager
def _alone(serving: Serving) -> Iterator[None]:
    """Hold the folder of uploads and jobs while the block runs. Raises InputError where another server holds it.

    Two would take each other's jobs and delete each other's uploads.
    """
    folder = state_folder(serving)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / "lock").open("ab")
    with file:
        if not locked(file):
            raise InputError(f"another server uses the folder {folder}; end it, or choose another --state.")
        yield


class _Server(uvicorn.Server):
    """Tells viewers that it ends before it closes their sockets."""

    def __init__(self, config: uvicorn.Config, house: House) -> None:
        super().__init__(config)
        self._house = house

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not in the handler of the signal, from where no waiting task is woken."""
        self._house.closing.set()
        ends = time.monotonic() + SHUTDOWN_SECONDS
        while self._house.metrics.sessions and time.monotonic() < ends:
            await asyncio.sleep(LAST_WORD_SECONDS)
        await asyncio.sleep(LAST_WORD_SECONDS)  # a session that has ended still says why
        await super().shutdown(sockets)


def _listening(serving: Serving) -> socket.socket:
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((serving.host.strip("[]"), serving.port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {serving.port} of {serving.host} cannot be opened ({error.strerror}); choose another --port."
        ) from error
    listener.listen()  # whoever comes while the engine is being loaded waits, and is not refused
    return listener
