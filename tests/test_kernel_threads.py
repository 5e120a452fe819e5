"""The compiled kernels on several threads: whoever calls them, and however many at once."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import groupmap as gm
from tests.backends import with_kernels_and_without

pytest.importorskip("numba")

from groupmap.backends.kernels import rank, threads
from groupmap.backends.kernels.memory import BYTES_KEPT, lent


@pytest.mark.parametrize("n", [900, 9000])
@pytest.mark.parametrize("missing", [False, True])
def test_threads_change_no_bit_of_a_mean(rng, monkeypatch, n, missing):
    x = rng.normal(size=(n, 387_000 // n))
    if missing:
        x[::7, 5::9] = np.nan
    results = []
    for n_threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
        results.append(gm.normalize_quantiles(x, axis=0).tobytes())
    assert len(set(results)) == 1


def test_threads_that_round_differently_share_a_row(rng):
    """To flush subnormal numbers to zero is a property of a thread, which helpers need not have."""
    torch = pytest.importorskip("torch")
    n = 2**18
    powers = 10.0 ** rng.uniform(-45, -36, n // 2)
    x = np.concatenate([rng.normal(size=n // 2), rng.normal(size=n // 2) * powers])
    x = rng.permutation(x)[None]
    table = np.arange(2 * n - 1, dtype=np.float64)
    expected, _ = rank.rank_and_gather(x, table, None, with_order=False, threads=2)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        found, _ = rank.rank_and_gather(x, table, None, with_order=False, threads=2)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(found, expected)


def test_tensors_have_as_many_threads_as_torch(rng, monkeypatch):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.normal(size=(2**16, 8)))
    with_holes, w = torch.where(x > 2.0, torch.nan, x), x**2
    fitted = gm.GroupMapTransformer().fit(x)
    everything = {
        "map": lambda: gm.quantile_map(x, axis=0),
        "map with holes": lambda: gm.quantile_map(with_holes, axis=0),
        "match": lambda: gm.match_quantiles(x, x + 1.0, axis=0),
        "normalize": lambda: gm.normalize_quantiles(x, axis=0),
        "fit": lambda: gm.EmpiricalCDF.fit(x, axis=0),
        "fit with weights": lambda: gm.EmpiricalCDF.fit(x, axis=0, n_quantiles=9, sample_weight=w),
        "transform": lambda: fitted.transform(x),
    }  # fmt: skip
    asked = []
    submit = threads._shared.submit
    monkeypatch.setattr(threads._shared, "submit", lambda work: asked.append(work) or submit(work))
    before = torch.get_num_threads()
    try:
        for name, function in everything.items():
            torch.set_num_threads(2)
            function()
            assert asked, name
            torch.set_num_threads(1)
            asked.clear()
            function()
            assert not asked, name
    finally:
        torch.set_num_threads(before)


WRITTEN_MEANWHILE = """
import threading, time
import numpy as np, groupmap as gm
rng = np.random.default_rng(0)
kinds = [(2, 100_000, 1, 0), (4, 5000, 1, 0), (40, 20_000, 1, 0), (1, 300_000, 1, 0),
         (2, 9000, 0, 0), (40, 20_000, 1, 0.5), (1, 300_000, 1, 0.5)]
for rows, n, noise, zeros in kinds:
    levels = rng.integers(0, 9, size=(rows, n)) + noise * rng.normal(size=(rows, n))
    levels[rng.random(size=(rows, n)) < zeros] = 0
    other = np.exp(40 * rng.normal(size=(rows, n)))
    x, done = levels.copy(), threading.Event()
    def write():
        while not done.is_set():
            x[...] = other
            x[...] = levels
    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        gm.quantile_map(x)
        gm.normalize_quantiles(x, axis=1)  # which uses the order
    done.set()
    writer.join()
