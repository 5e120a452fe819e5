"""The compiled kernels of rows that are dealt out to buckets, and what is done in each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from groupmap.backends._bits import code_of, keys_of
from groupmap.ranks import COUNTING_TIES
from tests.backends import with_kernels_and_without

pytest.importorskip("numba")

from groupmap.backends.kernels import (
    bins,
    bucket_words,
    buckets,
    dealing,
    digits,
    equals,
    levels,
    rank,
    runs,
    sampling,
    several_rows,
    vectors,
)
from groupmap.backends.kernels.memory import lent
from groupmap.backends.kernels.scaling import Scaling
from groupmap.backends.kernels.task import Task
from tests.kernel_calls import (
    ALL_BUCKETS,
    BUCKETS,
    all_in_buckets,
    bits_to_read,
    check_ranks_and_order,
    from_python,
    ranks_and_order,
)
from tests.rows import BITS, KINDS, counted_ranks, rows_of


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
@pytest.mark.parametrize("n", [2, 3, 100, 513, 8193, 20_000])
def test_ranks_in_buckets(rng, dtype, n):
    for kind in KINDS:
        x = rows_of(kind, dtype, (3, n), rng)
        expected = ranks_and_order(x)
        for how in ALL_BUCKETS:
            with all_in_buckets(how) as tries:
                check_ranks_and_order(x, n_threads=3, expected=expected)
            if kind == "random" and n > levels.TRIED_FIRST:  # else they may be counted
                assert tries
                assert not any(tries)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_so_many_bins_that_notes_have_no_room_for_them(rng, monkeypatch, dtype):
    """They are found again; as in rows of a million, where lines are short."""
    monkeypatch.setattr(bins, "BINS_PER_LINE", 2**11)
    for kind in KINDS:
        x = rows_of(kind, dtype, (3, 20_000), rng)
        with all_in_buckets("together"):
            check_ranks_and_order(x, n_threads=3)


@pytest.mark.parametrize("how", BUCKETS)
@given(drawn=BITS.filter(lambda drawn: np.dtype(drawn[0]).itemsize >= 4))
def test_any_bits_in_buckets(how, drawn):
    dtype, bits = drawn
    x = bits.view(dtype)
    if x.dtype.kind == "f":
        x = np.where(np.isnan(x), x.dtype.type(0), x)
    with all_in_buckets(how):
        check_ranks_and_order(x, n_threads=2)


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("octave", [-1060, -130, -20, 100, 1000])
def test_buckets_of_floats_of_any_magnitude(rng, how, dtype, octave):
    """Where the floats lie that the row has none of makes no difference."""
    octave = octave if dtype == "float64" else min(max(octave, -140), 100)
    normal = rng.normal(size=(2, 40_000))
    for kind in (normal, np.abs(normal), np.where(normal < 3, normal, -(2.0**20))):
        x = np.ldexp(kind, octave).astype(dtype)
        with all_in_buckets(how) as tries:
            check_ranks_and_order(x, n_threads=2)
        assert not any(tries)


@given(
    st.sampled_from(["float32", "float64"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype, st.integers(1, 60), elements=st.floats(allow_nan=False, width=int(dtype[5:]))
        )
    )
)
def test_bins_span_what_a_sample_sees_and_some_octaves_more(x):
    """To the last bit, which no rank would tell: of so short a row all is seen."""
    with lent() as lend:
        own = bins.Bins.for_rows_of(x.size, x.dtype, 1, 1, lend())
    bins.look(bits_to_read(x), own, 0)
    bins.set_span(own)
    keys = sorted(keys_of(x).tolist())
    top, all_ones = int(own.code.top), 2 ** (8 * x.itemsize) - 1
    beyond = bins.OCTAVES_BEYOND << np.finfo(x.dtype).nmant
    magnitudes = [abs(key - top) - (key < top) for key in keys if key != top]
    gap = max(min(magnitudes, default=0) - beyond, 0)
    assert keys[0] == own.span[bins.FIRST] >= max(keys[0] - beyond, 0)
    assert keys[-1] == own.span[bins.LAST] <= min(keys[-1] + beyond, all_ones)
    assert own.span[bins.BELOW] == min(top - 1 - gap, keys[-1])
    assert own.span[bins.ABOVE] == max(top + gap, keys[0])


def test_bins_end_some_octaves_beyond_a_sample():
    for dtype, least, greatest in (("float32", -2e38, 3e38), ("float64", -1e308, np.inf)):
        x = np.ones(1000, dtype)
        x[[998, 999]] = least, greatest  # which are not in the sample
        for seen in (1.0, np.finfo(dtype).tiny, np.finfo(dtype).max / 2):
            x[:998] = seen
            with lent() as lend:
                own = bins.Bins.for_rows_of(x.size, x.dtype, 1, 1, lend())
            bins.look(bits_to_read(x), own, 0)
            bins.set_span(own)
            beyond = bins.OCTAVES_BEYOND << np.finfo(dtype).nmant
            key, last = int(keys_of(x)[0]), int(keys_of(x)[999])
            assert own.span[bins.FIRST] == key - beyond
            assert own.span[bins.LAST] == min(key + beyond, last)


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("seen", "others"), [(1.0, 1e-9), (1e-9, 1.0), (-1.0, 1.0)])
def test_buckets_of_rows_that_a_sample_misleads(rng, how, dtype, seen, others):
    """All others share a bin that is meant for a few, and are crowded."""
    n = 40_000
    x = others * rng.random((2, n))
    x[:, sampling.sampled_indices(n)] = seen
    counted = np.empty(n // dealing.ONE_OF, dtype=np.int64)
    dealing.sample(np.arange(n), counted)
    x[:, counted] = seen
    with all_in_buckets(how) as tries:
        check_ranks_and_order(x.astype(dtype), n_threads=2)
    assert any(tries) or "shared" in how  # by threads whose samples differ


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("crowd", [1000, 9000, 40_000])
def test_buckets_that_are_crowded_are_sorted_by_keys(rng, how, crowd):
    """Many that are close together, but differ; equals apart from all others are no crowd."""
    close, equal = 0.25 + 1e-9 * rng.random((4, crowd)), np.zeros((4, 40_000))
    other = rng.random((4, 10_000))
    for x, is_crowded in (
        (np.concatenate([other, close], axis=1), crowd == 40_000),
        (np.concatenate([other, close, equal], axis=1), False),
    ):
        with all_in_buckets(how) as tries:
            check_ranks_and_order(rng.permuted(x, axis=1), n_threads=2)
        assert any(tries) == is_crowded


@pytest.mark.parametrize("how", BUCKETS)
@pytest.mark.parametrize("with_zeros", [False, True])
def test_many_crowded_buckets_are_sorted_together(rng, monkeypatch, how, with_zeros):
    """Each holds clusters of values that differ by less than words of 32 bits say, and ties."""
    x = np.round(rng.random((3, 20_000)) - 0.5, 3) + 1e-12 * rng.integers(0, 20, (3, 20_000))
    if with_zeros:
        x[:, ::3] = 0
    together, rank_some = [], buckets._rank_some

    def noted(spots, *asked):
        together.append(not isinstance(spots, slice))
        rank_some(spots, *asked)

    monkeypatch.setattr(buckets, "_rank_some", noted)
    for most_together in (100, 2**14):
        monkeypatch.setattr(buckets, "MOST_TOGETHER", most_together)
        with all_in_buckets(how):
            check_ranks_and_order(x, n_threads=2)
    assert any(together)
    assert not all(together)


def test_rows_after_a_crowded_one_are_ranked_by_keys(rng):
    """In the same call, scaled and added up as those before it."""
    n = 20_000
    x = rng.random((5, n))
    x[1] = np.round(x[1], 3) + 1e-12 * rng.integers(0, 20, n)
    with all_in_buckets("together") as tries:
        check_ranks_and_order(x, n_threads=1)
    assert tries
    assert all(tries)
    weight, bias = rng.normal(size=(2, n))
    table, rule = np.linspace(-1.0, 3.0, 2 * n - 1), COUNTING_TIES["average"]
    scaling = Scaling.of(weight, bias, (1, 1, 1, n), x.dtype)
    with all_in_buckets("together") as tries:
        found, _ = rank.map_rows(x, table, rule, with_order=False, scaling=scaling, threads=1)
        normalized = gm.normalize_quantiles(x, axis=1)
    assert tries
    assert all(tries)
    expected = table[counted_ranks(x, "average").astype(int)] * weight + bias
    assert found.tobytes() == expected.tobytes()
    mean = np.sort(x, axis=1).mean(axis=0)
    expected = np.interp(counted_ranks(x, "average") / 2, np.arange(n), mean)
    np.testing.assert_allclose(normalized, expected, rtol=1e-14)


@pytest.mark.parametrize("how", BUCKETS)
def test_buckets_of_words_that_hold_too_little(rng, how):
    """In a bucket of few entries lie a great one and others that are closer than its words say."""
    n = 400
    x = np.concatenate([1 + 1e-13 * rng.permutation(n), [1.5], -rng.random(3000) - 9])[None]
    with all_in_buckets(how):
        check_ranks_and_order(rng.permutation(x, axis=1), n_threads=2)


@pytest.mark.parametrize("how", ALL_BUCKETS)
@pytest.mark.parametrize("spans", [(1, 1, 1, 9000), (1, 3, 1500, 6), (2, 2, 9000, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_in_buckets_are_scaled_where_they_are(rng, how, spans, dtype):
    """And all of them once, whatever becomes of the row."""
    n = 9000  # more than one part
    weight, bias = rng.normal(size=(2, spans[1] * spans[3])).astype(dtype)
    index = np.arange(n)
    scale = [
        parameter[r // spans[0] % spans[1] * spans[3] + index // spans[2]]
        for parameter in (weight, bias)
        for r in range(4)
    ]
    table = np.linspace(-1.0, 3.0, 2 * n - 1).astype(dtype)
    for kind in ("random", "half zero", "rain", "clipped and crowded", "levels", "one far away"):
        x = rows_of(kind, dtype, (4, n), rng)
        x[2] = rows_of("random", dtype, n, rng)
        rule = COUNTING_TIES["average"]
        with all_in_buckets(how) as tries:
            y, _ = rank.map_rows(x, table, rule, with_order=False, threads=2)
            scaling = Scaling.of(weight, bias, spans, y.dtype)
            found, _ = rank.map_rows(x, table, rule, with_order=False, scaling=scaling, threads=2)
        assert tries
        expected = y * np.stack(scale[:4]) + np.stack(scale[4:])
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("how", BUCKETS)
def test_each_long_row_has_its_own_scale(rng, how):
    """Also those that are counted, after one that threads have shared."""
    x = rng.normal(size=(1, 4, 5000)).astype(np.float32)
    x[0, 2:] = np.round(x[0, 2:])
    weight, bias = rng.normal(size=(2, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        with all_in_buckets(how) as tries:
            found, expected = with_kernels_and_without(lambda: gm.group_map(x, 2, weight, bias))
    np.testing.assert_array_equal(found, expected)
    assert tries == [False]
    assert len(np.unique(found[0, 2])) < 20


@pytest.mark.parametrize("kind", ["heavy tail", "zeros between", "zeros below"])
@pytest.mark.parametrize("with_order", [False, True])
def test_long_rows_that_places_do_not_tell_apart_are_dealt_out(rng, kind, with_order):
    x = rng.lognormal(sigma=3, size=(20, 9000))
    if kind != "heavy tail":
        x = np.where(rng.random(x.shape) < 0.9, 0, rng.normal(size=x.shape))
    x = (np.maximum(x, 0) if kind == "zeros below" else x).astype(np.float32)
    table = np.arange(2 * x.shape[1] - 1, dtype=np.float32)
    tries, ranked = [], several_rows.SeveralRows.rank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "LONGEST_OF_FLOATS", 2**14)  # on any processor
        patch.setattr(
            several_rows.SeveralRows, "rank", lambda *given: tries.append(1) or ranked(*given)
        )
        y, _ = rank.rank_and_gather(
            x, table, COUNTING_TIES["average"], with_order=with_order, threads=1
        )
    np.testing.assert_array_equal(y, counted_ranks(x, "average"))
    # Where the order is kept no value is set aside, and places tell equals from others.
    assert bool(tries) == (kind == "heavy tail" or (kind == "zeros between" and not with_order))


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_words_of_buckets(rng, dtype):
    """By vectors, of which the last may not be full."""
    for size in (1, 2, 15, 16, 17, 31, 32, 33, 500):
        for span in (1, 2**20, np.iinfo(dtype).max):
            keys = rng.integers(0, span, size=size, dtype=dtype, endpoint=True)
            least, greatest = bucket_words.least_and_greatest(keys)
            assert (least, greatest) == (keys.min(), keys.max())
            words = np.zeros(size + 3, dtype=np.uint32)
            ends = keys.dtype.type(least), keys.dtype.type(greatest)
            lost = bucket_words.bits_lost(*ends, size)
            bucket_words.write_words(keys, ends[0], lost, words)
            distances = [int(key) - int(least) >> lost for key in keys]
            expected = [distance << 9 | i for i, distance in enumerate(distances)]
            assert words.tolist() == [*expected, *[2**32 - 1] * 3]
            assert max(expected) < 2**32
            assert lost == 0 or max(expected) >= 2**31


@given(st.integers(9, 14), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_words_sorted_by_digits(low, size, seed):
    rng = np.random.default_rng(seed)
    size, highest = min(size, 2**low), 2 ** (32 - low)
    words = rng.integers(0, highest, size=size, dtype=np.uint32) << low
    words |= np.arange(size, dtype=np.uint32)
    expected, other = np.sort(words), np.full(size + 5, 7, dtype=np.uint32)
    from_python(digits.sort_by_digits)(
        words, low, other, np.empty(digits.N_DIGITS, dtype=np.uint32)
    )
    np.testing.assert_array_equal(words, expected)
    np.testing.assert_array_equal(other[size:], 7)


@given(
    st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 15, 16, 40]), min_size=1, max_size=18),
    st.sampled_from([60, 64, 120, 128]),
)
def test_slots_suffice_however_a_row_is_cut(counts, longest):
    one_of = dealing.ONE_OF
    n = one_of * max(sum(counts), 1)
    with lent() as lend:
        memory = lend()
        own = dealing.Dealt.for_rows_of(memory, n, n, longest, stretches=1, notes_buckets=False)
        own_bins = bins.Bins.for_rows_of(n, np.dtype("float32"), 1, own.at.shape[1], memory)
        own_bins.counts[0, : len(counts)] = counts
        n_buckets = dealing.cut(own_bins, own, one_of)
        assert n_buckets <= dealing.most_buckets(n, longest)
        assert own.buckets.begins[n_buckets] < dealing.slots_for(n, longest, one_of)


@pytest.mark.parametrize("kind", ["even", "one bin"])
def test_rows_are_dealt_out_without_being_counted(rng, kind):
    """But for those whose buckets have no room for what comes."""
    n = 20_000
    x = rng.normal(size=(1, n)).astype(np.float32)
    if kind == "one bin":
        counted = np.empty(n // dealing.ONE_OF, dtype=np.int64)
        dealing.sample(np.arange(n), counted)
        x[0, counted] = np.linspace(-1, 1, counted.size)
        x[0, np.setdiff1d(np.arange(n), counted)] *= 1e-6
    task = Task(x, code_of(x.dtype), None, (0, 1, 1), np.dtype(np.uint64), np.empty((1, n)))
    with lent() as lend:
        own = several_rows.SeveralRows(task, 1, lend())
        keys, noted, own_buckets = own.entries.keys, own.dealt.noted, own.dealt.buckets
        for _ in range(2):  # the counts are empty again
            n_buckets = from_python(dealing.deal_out_row)(
                bits_to_read(x[0]), own.bins, own.dealt, keys, dealing.NOTHING
            )
            begins, ends, ranks = (each[:n_buckets] for each in own_buckets)
            np.testing.assert_array_equal(keys[noted], keys_of(x[0]))
            assert len(set(noted.tolist())) == n
            assert np.all(ends <= own_buckets.begins[1 : n_buckets + 1])
            np.testing.assert_array_equal(ranks, np.cumsum(ends - begins) - (ends - begins))
            assert (own_buckets.begins[n_buckets] == n) == (kind != "even")
            for begin, end, rank_of_first in zip(begins, ends, ranks, strict=True):
                expected = np.sort(keys_of(x[0]))[rank_of_first : rank_of_first + end - begin]
                np.testing.assert_array_equal(np.sort(keys[begin:end]), expected)


def test_where_equals_stand(rng):
    """One word after the other, and by vectors."""
    for n in (1, 2, 16, 17, 1023, 1024, 1025, 5000):
        words = np.sort(rng.integers(0, max(n // 2, 1) << 9, size=n, dtype=np.uint32))
        expected = np.flatnonzero(words[1:] >> 9 == words[:-1] >> 9)
        for found in (equals.find_equal_words, equals.find_equal_by_vectors):
            spots = np.empty(n + vectors.LANES, dtype=np.uint32)
            if found is equals.find_equal_by_vectors and not vectors.IS_KNOWN:
                continue
            np.testing.assert_array_equal(spots[: found(words, np.uint32(9), spots)], expected)


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(0, 2), min_size=62, max_size=62))
def test_runs_and_levels_among_words(drawn, bits):
    """Where runs of consecutive numbers end, by steps that double, and how often a key changes."""
    spots = np.array(sorted(drawn), dtype=np.uint32)
    row = np.array([0, 2**31, 5], dtype=np.uint32)[bits]  # zero has two patterns
    index, words = np.uint32(511), np.arange(62, dtype=np.uint32)
    code = code_of(np.dtype(np.float32))
    begin = 0
    while begin < spots.size:
        end = begin + 1
        while end < spots.size and spots[end] == spots[begin] + end - begin:
            end += 1
        assert runs.run_end.py_func(spots.astype(np.int64), begin) == end
        begin = end
    keys = keys_of(row.view(np.float32))
    conflicts = int(np.sum(keys[spots] != keys[spots + 1]))
    assert from_python(runs.count_conflicts)(words, spots, index, row, code) == conflicts
