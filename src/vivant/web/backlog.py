"""What a viewer of mode file has sent ahead of what was looked at, in order.

Whoever puts never waits: words that let pictures go on, such as `viewed`, come on the same line behind the frames, so
that a server which stopped reading could wait for ever. What it may hold is bounded all the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeAlias

from vivant.errors import InputError
from vivant.web import protocol

MAX_AHEAD = 256
"""Frames and words."""
MAX_AHEAD_BYTES = 32_000_000

Ordered: TypeAlias = protocol.Binary | protocol.ChangeOptions | protocol.Restart | protocol.End
"""What is done in the order in which it came."""


class Backlog:
    """For one task that puts and one that takes."""

    def __init__(self) -> None:
        self._items: deque[Ordered] = deque()
        self._num_bytes = 0
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Ordered) -> None:
        """Raises InputError where that is more than one may be ahead."""
        self._items.append(item)
        self._num_bytes += _size(item)
        if len(self._items) > MAX_AHEAD or self._num_bytes > MAX_AHEAD_BYTES:
            raise InputError(
                f"more than {MAX_AHEAD} frames or {MAX_AHEAD_BYTES // 1_000_000} MB were sent ahead of what was "
                "looked at; wait for pictures before sending more"
            )
        self._wake.set()

    async def take(self) -> Ordered:
        """The oldest; waits for it."""
        while not self._items:
            self._wake.clear()
            await self._wake.wait()
        item = self._items.popleft()
        self._num_bytes -= _size(item)
        return item


def _size(item: Ordered) -> int:
    return len(item.payload) if isinstance(item, protocol.Binary) else 0