for rows, n in [(40, 100), (40, 2000), (40, 20_000), (3, 2000)]:
    levels = np.round(rng.normal(size=(rows, n))).astype(np.float16)
    other = (30 * rng.normal(size=(rows, n))).astype(np.float16)
    weight = np.ones(n, dtype=np.float16)
    x, done = levels.copy(), threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        gm.quantile_map(x, axis=1)
        gm.layer_map(x, n, weight)
    done.set()
    writer.join()
"""


def test_what_is_written_to_in_the_meantime_is_ranked_somehow():
    """Nobody can say how; but nothing else may come to harm."""
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    code = [sys.executable, "-c", WRITTEN_MEANWHILE]
    subprocess.run(code, check=True, timeout=120, env=environment)


def test_a_long_row_on_all_threads(rng):
    n = 2**18 + 5
    image = rng.normal(size=(n, 3)).astype(np.float32)  # whose channels lie far apart in memory
    image[:, 1] = np.maximum(image[:, 1], 0)  # and half of one of which is equal
    found, expected = with_kernels_and_without(lambda: gm.quantile_map(image, axis=0))
    np.testing.assert_array_equal(found, expected)
    image[7, 2] = np.nan
    found, expected = with_kernels_and_without(lambda: gm.quantile_map(image, axis=0))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("n_rows", "n", "is_shared"),
    [(1, 2**18, True), (1, 2**18 - 1, False), (2, 2**20, False), (3, 2**18, False),
     (3, 2**19, True), (4, 2**20, False), (5, 2**20, False)],
)  # fmt: skip
def test_long_rows_are_shared_where_threads_would_wait(monkeypatch, n_rows, n, is_shared):
    shared = []
    monkeypatch.setattr(rank, "_rank_shared_rows", lambda task, threads: shared.append(threads))
    monkeypatch.setattr(rank, "_rank_rows", lambda task, threads: None)
    x = np.broadcast_to(np.float32(0), (n_rows, n))
    rank.rank_and_gather(x, np.zeros(1, np.float32), None, with_order=False, threads=2)
    assert shared == [2] * is_shared


def test_the_number_of_threads_changes_no_bit(rng, monkeypatch):
    x = rng.normal(size=(300, 1000)).astype(np.float32)
    results = []
    for n_threads in ("1", "2", "5", "no number"):
        monkeypatch.setenv("OMP_NUM_THREADS", n_threads)
        results.append(gm.quantile_map(x).tobytes())
    assert len(set(results)) == 1


def test_threads_follow_the_environment_and_the_machine(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert threads.default_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= threads.default_threads() <= os.cpu_count()


def test_work_is_done_once_by_as_many_as_are_asked_for():
    who, done = set(), []
    barrier = threading.Barrier(2)

    def work(_, begin, end):
        if threading.get_ident() not in who:
            who.add(threading.get_ident())
            barrier.wait(timeout=60)  # passes only where two threads are at work
        done.append((begin, end))

    threads.over_rows(work, lambda _: None, 64, 2**14, entries_per_block=2**14, threads=2)
    assert len(who) == 2
    assert sorted(i for begin, end in done for i in range(begin, end)) == list(range(64))


def test_small_inputs_wake_no_thread():
    who = set()
    threads.over_rows(
        lambda *_: who.add(threading.get_ident()), lambda _: None, 64, 8,
        entries_per_block=64, threads=8,
    )  # fmt: skip
    assert who == {threading.get_ident()}


def test_errors_reach_the_caller():
    def fail(_, begin, end):
        raise RuntimeError(f"rows {begin} to {end}")

    with pytest.raises(RuntimeError, match="rows"):
        threads.over_rows(fail, lambda _: None, 64, 2**14, entries_per_block=2**14, threads=2)


def test_a_failure_waits_for_those_who_are_at_work():
    both_are_here, done = threading.Barrier(2), []

    def work(_, begin, end):
        del end
        both_are_here.wait(timeout=60)
        if begin == 0:
            raise RuntimeError("the first block")
        time.sleep(0.2)
        done.append(begin)

    with pytest.raises(RuntimeError, match="the first block"):
        threads.over_rows(work, lambda _: None, 2, 2**17, entries_per_block=2**17, threads=2)
    assert done == [1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_an_interrupt_waits_for_those_who_are_at_work():
    """They use memory that is lent again thereafter."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread")
    both_are_here, done = threading.Barrier(2), []

    def work(_, begin, end):
        del end
        both_are_here.wait(timeout=60)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.5)
            done.append(begin)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            threads.over_rows(work, lambda _: None, 2, 2**17, entries_per_block=2**17, threads=2)
        assert len(done) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_failure_leaves_nothing_behind():
    """Without the collector of cycles: what the work held is let go with the exception."""

    class Memory:
        pass

    def failing(held):
        def fail(_, begin, end):
            raise RuntimeError(f"{held} from {begin} to {end}")

        return fail

    held = Memory()
    is_held = weakref.ref(held)
    gc.disable()
    try:
        with contextlib.suppress(RuntimeError):
            threads.over_rows(
                failing(held), lambda _: None, 8, 2**17, entries_per_block=2**17, threads=2
            )
        del held
        deadline = time.monotonic() + 60
        while is_held() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # a thread lets go of its work a moment after it has said the result
        assert is_held() is None
    finally:
        gc.enable()


