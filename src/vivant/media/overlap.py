"""Decode, compute and encode at the same time: a thread before the loop and a thread after it.

    for frame in prefetch(reader):          decode thread  --[4]-->  the caller's loop
        writer.write(animate(frame))        the caller's loop  --[4]-->  encode thread

Both queues are bounded, so memory stays flat whichever side is slow. Both threads end with their block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

T = TypeVar("T")
Taken = TypeVar("Taken", contravariant=True)


def prefetch(iterable: Iterable[T], capacity: int = 4) -> Iterator[T]:
    """The same items, produced ahead of time by a thread that is at most `capacity` items in front.

    An exception of the producer is raised here, with its traceback, after the items before it. When the
    consumer stops early (break, exception, `close()` of this generator) the thread finishes the item it is
    at and ends; a generator given as `iterable` is closed in that thread.
    """
    channel: _Channel[T] = _Channel(capacity)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="vivant-prefetch") as executor:
        try:
            producer = executor.submit(_fill, channel, iterable)
            yield from channel
            producer.result()
        finally:
            channel.abandon()


class Sink(Protocol[Taken]):
    """What takes items, one after another: a FrameWriter, say, takes pictures."""

    def write(self, item: Taken, /) -> None:
        """Take the next one."""

    def close(self) -> None:
        """Finish."""

    def abort(self) -> None:
        """Throw the unfinished away."""


class BackgroundWriter(Generic[T]):
    """A sink whose work is done by a thread that is at most `capacity` items behind.

    Pictures are not copied: do not change one after handing it over. An error of the wrapped writer is
    raised by the next `write` or by `close`, and the wrapped writer is then aborted.
    """

    def __init__(self, writer: Sink[T], capacity: int = 4) -> None:
        self._writer = writer
        self._channel: _Channel[T] = _Channel(capacity)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vivant-writer")
        # Started by the first picture: an interrupt between making this and entering its context must not leave
        # a thread behind that nobody tells to end.
        self._worker: Future[None] | None = None

    def write(self, item: T) -> None:
        """Hand over one picture (or what the sink takes); waits while the queue is full."""
        if not self._channel.put(item):
            if self._worker is not None:
                self._worker.result()
            raise ValueError("write after close")
        if self._worker is None:
            self._worker = self._executor.submit(_drain, self._channel, self._writer)

    def close(self) -> None:
        """Wait until everything is written, then close the wrapped writer."""
        self._channel.finish()
        worker = self._worker
        if worker is not None:
            try:
                worker.result()
            finally:
                failed = not worker.done() or worker.exception() is not None
                self._stop()
                if failed:
                    self._writer.abort()
        self._writer.close()

    def abort(self) -> None:
        """Drop what is queued and abort the wrapped writer."""
        self._stop()
        self._writer.abort()

    def _stop(self) -> None:
        self._channel.abandon()
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _fill(channel: _Channel[T], iterable: Iterable[T]) -> None:
    iterator = iter(iterable)
    try:
        for item in iterator:
            if not channel.put(item):
                break
    finally:
        channel.finish()
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _drain(channel: _Channel[T], writer: Sink[T]) -> None:
    try:
        for item in channel:
            writer.write(item)
    finally:
        channel.abandon()


class _Channel(Generic[T]):
    """A bounded queue that either side can end: the producer by `finish`, the consumer by `abandon`."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._finished = False
        self._abandoned = False

    def put(self, item: T) -> bool:
        """Append, waiting for room. False when nobody will take it any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._capacity or self._abandoned)
            if self._abandoned or self._finished:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished or self._abandoned)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
