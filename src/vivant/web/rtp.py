"""When something was captured, by RTP: what aiortc knows about it and does not tell.

Frames of aiortc count their time from the first one. Senders say in RTCP sender reports what their timestamps are on
their wall clock (RFC 3550, section 6.4.1), and viewers know what they show only by its RTP timestamp. aiortc has no
public name for either, so three of its private ones are used here and nowhere else; a test holds them to be there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from aiortc import RTCRtpReceiver, RTCRtpSender
from aiortc.rtp import RtcpSrPacket

_WRAP = 1 << 32
_NTP_TO_UNIX_SECONDS = 2_208_988_800


def last_timestamp(sender: RTCRtpSender) -> int:
    """RTP timestamp of what was sent last."""
    return int(getattr(sender, "_RTCRtpSender__rtp_timestamp"))  # noqa: B009


def timestamp_of(receiver: RTCRtpReceiver, ticks: int) -> int:
    """RTP timestamp of a received frame whose time is `ticks`."""
    origin = getattr(receiver, "_RTCRtpReceiver__timestamp_mapper")._origin  # noqa: B009
    return int(ticks + (origin or 0)) % _WRAP


@dataclass(frozen=True)
class Moment:
    """When something was captured, on clocks that sound and pictures of one sender share."""

    here_seconds: float
    """On this machine's clock, as if the frame that came fastest had taken no time."""
    wall_seconds: float | None
    """On the sender's wall clock, Unix seconds; None before its first report."""


class CaptureClock:
    """Of one received track."""

    def __init__(
        self, receiver: RTCRtpReceiver, ticks_hz: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._receiver, self._ticks_hz, self._clock = receiver, ticks_hz, clock
        self._report: tuple[float, int] | None = None
        self._earliest = float("inf")
        heard = receiver._handle_rtcp_packet

        async def listening(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                self.reported(packet.sender_info.ntp_timestamp, packet.sender_info.rtp_timestamp)
            await heard(packet)

        receiver._handle_rtcp_packet = listening  # type: ignore[method-assign]

    def reported(self, ntp: int, rtp: int) -> None:
        """A sender report: 64 bits of the sender's wall clock, and the RTP timestamp of that moment."""
        if ntp:  # 0 before anything was sent
            self._report = (ntp / _WRAP - _NTP_TO_UNIX_SECONDS, rtp)

    def arrived(self, ticks: int) -> None:
        """A frame of this time came now."""
        self._earliest = min(self._earliest, self._clock() - ticks / self._ticks_hz)

    def moment(self, ticks: int) -> Moment:
        """Of a frame whose time is `ticks`."""
        return Moment(self._earliest + ticks / self._ticks_hz, self._wall(ticks))

    def _wall(self, ticks: int) -> float | None:
        if self._report is None:
            return None
        wall, rtp = self._report
        ahead = (timestamp_of(self._receiver, ticks) - rtp) % _WRAP
        return wall + (ahead - _WRAP if ahead >= _WRAP // 2 else ahead) / self._ticks_hz
