"""Blocks of rows handed out to threads.

The threads are made once, with the first large input, and serve all callers. Every block of rows
is computed as it would be alone, so the number of threads changes no bit of a result. (Numba's own
parallel layers are of no use here: the default one aborts the process when two threads call it.)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import pairwise
from threading import Lock
from typing import TypeVar

Scratch = TypeVar("Scratch")

LEAST_ENTRIES_PER_THREAD = 2**16  # what takes less gains nothing where other threads spin
LEAST_ENTRIES_PER_BLOCK = 2**13  # likewise for a call
AHEAD = 2**14  # entries that a caller has done when another thread has woken up


class _Shared:
    """The one pool of this process."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[], None]) -> Future[None] | None:
        """The work under way; None if the interpreter is on its way out and takes none."""
        with self.lock:
            if self.pool is None:
                workers = max(1, (os.cpu_count() or 1) - 1)
                self.pool = ThreadPoolExecutor(workers, thread_name_prefix="groupmap")
            try:
                return self.pool.submit(work)
            except RuntimeError:
                return None


_shared = _Shared()
if hasattr(os, "register_at_fork"):
    # A forked child has the pool's memory and none of its threads.
    os.register_at_fork(after_in_child=_shared.__init__)  # type: ignore[misc]


_wanted: ContextVar[int | None] = ContextVar("wanted", default=None)


@contextmanager
def default_set_to(threads: int) -> Iterator[None]:
    """So many threads are the default meanwhile, for this caller."""
    before = _wanted.set(threads)
    try:
        yield
    finally:
        _wanted.reset(before)


def default_threads() -> int:
    """What the caller has set; else ``OMP_NUM_THREADS``, as other numerical libraries read it; else
    the cores we may use."""
    set_by_caller = _wanted.get()
    if set_by_caller is not None:
        return set_by_caller
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_rows(
    work: Callable[[Scratch, int, int], None],
    scratch: Callable[[int], Scratch],
    n_rows: int,
    n: int,
    *,
    entries_per_block: int,
    threads: int,
) -> None:
    """``work(scratch(rows), begin, end)`` for blocks of rows of n entries, on some threads.

    Blocks have about so many entries. Each thread makes its scratch memory once and uses it for
    all of its blocks.
    """
    if n_rows * n == 0:
        return
    threads = max(1, min(threads, n_rows * n // LEAST_ENTRIES_PER_THREAD))
    # As many for each of the threads: each call of a kernel is worth some microseconds, and where
    # several threads call, one waits for the other.
    rounds = -(-n_rows * n // (entries_per_block * threads))
    count = max(1, min(rounds * threads, n_rows // max(LEAST_ENTRIES_PER_BLOCK // n, 1)))
    # The caller has the first one. It should be the last to be done, too, since to be woken up
    # takes as long again.
    ahead = AHEAD // n if rounds == 1 and threads > 1 else 0
    first = min(-(-n_rows // count) + ahead, n_rows)
    # The others are even, so that no thread is left with a whole one more.
    others = parts(n_rows - first, max(count - 1, 1))
    of_others = ((first + begin, first + end) for begin, end in others if begin < end)
    blocks = deque([(0, first), *of_others])
    longest = max(end - begin for begin, end in blocks)
    failures: list[BaseException] = []

    def drain() -> None:
        try:
            own: Scratch | None = None
            while True:
                try:
                    begin, end = blocks.popleft()
                except IndexError:
                    return
                own = scratch(longest) if own is None else own
                work(own, begin, end)
        except BaseException as failure:  # raised below, when all are done
            blocks.clear()  # where one fails, all of the work does
            failures.append(failure)

    helpers = min(threads, len(blocks)) - 1
    under_way: list[Future[None]] = []
    try:
        for _ in range(helpers):
            # In a copy of the caller's context, which holds NumPy's error state among others.
            future = _shared.submit(partial(copy_context().run, drain))
            if future is not None:
                under_way.append(future)
        drain()
    finally:
        # Even after an interrupt, since helpers use memory that others get after us.
        _wait_for(under_way, blocks)
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # which the traceback's frames hold, and with it all of their arrays


def parts(n: int, count: int) -> list[tuple[int, int]]:
    """Where so many parts of n begin and end, as even as they can be."""
    return list(pairwise(k * n // count for k in range(count + 1)))


def _wait_for(under_way: list[Future[None]], blocks: deque[tuple[int, int]]) -> None:
    """Until none of them is at work any more, come what may."""
    interrupts: list[BaseException] = []
    for future in under_way:
        # Where the pool is busy with others, what has not begun has nothing left to do.
        while not (future.cancel() or future.done()):
            try:
                future.exception()  # which waits; what fails is noted elsewhere
            except BaseException as interrupt:
                blocks.clear()
                interrupts.append(interrupt)
    if interrupts:
        raise interrupts[0]
