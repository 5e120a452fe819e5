"""Which features of a table share a cdf, and how to lay them out a group a row."""

from __future__ import annotations

import difflib
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
        are_tuples = all(isinstance(label, tuple) for label in labels)
        remedy = "write the members of each group as a list" if are_tuples else "give one a feature"
        raise ValueError(f"groups has {len(labels)} labels for {n_features} features; {remedy}.")
    missing = [feature for feature, label in enumerate(labels) if _is_nan(label)]
    if missing:
        raise ValueError(
            f"groups has no label for the features {missing[:5]}: NaN is equal to nothing; give "
            "features that share a cdf the same label, and others labels of their own."
        )
    members: dict[Hashable, list[int]] = {}
    for feature, label in enumerate(labels):
        members.setdefault(label, []).append(feature)
    return tuple(tuple(features) for features in members.values())


def _is_nan(label: object) -> bool:
    try:
        return bool(label != label)  # noqa: PLR0124  # so NaN is told from all else
    except (TypeError, ValueError):  # of NA, which does not even say that
        return True


def _listed(
    lists: Sequence[Sequence[Any]], n_features: int, feature_names: Sequence[str] | None
) -> FeatureGroups:
    index_of = None
    if feature_names is not None:
        index_of = {name: feature for feature, name in enumerate(feature_names)}
    found = tuple(
        tuple(_feature_index(member, n_features, index_of) for member in members)
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


def _feature_index(member: object, n_features: int, index_of: dict[str, int] | None) -> int:
    if isinstance(member, str):
        if index_of is None:
            raise ValueError(
                f"groups names the column {member!r}, but X has no column names; give a data "
                "frame, or name columns by index."
            )
        if member in index_of:
            return index_of[member]
        alike = difflib.get_close_matches(member, index_of, n=3, cutoff=0.0)
        raise ValueError(
            f"groups names the column {member!r}, which is not one of the {n_features} of X; "
            f"the nearest are {alike}."
        )
    if isinstance(member, bool) or not isinstance(member, (int, np.integer)):
        raise TypeError(f"groups holds {member!r}; name features by index or column name.")
    if not 0 <= member < n_features:
        raise ValueError(f"groups names feature {member}; there are {n_features}, numbered from 0.")
    return int(member)


class TableLayout:
    """Where the features of a table lie when each group is one row.

    Groups of one size lie together, in a part of their own: as rows of one length, the single
    features would each be padded to the size of the largest group.
    """

    def __init__(self, groups: FeatureGroups) -> None:
        sizes = np.asarray([len(members) for members in groups], dtype=np.int64)
        members = np.fromiter(chain.from_iterable(groups), dtype=np.int64)
        begins = np.cumsum(sizes) - sizes
        self.sizes = np.unique(sizes)
        groups_of = [np.flatnonzero(sizes == size) for size in self.sizes]
        self._groups_of = groups_of
        self._features_of = [
            members[begins[own, np.newaxis] + np.arange(size)]
            for own, size in zip(groups_of, self.sizes, strict=True)
        ]
        self._place_of_group = _inverse(groups_of)
        self._place_of_feature = _inverse(self._features_of)
        self._group_of_feature = np.zeros(members.size, dtype=np.int64)
        self._group_of_feature[members] = np.repeat(np.arange(len(groups)), sizes)

    def to_parts(self, table: Array, xp: Namespace) -> list[Array]:
        """The table ``(rows, features)`` as ``(rows, groups, size)`` of each size."""
        return [
            xp.reshape(_taken(table, each.reshape(-1), 1, xp), (table.shape[0], *each.shape))
            for each in self._features_of
        ]

    def from_parts(self, parts: Sequence[Array], xp: Namespace) -> Array:
        """Back from ``(rows, groups, size)`` of each size to ``(rows, features)``."""
        flat = [xp.reshape(part, (part.shape[0], -1)) for part in parts]
        return _taken(_joined(flat, 1, xp), self._place_of_feature, 1, xp)

    def of_all(self, parts: Sequence[Array], xp: Namespace) -> Array:
        """What is known of the groups of each size, ``(groups, ...)``, as one array of all."""
        return _taken(_joined(parts, 0, xp), self._place_of_group, 0, xp)

    def of_each_size(self, per_group: Array, xp: Namespace) -> list[Array]:
        """Back from one array ``(groups, ...)`` of all."""
        return [_taken(per_group, own, 0, xp) for own in self._groups_of]

    def ravelled(self, parts: Sequence[Array], xp: Namespace) -> Array:
        """Values of the groups of each size, ``(groups, rows · size)``, one after the other."""
        return _joined([xp.reshape(part, (-1,)) for part in parts], 0, xp)

    def unravelled(self, values: Array, xp: Namespace) -> list[Array]:
        """Back from values one after the other."""
        n_rows, parts, begin = values.shape[0] // self._place_of_feature.size, [], 0
        for own, size in zip(self._groups_of, self.sizes.tolist(), strict=True):
            shape = (own.size, n_rows * size)
            end = begin + shape[0] * shape[1]
            parts.append(xp.reshape(values[begin:end], shape))
            begin = end
        return parts

    def per_feature(self, per_group: Array, xp: Namespace) -> Array:
        """Of an array ``(k, groups)``, the column of each feature's group: ``(features, k)``."""
        return xp.permute_dims(_taken(per_group, self._group_of_feature, 1, xp), (1, 0))


def _inverse(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """At which place of all parts each number from 0 stands."""
    numbers = np.concatenate([np.zeros(0, dtype=np.int64), *(part.reshape(-1) for part in parts)])
    places = np.empty_like(numbers)
    places[numbers] = np.arange(numbers.size)
    return places


def _joined(parts: Sequence[Array], axis: int, xp: Namespace) -> Array:
    return parts[0] if len(parts) == 1 else xp.concat(list(parts), axis=axis)


def _taken(table: Array, index: np.ndarray[Any, Any], axis: int, xp: Namespace) -> Array:
    """These columns, or rows; the table itself if they are all in order, as they mostly are."""
    if np.array_equal(index, np.arange(table.shape[axis])):
        return table
    return xp.take(table, xp.asarray(index, device=device(table)), axis=axis)
