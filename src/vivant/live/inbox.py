"""A bounded queue between whoever captures and whoever draws; it never grows, whatever comes in.

A camera cannot wait, so its newest picture replaces what nobody has taken yet. A file can, so it is told to.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Policy = Literal["newest", "wait"]
"""newest: a full queue drops its oldest item. wait: a full queue takes nothing, and says so."""


class Inbox(Generic[T]):
    """Any thread may put and take."""

    def __init__(self, capacity: int, policy: Policy) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is at least 1, got {capacity}")
        self.policy = policy
        self.capacity = capacity
        self.num_replaced = 0
        """Items dropped for newer ones."""
        self._items: deque[T] = deque()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Whether the item was taken in; always so under the policy `newest`."""
        with self._lock:
            if len(self._items) >= self.capacity:
                if self.policy == "wait":
                    return False
                self._items.popleft()
                self.num_replaced += 1
            self._items.append(item)
            return True

    def take(self) -> T | None:
        """The oldest item; None where there is none."""
        with self._lock:
            return self._items.popleft() if self._items else None

    def clear(self) -> int:
        """Forget everything; returns how many items that were."""
        with self._lock:
            count = len(self._items)
            self._items.clear()
            return count
