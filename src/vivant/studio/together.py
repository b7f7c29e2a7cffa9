"""Work on many people, in processes beside each other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed


def each(
    work: Callable[[int], object],
    identities: Sequence[int],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Do the work for each person; progress is called with (finished, all).

    What it raises ends all, and so does Ctrl-C: what a process has in hand is finished, nothing else is begun.
    """
    if workers <= 1:
        for count, identity in enumerate(identities, 1):
            work(identity)
            if progress:
                progress(count, len(identities))
        return
    # Forking a process that runs threads (torch, OpenCV) can hang; a fresh one cannot.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            for count, done in enumerate(as_completed([pool.submit(work, one) for one in identities]), 1):
                done.result()
                if progress:
                    progress(count, len(identities))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