def test_no_rows_are_no_work():
    threads.over_rows(pytest.fail, lambda _: None, 0, 5, entries_per_block=1, threads=2)


def test_eight_callers_at_once(rng):
    x = rng.normal(size=(64, 4000)).astype(np.float32)
    expected = gm.quantile_map(x)
    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(gm.quantile_map, [x] * 32):
            np.testing.assert_array_equal(y, expected)


FORK = """
import os, sys
import array_api_compat.numpy
import numpy as np
import groupmap as gm
x = np.random.default_rng(0).normal(size=(64, 4000))
expected = gm.quantile_map(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(gm.quantile_map(x), expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_makes_its_own_threads():
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120, env=environment)


DATA_LOADER = """
import torch, groupmap as gm
x = torch.randn(8, 20_000, generator=torch.Generator().manual_seed(0))
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, i):
        return gm.quantile_map(x[i])
expected = gm.quantile_map(x)  # so that the workers are forked from a process with threads
loaded = torch.utils.data.DataLoader(Rows(), batch_size=4, num_workers=2)
assert torch.equal(torch.cat(list(loaded)), expected)
"""


def test_workers_of_a_data_loader():
    pytest.importorskip("torch")
    environment = dict(os.environ, OMP_NUM_THREADS="2")
    subprocess.run([sys.executable, "-c", DATA_LOADER], check=True, timeout=120, env=environment)


def test_inside_of_dask_workers(rng):
    da = pytest.importorskip("dask.array")
    x = rng.normal(size=(64, 4000)).astype(np.float32)
    lazy = gm.quantile_map(da.from_array(x, chunks=(4, 4000)))
    computed = lazy.compute(scheduler="threads", num_workers=8)
    np.testing.assert_array_equal(computed, gm.quantile_map(x))


def test_memory_is_laid_out_and_kept():
    with lent() as lend:
        first = lend()
        arrays = [first.empty((3, 5), np.float32), first.empty(7, "u8"), first.empty((), np.uint16)]
        for k, array in enumerate(arrays):
            array.fill(k)
        assert all(np.all(array == k) for k, array in enumerate(arrays))  # none lies in another
        other = lend().empty(7, np.uint8)  # a second one for the same thread
        assert not any(np.shares_memory(other, array) for array in arrays)
        assert first.empty(BYTES_KEPT, np.uint8).base is None  # too long to be kept
    with lent() as lend:
        again = lend().empty(3, np.float32)
        assert np.shares_memory(again, other) or np.shares_memory(again, arrays[0])


def test_memory_belongs_to_the_thread_that_asks():
    with lent() as lend, ThreadPoolExecutor(1) as pool:
        own, others = lend().empty(5, np.uint8), pool.submit(lambda: lend().empty(5, np.uint8))
        assert not np.shares_memory(own, others.result())
