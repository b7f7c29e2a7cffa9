"""Who may come in: the token, the page's own origin, the pace of one address, and the headers of every answer.

Plain ASGI, before any routing. A server without a token answers only requests that name this machine, so that no
web page elsewhere can reach it through the user's browser (cross-site requests, DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivant.web.settings import Serving, is_loopback

OPEN_PATHS = frozenset({"/", "/healthz"})
"""Without a token: the page itself, its files under /static/, and whether the server lives."""
FILE_PATHS = frozenset({"/v1/portraits", "/v1/clips"})
"""Whose bodies are files, which `uploads` counts."""
MAX_ORDER_BYTES = 65_536
"""Of any other body: it is held in memory."""
MAX_ADDRESSES = 4096
LOCAL_OWNER = "local"

_CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
    "cache-control": "no-store",
}


def owner_of(token: str | None) -> str:
    """A name for whoever holds the token, that does not tell the token."""
    return LOCAL_OWNER if token is None else hashlib.sha256(token.encode()).hexdigest()[:16]


class Pace:
    """How often each address comes: a bucket per address that refills evenly; the oldest addresses are forgotten."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_second, self._size, self._clock = per_minute / 60, float(per_minute), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        now = self._clock()
        level, since = self._buckets.pop(address, (self._size, now))
        level = min(self._size, level + (now - since) * self._per_second)
        allowed = level >= 1
        self._buckets[address] = (level - 1 if allowed else level, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed


class Gate:
    """ASGI middleware; `scope["state"]["owner"]` is who came in (None: no token yet, for a WebSocket's hello)."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self.app, self.serving = app, serving
        self.pace = Pace(serving.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        token = bearer(headers)
        scope.setdefault("state", {})["owner"] = self.owner(token)
        if scope["type"] == "http" and scope["path"] not in FILE_PATHS:
            receive = _at_most(receive, MAX_ORDER_BYTES)
        await self.app(scope, receive, _with_headers(send))

    def owner(self, token: str | None) -> str | None:
        """Who holds this token; None where it is not the server's."""
        wanted = self.serving.token
        if wanted is None:
            return LOCAL_OWNER
        is_right = token is not None and hmac.compare_digest(token.encode(), wanted.encode())
        return owner_of(wanted) if is_right else None

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        client = scope.get("client")
        if not self.pace.allows(client[0] if client else ""):
            return 429, "too many requests; come back in a minute"
        host = headers.get("host", "")
        if self.serving.token is None and not is_loopback(_host_name(host)):
            return 421, "this server answers to 127.0.0.1 and localhost only"
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, host):
            return 403, "requests of other pages are refused"
        path = scope["path"]
        is_open = path in OPEN_PATHS or path.startswith("/static/")
        # A browser cannot send a token with a WebSocket; there the first message carries it.
        if scope["type"] == "websocket" or is_open or self.owner(bearer(headers)) is not None:
            return None
        return 401, "a token is needed; send it as Authorization: Bearer TOKEN"

    def _is_own(self, origin: str, host: str) -> bool:
        if self.serving.origin is not None:
            return origin == self.serving.origin.rstrip("/")
        return origin in (f"http://{host}", f"https://{host}")


def bearer(headers: Mapping[str, str]) -> str | None:
    """The token of a request's headers."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _at_most(receive: Receive, num_bytes: int) -> Receive:
    """A body of no more than that; reading more raises HTTPException, which FastAPI answers with."""
    count = 0

    async def receiving() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > num_bytes:
            raise HTTPException(413, f"the request is larger than {num_bytes // 1024} KiB; only files may be")
        return message

    return receiving


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            message["headers"] = [*message.get("headers", ()), *_encoded(HEADERS)]
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4000 + status, "reason": detail})
        return
    body = json.dumps({"detail": detail}).encode()
    extra = {"content-type": "application/json", "content-length": str(len(body))}
    if status == 401:
        extra["www-authenticate"] = "Bearer"
    if status == 429:
        extra["retry-after"] = "60"
    headers = _encoded({**HEADERS, **extra})
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
