"""What the server is told at its start: where to listen, whom to let in, and how much anyone may take."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from vivant.errors import InputError
from vivant.presets import DEFAULT_PRESET

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A server."""

    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs a token."""
    port: int = 8710
    """Port to listen on."""
    token: str | None = None
    """Secret that every request must carry. [default: $VIVANT_TOKEN]"""
    origin: str | None = None
    """Address of the page where a proxy stands before the server, such as https://faces.example.org."""
    preset: tuple[str, ...] = (DEFAULT_PRESET,)
    """Preset that users may choose: name (see `vivant presets`) or checkpoint folder; repeat it for more, the first is
    the default."""
    state: Path | None = None
    """Folder for uploads, jobs and results. [default: serve, in the cache of vivant]"""
    max_latency_ms: float = 300.0
    """Promise of live sessions: rate, then size, is given up for it."""
    max_sessions: int = 4
    """Live sessions at once, of all users."""
    max_user_sessions: int = 2
    """Live sessions at once, of one user."""
    max_user_jobs: int = 4
    """Unfinished render jobs of one user."""
    max_upload_mb: int = 200
    """Largest upload, in MB; pictures: a quarter of it."""
    max_megapixels: int = 24
    """Largest picture or video frame."""
    max_clip_seconds: float = 600.0
    """Longest driving clip of a job."""
    max_job_hours: float = 12.0
    """Longest render job; the others wait for it."""
    max_job_memory_gb: float = 8.0
    """Most memory of a render job, in GB of the processor's; more for presets that are larger."""
    max_session_minutes: float = 60.0
    """Longest live session."""
    requests_per_minute: int = 600
    """Of one address."""
    watermark: bool = True
    """Mark the pixels of live pictures, invisibly, as made with vivant, with the session's number."""
    webrtc: bool = False
    """Offer WebRTC too (extra webrtc); it opens UDP ports on all addresses of this machine, whatever --host says."""
    stun: str | None = None
    """STUN server for WebRTC, such as stun:stun.example.org:3478. [default: none]"""
    turn: str | None = None
    """TURN server for WebRTC, such as turn:turn.example.org:3478?transport=udp. [default: none]"""
    turn_user: str | None = None
    """Name at the TURN server."""
    turn_password: str | None = None
    """Its password; viewers with a token learn it. [default: $VIVANT_TURN_PASSWORD]"""
    keep_minutes: float = 60.0
    """Uploads and results are deleted this long after they were last used."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port is 0 to 65535, got {self.port}.")
        limits = {
            "max_latency_ms": self.max_latency_ms,
            "max_sessions": self.max_sessions,
            "max_user_sessions": self.max_user_sessions,
            "max_user_jobs": self.max_user_jobs,
            "max_upload_mb": self.max_upload_mb,
            "max_megapixels": self.max_megapixels,
            "max_clip_seconds": self.max_clip_seconds,
            "max_job_hours": self.max_job_hours,
            "max_job_memory_gb": self.max_job_memory_gb,
            "max_session_minutes": self.max_session_minutes,
            "requests_per_minute": self.requests_per_minute,
            "keep_minutes": self.keep_minutes,
        }
        for name, value in limits.items():
            if not value > 0:
                raise InputError(f"--{name.replace('_', '-')} is more than 0, got {value}.")
        if self.token is not None and len(self.token) < MIN_TOKEN_LENGTH:
            raise InputError(
                f"a token has at least {MIN_TOKEN_LENGTH} characters; make one with `openssl rand -hex 16`."
            )
        for name, address, scheme in (("stun", self.stun, "stun:"), ("turn", self.turn, ("turn:", "turns:"))):
            if address is not None and not address.startswith(scheme):
                raise InputError(f"--{name} {address} is not such a server; write {name}:HOST:3478.")
        if (self.stun or self.turn) and not self.webrtc:
            raise InputError("--stun and --turn are for WebRTC; add --webrtc.")
        if not is_loopback(self.host) and self.token is None:
            raise InputError(
                f"--host {self.host} can be reached by others; set VIVANT_TOKEN (openssl rand -hex 16), or "
                "listen on 127.0.0.1."
            )
        if self.origin is not None and not self.origin.startswith(("http://", "https://")):
            raise InputError(f"--origin {self.origin} is not an address; write https://faces.example.org.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address; names other than localhost are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
