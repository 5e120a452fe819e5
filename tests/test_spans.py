"""Which weight serves which entry of a row, for kernels that scale what they write."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupmap.grouping import (
    Grouping,
    channel_groups,
    channels_of_batch,
    each_channel,
    trailing_axes,
)


def served(spans, n_rows, n):
    each_rows, own_rows, each_entries, own_entries = spans
    r, i = np.arange(n_rows)[:, None], np.arange(n)
    return r // each_rows % own_rows * own_entries + i // each_entries


def check(grouping, parameter, shape):
    """Against the parameter's own indices, broadcast and grouped; the spans, if there are any."""
    spans = grouping.spans(parameter, shape)
    if spans is not None:
        index = np.arange(np.prod(parameter, dtype=int)).reshape(parameter)
        rows = grouping.to_rows(np.broadcast_to(index, shape).copy(), xp)
        rows = rows.reshape(-1, rows.shape[-1])
        np.testing.assert_array_equal(served(spans, *rows.shape), rows)
    return spans


@pytest.mark.parametrize(
    ("grouping", "parameter", "shape", "spans"),
    [
        (channel_groups((2, 6, 4, 3), 3, 1), (6, 1, 1), (2, 6, 4, 3), (1, 3, 12, 2)),
        (channel_groups((2, 6), 3, 1), (6,), (2, 6), (1, 3, 1, 2)),
        (each_channel((2, 6, 4), 1), (6, 1), (2, 6, 4), (1, 6, 4, 1)),
        (each_channel((2, 4, 6), -1), (6,), (2, 4, 6), (1, 6, 4, 1)),
        (channels_of_batch((2, 6, 4), 1), (6, 1), (2, 6, 4), (1, 6, 8, 1)),
        (trailing_axes((5, 4, 3), (4, 3)), (4, 3), (5, 4, 3), (1, 1, 1, 12)),
        # The channels of a group come last here, so that the weights repeat within a row.
        (channel_groups((2, 4, 6), 3, -1), (6,), (2, 4, 6), None),
    ],
    ids=["group", "group-2d", "instance", "instance-last", "batch", "layer", "group-last"],
)
def test_of_the_layouts(grouping, parameter, shape, spans):
    assert check(grouping, parameter, shape) == spans


@given(st.data())
def test_of_any_axes(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    axes = st.integers(0, len(shape) - 1)
    pooled = tuple(sorted(data.draw(st.sets(axes, min_size=1))))
    own = [data.draw(st.sampled_from([1, length])) for length in shape]
    check(Grouping(pooled), tuple(own[data.draw(axes) :]), shape)


@pytest.mark.parametrize(
    ("grouping", "shape"),
    [
        (channel_groups((2, 6, 4, 3), 3, 1), (2, 6, 4, 3)),
        (channel_groups((2, 4, 6), 3, -1), (2, 4, 6)),
        (channels_of_batch((2, 6, 4), 1), (2, 6, 4)),
        (trailing_axes((5, 4, 3), (4, 3)), (5, 4, 3)),
    ],
)
def test_layouts_lead_to_rows_and_back(grouping, shape):
    x = np.arange(np.prod(shape)).reshape(shape)
    layout = grouping.remembered_layout(shape)
    assert layout is grouping.remembered_layout(shape)
    assert layout == grouping.layout(shape)
    rows = layout.to_rows(x, xp)
    np.testing.assert_array_equal(rows, grouping.to_rows(x, xp))
    np.testing.assert_array_equal(layout.from_rows(rows, xp), x)
