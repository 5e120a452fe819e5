"""Which features of a table share a cdf, and how to lay them out a group a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from array_api_compat import device

from groupmap._typing import Array, Namespace
from groupmap.counts import checked_count

FeatureGroups = tuple[tuple[int, ...], ...]


def feature_groups(
    groups: object, n_features: int, feature_names: Sequence[str] | None = None
) -> FeatureGroups:
    """The groups of features that `groups` names.

    None gives each feature a group of its own, an int that many equal blocks of consecutive
    features, "all" one group. A sequence of labels, one a feature, groups equal labels, in the
    order in which they appear; a list of lists names the features of each group by index or
    column name.
    """
    if groups is None:
        return tuple((feature,) for feature in range(n_features))
    if isinstance(groups, str):
        if groups == "all":
            return (tuple(range(n_features)),)
        raise ValueError(f"groups={groups!r} is not known; the only name is 'all'.")
    if isinstance(groups, (int, np.integer)) and not isinstance(groups, bool):
        return _equal_blocks(checked_count(groups, "groups"), n_features)
    if hasattr(groups, "__array__"):
        groups = np.asarray(groups)  # labels may be a column of a data frame
        if groups.ndim == 0:
            return feature_groups(groups.item(), n_features, feature_names)
    listed = list(groups) if isinstance(groups, (Sequence, np.ndarray)) else None
    if listed is None:
        raise TypeError(f"groups={groups!r} must be None, an int, 'all', labels or lists.")
    are_lists = {_is_member_list(member) for member in listed}
    if len(are_lists) == 2:
        raise TypeError(
            f"groups={groups!r} holds lists and others; name the features of each group by a list, "
            "also of a single one, or give a label for each feature."
        )
    if are_lists == {True}:
        return _listed(listed, n_features, feature_names)
    return _by_label(listed, n_features)


def _is_member_list(member: object) -> bool:
    """Whether it is a list or an index of pandas, say; a tuple may well be a label."""
    return isinstance(member, list) or (hasattr(member, "__array__") and np.ndim(member) > 0)


def _equal_blocks(num_groups: int, n_features: int) -> FeatureGroups:
    if n_features % num_groups:
        raise ValueError(
            f"the number of features ({n_features}) must be divisible by groups ({num_groups})"
        )
    size = n_features // num_groups
    return tuple(tuple(range(i * size, (i + 1) * size)) for i in range(num_groups))


def _by_label(labels: Sequence[Hashable], n_features: int) -> FeatureGroups:
    if len(labels) != n_features:
        raise ValueError(
            f"groups has {len(labels)} labels for {n_features} features; give one a feature."
        )
    members: dict[Hashable, list[int]] = {}
    for feature, label in enumerate(labels):
        members.setdefault(label, []).append(feature)
    return tuple(tuple(features) for features in members.values())


def _listed(
    lists: Sequence[Sequence[Any]], n_features: int, feature_names: Sequence[str] | None
) -> FeatureGroups:
    found = tuple(
        tuple(_feature_index(member, n_features, feature_names) for member in members)
        for members in lists
    )
    counts = Counter(feature for members in found for feature in members)
    twice = sorted(feature for feature, count in counts.items() if count > 1)
    absent = sorted(set(range(n_features)) - set(counts))
    if twice or absent or not all(found):
        raise ValueError(
            f"groups={lists!r} must name each of the {n_features} features once, and no group may "
            f"be empty; named more than once: {twice}, not named: {absent}."
        )
    return found


def _feature_index(member: object, n_features: int, feature_names: Sequence[str] | None) -> int:
    if isinstance(member, str):
        if feature_names is None:
            raise ValueError(
                f"groups names the column {member!r}, but X has no column names; give a data "
                "frame, or name columns by index."
            )
        names = list(feature_names)
        if member in names:
            return names.index(member)
        raise ValueError(f"groups names the column {member!r}, which is not one of {names}.")
    if isinstance(member, bool) or not isinstance(member, (int, np.integer)):
        raise TypeError(f"groups holds {member!r}; name features by index or column name.")
    if not 0 <= member < n_features:
        raise ValueError(f"groups names feature {member}; there are {n_features}, numbered from 0.")
    return int(member)


class TableLayout:
    """Where the features of a table lie when each group is one row, padded to equal lengths."""

    def __init__(self, groups: FeatureGroups) -> None:
        sizes = np.asarray([len(members) for members in groups], dtype=np.int64)
        members = np.fromiter(chain.from_iterable(groups), dtype=np.int64)
        self.num_groups, self.size = len(groups), int(sizes.max(initial=0))
        self.is_feature = np.arange(self.size) < sizes[:, np.newaxis]
        self.is_padded = not np.all(self.is_feature)
        self.feature_at = np.zeros((self.num_groups, self.size), dtype=np.int64)
        self.feature_at[self.is_feature] = members
        self.group_of, self.place_of = np.zeros((2, members.size), dtype=np.int64)
        self.group_of[members] = np.repeat(np.arange(self.num_groups), sizes)
        self.place_of[members] = np.flatnonzero(self.is_feature)

    def to_groups(self, table: Array, xp: Namespace) -> tuple[Array, Array | None]:
        """The table ``(rows, features)`` as ``(rows, groups, size)``, and where features are."""
        in_order = _taken(table, self.feature_at.reshape(-1), xp)
        grouped = xp.reshape(in_order, (table.shape[0], self.num_groups, self.size))
        if not self.is_padded:
            return grouped, None
        is_feature = xp.asarray(self.is_feature, device=device(table))
        return grouped, xp.broadcast_to(is_feature, grouped.shape)

    def from_groups(self, grouped: Array, xp: Namespace) -> Array:
        """Back from ``(rows, groups, size)`` to ``(rows, features)``."""
        flat = xp.reshape(grouped, (grouped.shape[0], self.num_groups * self.size))
        return _taken(flat, self.place_of, xp)

    def per_feature(self, per_group: Array, xp: Namespace) -> Array:
        """Of an array ``(k, groups)``, the column of each feature's group: ``(features, k)``."""
        return xp.permute_dims(_taken(per_group, self.group_of, xp), (1, 0))


def _taken(table: Array, columns: np.ndarray[Any, Any], xp: Namespace) -> Array:
    """These columns; the table itself if they are all of its own in order, as they mostly are."""
    if np.array_equal(columns, np.arange(table.shape[1])):
        return table
    return xp.take(table, xp.asarray(columns, device=device(table)), axis=1)
