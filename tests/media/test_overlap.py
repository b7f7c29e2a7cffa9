"""Threads do the waiting, pass errors on, and end when their block ends."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Iterator

import numpy as np
import pytest

from vivant.media.overlap import BackgroundWriter, prefetch

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Sink:
    """A writer that remembers what happened to it."""

    def __init__(self, fail_at: int | None = None, fail_on_close: bool = False) -> None:
        self.written: list[int] = []
        self.state = "open"
        self._fail_at = fail_at
        self._fail_on_close = fail_on_close

    def write(self, image: np.ndarray) -> None:
        if len(self.written) == self._fail_at:
            raise OSError("disk on fire")
        self.written.append(int(image[0, 0, 0]))

    def close(self) -> None:
        if self._fail_on_close:
            raise OSError("no room for the end")
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *details: object) -> None:
        raise AssertionError("the background writer calls close or abort")


def test_prefetch_keeps_order() -> None:
    assert list(prefetch(range(1000), capacity=3)) == list(range(1000))
    assert list(prefetch([])) == []


def test_prefetch_is_bounded() -> None:
    made = 0

    def numbers() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    items = prefetch(numbers(), capacity=4)
    assert next(items) == 1
    time.sleep(0.05)  # a chance to run too far ahead
    assert made <= 1 + 4 + 1
    items.close()


def test_prefetch_passes_errors_on_with_their_traceback() -> None:
    def breaks_here() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("lost")

    seen: list[int] = []
    with pytest.raises(KeyError, match="lost") as raised:
        seen.extend(prefetch(breaks_here()))
    assert seen == [1, 2]
    assert "breaks_here" in "".join(traceback.format_exception(raised.value))


def test_prefetch_early_stop_closes_the_producer() -> None:
    closed = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    for _ in prefetch(endless()):
        break
    assert len(closed) == 1
    assert closed[0].startswith("vivant-prefetch")


def test_prefetch_consumer_error_ends_the_thread() -> None:
    def consume() -> None:
        for _ in prefetch(iter(int, 1)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()


def test_stages_overlap() -> None:
    """Decoding picture 2, working on picture 1 and encoding picture 0 happen at once: each waits for the others."""
    together = threading.Barrier(3, timeout=60)

    def decode() -> Iterator[np.ndarray]:
        for index in range(4):
            if index == 2:
                together.wait()
            yield IMAGE

    class Encoder(Sink):
        def write(self, image: np.ndarray) -> None:
            if not self.written:
                together.wait()
            super().write(image)

    encoder = Encoder()
    with BackgroundWriter(encoder) as writer:
        for index, image in enumerate(prefetch(decode())):
            if index == 1:
                together.wait()
            writer.write(image)
    assert len(encoder.written) == 4


def test_background_writer_writes_all_in_order() -> None:
    sink = Sink()
    with BackgroundWriter(sink, capacity=2) as writer:
        for value in range(50):
            writer.write(np.full((2, 2, 3), value, np.uint8))
    assert sink.written == list(range(50))
    assert sink.state == "closed"


def write_many(sink: Sink, count: int) -> None:
    with BackgroundWriter(sink) as writer:
        for _ in range(count):
            writer.write(IMAGE)


@pytest.mark.parametrize("count", [4, 5, 200])
def test_background_writer_error_surfaces(count: int) -> None:
    sink = Sink(fail_at=3)
    with pytest.raises(OSError, match="disk on fire"):
        write_many(sink, count)
    assert sink.written == [0, 0, 0]
    assert sink.state == "aborted"


def test_background_writer_error_on_close() -> None:
    with pytest.raises(OSError, match="no room for the end"):
        write_many(Sink(fail_on_close=True), 3)


def test_background_writer_aborts_on_exception() -> None:
    sink = Sink()

    def interrupted() -> None:
        with BackgroundWriter(sink) as writer:
            writer.write(IMAGE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sink.state == "aborted"


def test_background_writer_refuses_after_close() -> None:
    writer = BackgroundWriter(Sink())
    writer.close()
    with pytest.raises(ValueError, match="after close"):
        writer.write(IMAGE)


def test_capacity_is_checked() -> None:
    with pytest.raises(ValueError, match="capacity"):
        list(prefetch([1], capacity=0))
