"""Dask: lazy, block by block, and clear where blocks cut a group."""

from __future__ import annotations

import re

import numpy as np
import pytest

import groupmap as gm

da = pytest.importorskip("dask.array")


def test_nothing_is_computed_and_chunks_stay():
    calls = []

    def load(block):
        calls.append(1)
        return block

    x = da.ones((6, 8), chunks=(2, 8)).map_blocks(load, meta=np.empty((0, 0)))
    y = gm.quantile_map(x)
    z = gm.group_map(x[:, :, None], 2)
    m = gm.match_quantiles(x, da.arange(9.0, chunks=3), axis=1)
    n = gm.normalize_quantiles(x, axis=1)
    assert not calls
    assert y.chunks == m.chunks == n.chunks == x.chunks
    assert z.chunks == (*x.chunks, (1,))
    assert y.compute().shape == (6, 8)
    assert calls


def test_a_chunked_mapped_axis():
    x = da.ones((4, 8, 6), chunks=(2, 4, 3))
    for call in (
        lambda: gm.quantile_map(x),
        lambda: gm.group_map(x, 2),
        lambda: gm.instance_map(x),
        lambda: gm.layer_map(x, 6),
        lambda: gm.quantile_map(x, axis=None),
    ):
        with pytest.raises(ValueError, match="rechunk"):
            call()
    assert gm.instance_map(x.rechunk({2: -1})).compute().shape == x.shape


def test_unknown_chunks():
    x = da.arange(10.0, chunks=5)
    table = da.ones((10, 4, 3), chunks=(5, 4, 3))
    table = table[table[:, 0, 0] > 3]
    for call in (
        lambda: gm.quantile_map(x[x > 3]),
        lambda: gm.normalize_quantiles(table, axis=-1),
        lambda: gm.match_quantiles(table, table),
        lambda: gm.group_map(table, 2),
        lambda: gm.instance_map(table),
        lambda: gm.layer_map(table, (4, 3)),
    ):
        with pytest.raises(ValueError, match="unknown chunk"):
            call()


def test_masked_blocks():
    x = da.ma.masked_array(da.arange(4.0, chunks=4), da.arange(4, chunks=4) > 2)
    with pytest.raises(TypeError, match="masked arrays; fill them"):
        gm.quantile_map(x)


def test_blocks_are_mapped_by_their_own_library():
    x = da.from_array(
        np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32), chunks=(4, 8)
    )
    y = gm.quantile_map(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.compute(), gm.quantile_map(x.compute()))


def test_masks_and_references_follow_the_blocks():
    rng = np.random.default_rng(0)
    data, reference = rng.normal(size=(6, 8)), rng.normal(size=(6, 5))
    where = rng.random((6, 8)) < 0.6
    x = da.from_array(data, chunks=(4, 8))
    y = gm.match_quantiles(
        x,
        da.from_array(reference, chunks=(3, 2)),
        axis=1,
        where=da.from_array(where, chunks=(6, 4)),
    )
    expected = gm.match_quantiles(data, reference, axis=1, where=where)
    np.testing.assert_array_equal(y.compute(), expected)


def test_generators():
    x = da.ones((4, 8), chunks=(2, 8))
    with pytest.raises(ValueError, match=r"dask\.array\.random\.default_rng"):
        gm.quantile_map(x, eps=0.1)
    with pytest.raises(TypeError, match=r"dask\.array\.random\.default_rng"):
        gm.quantile_map(x, eps=0.1, rng=3)


def test_a_target_each_needs_all_groups_in_one_block():
    data = np.random.default_rng(0).normal(size=(4, 6, 5))
    x = da.from_array(data, chunks=(2, 3, 5))
    three = ["uniform", "cauchy", "sparse"]
    with pytest.raises(ValueError, match="sequence of 3 targets for 6 groups"):
        gm.instance_map(x, target_quantiles=three)
    with pytest.raises(ValueError, match=r"rechunk\(\{1: -1\}\)"):
        gm.instance_map(x, target_quantiles=three * 2)
    y = gm.instance_map(x.rechunk({1: -1}), target_quantiles=three * 2)
    np.testing.assert_array_equal(y.compute(), gm.instance_map(data, target_quantiles=three * 2))
    sample = np.arange(3.0)
    for each in (sample, da.from_array(sample)):
        with pytest.raises(TypeError, match="pass a function that interpolates it"):
            gm.instance_map(x, target_quantiles=[each] * 6)


def said_in(error, **names):
    """What comes of the expression with `map_blocks` in an error's remedy."""
    (expression,) = re.findall(r" as (\w.*map_blocks\(.*\))\.", str(error.value))
    return eval(expression, names)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_fitted_maps_are_evaluated_as_the_errors_say(dtype):
    pytest.importorskip("sklearn")
    data = (100 * np.random.default_rng(0).normal(size=(20, 3))).astype(dtype)
    x = da.from_array(data, chunks=(10, 2))
    fitted = gm.GroupMapTransformer(n_quantiles=9).fit(data)
    with pytest.raises(TypeError, match="takes tables in memory") as error:
        fitted.transform(x)
    y = said_in(error, X=x, fitted=fitted)
    assert y.dtype == fitted.transform(data).dtype
    np.testing.assert_array_equal(y.compute(), fitted.transform(data))
    for axis in (0, 1, None):
        with pytest.raises(TypeError, match="fitted to arrays in memory") as error:
            gm.EmpiricalCDF.fit(x, axis=axis)
        cdf = gm.EmpiricalCDF.fit(data, axis=axis)
        y = said_in(error, x=x, fitted=cdf)
        assert y.dtype == cdf.cdf(data).dtype
        np.testing.assert_array_equal(y.compute(), cdf.cdf(data))
