"""Fitted transformers as files: one .npz of plain arrays and a JSON header, nothing pickled."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from groupmap._typing import Array
from groupmap.backends import is_array, namespace_and_ops
from groupmap.feature_groups import FeatureGroups, TableLayout, feature_groups
from groupmap.files import written_whole
from groupmap.fitting import ARRAYS
from groupmap.knots import equal_steps
from groupmap.positions import plotting_parameters
from groupmap.targets import NAMED_TARGETS, FormulaTarget
from groupmap.user_targets import as_target

if TYPE_CHECKING:
    from groupmap.transformer import GroupMapTransformer

TARGET = "target_quantiles"
FORMAT, FORMAT_VERSION = "groupmap.GroupMapTransformer", 2

Transformer = TypeVar("Transformer", bound="GroupMapTransformer")


class RefusedError(ValueError):
    """What a file says cannot be."""


def save(transformer: GroupMapTransformer, path: str | PathLike[str]) -> None:
    """Write a fitted transformer; see `GroupMapTransformer.save`."""
    parameters = transformer.get_params(deep=False)
    arrays = {
        name: _on_host(getattr(transformer, attribute))
        for attribute, name in ARRAYS.items()
        if getattr(transformer, attribute, None) is not None
    }
    target = parameters.get(TARGET)
    if is_array(target):
        arrays["target"] = _on_host(target)
        parameters[TARGET] = {"sample": "target"}
    elif TARGET in parameters:  # of a subclass it may be settled
        parameters[TARGET] = _described(target)
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "parameters": parameters,
        "groups": transformer.groups_,
        "n_features": transformer.n_features_in_,
        "n_samples_seen": getattr(transformer, "n_samples_seen_", None),
        "n_counted": getattr(transformer, "_n_counted", None),
        "feature_names": getattr(transformer, "feature_names_in_", None),
    }
    text = json.dumps(header, default=_plain)
    try:
        _restored(type(transformer), json.loads(text), arrays)
    except (TypeError, ValueError) as error:  # parameters set since, labels that JSON has not
        raise TypeError(
            f"the estimator cannot be written as plain data: what would be read {error}. Use "
            "strings or integers as labels, fit after a change of parameters, or use joblib."
        ) from error
    with written_whole(Path(path)) as file:
        arrays["header"] = np.frombuffer(text.encode(), dtype=np.uint8)
        np.savez(file, **arrays)  # type: ignore[arg-type]  # none of them is named allow_pickle


def _on_host(array: Array) -> np.ndarray[Any, Any]:
    _, ops = namespace_and_ops(x=array)
    return np.asarray(ops.to_host(ops.detach(array)))


def _plain(value: object) -> object:
    """What JSON has no word for, as something that it has one for."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if hasattr(value, "__array__"):  # labels or names that are a column or an index of a frame
        return np.asarray(value).tolist()
    raise TypeError(
        f"{value!r} cannot be written as plain data; save the estimator with joblib, which needs "
        "functions that can be imported, or skops."
    )


def _described(target: object) -> object:
    """A built-in target as its name and parameters."""
    if isinstance(target, str):
        return {"named": target}
    target = as_target(target)
    if not isinstance(target, FormulaTarget):
        raise TypeError(
            f"target_quantiles={target!r} cannot be written as plain data; use a built-in target "
            "or a reference sample, or save the estimator with joblib, which needs a function that "
            "can be imported, or skops."
        )
    return {"name": type(target).__name__.lower(), **asdict(target)}


def load(cls: type[Transformer], path: str | PathLike[str]) -> Transformer:
    """Read a transformer; see `GroupMapTransformer.load`."""
    try:
        header, arrays = _read(Path(path))
        return _restored(cls, header, arrays)
    except (Exception, MemoryError) as error:  # whatever NumPy, zipfile and JSON make of it
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path}: {reason}; give a file that GroupMapTransformer.save has written."
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    if not zipfile.is_zipfile(path):
        if path.is_dir():
            raise RefusedError("is a directory")
        if not path.is_file():
            raise RefusedError("there is no such file")
        raise RefusedError("is truncated, or no .npz file")
    with np.load(path, allow_pickle=False) as file:
        if "header" not in file.files:
            raise RefusedError("has no header of groupmap")
        header = json.loads(bytes(file["header"]).decode())
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise RefusedError("has no header of groupmap")
        if header.get("version") != FORMAT_VERSION:
            raise RefusedError(
                f"is of format version {header.get('version')!r}, and this release reads "
                f"version {FORMAT_VERSION}: fit and save anew by this one"
            )
        return header, {name: file[name] for name in file.files if name != "header"}


def _restored(
    cls: type[Transformer], header: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]
) -> Transformer:
    n_features, groups = _listed_groups(header)
    parameters = dict(header["parameters"])
    if TARGET in parameters:
        parameters[TARGET] = _target(parameters[TARGET], arrays)
    if isinstance(parameters.get("positions"), list):
        parameters["positions"] = tuple(parameters["positions"])
    _check_parameter_names(cls, parameters)
    transformer = cls(**parameters)
    transformer._validate_params()  # by sklearn's rules
    plotting_parameters(transformer.positions)

    names = header["feature_names"]
    transformer.n_features_in_ = n_features
    if names is not None:
        named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        _require(named and len(names) == n_features, f"names its features {names!r}")
        transformer.feature_names_in_ = np.asarray(names, dtype=object)
    own_groups = feature_groups(transformer.groups, n_features, names)
    _require(groups == own_groups, "has other groups")
    transformer.groups_ = groups
    transformer._place = np.zeros(0)
    if transformer.cdf == "fitted":
        _check_learned(arrays, groups)
        for attribute, name in ARRAYS.items():
            setattr(transformer, attribute, arrays.get(name))
        transformer.n_quantiles_ = len(arrays["references"])
        transformer.n_samples_seen_ = _count(header["n_samples_seen"], "samples")
        transformer._n_counted = _count(header["n_counted"], "rows")
    return transformer


def _listed_groups(header: dict[str, Any]) -> tuple[int, FeatureGroups]:
    """How many features there are, and their groups; before anything is made of that size."""
    n_features, groups = _count(header["n_features"], "features"), header["groups"]
    _require(
        isinstance(groups, list) and all(isinstance(members, list) for members in groups),
        f"has the groups {groups!r}",
    )
    _require(
        sum(len(members) for members in groups) == n_features,
        f"has groups of other than {n_features} features",
    )
    return n_features, feature_groups(groups, n_features)


def _count(number: object, of: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise RefusedError(f"has {number!r} {of}")
    return number


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise RefusedError(reason)


def _check_parameter_names(cls: type[Any], parameters: dict[str, Any]) -> None:
    known = set(cls().get_params(deep=False))
    _require(set(parameters) == known, f"has parameters {sorted(parameters)}")


def _target(described: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> object:
    _require(isinstance(described, dict), f"has the target {described!r}")
    if "sample" in described:
        _require("target" in arrays, "lacks its reference sample")
        as_target(arrays["target"])  # which says what is wrong with it
        return arrays["target"]
    if described.get("named") in [*NAMED_TARGETS]:
        return described["named"]
    parameters = {name: value for name, value in described.items() if name != "name"}
    named = NAMED_TARGETS.get(described.get("name", ""))
    if named is None:
        raise RefusedError(f"has the target {described!r}")
    try:
        return type(named)(**parameters)
    except TypeError as error:
        raise RefusedError(f"has the target {described!r}: {error}") from error


def _check_learned(arrays: dict[str, np.ndarray[Any, Any]], groups: FeatureGroups) -> None:
    """Refuse quantiles that no data have."""
    n_groups, n_features = len(groups), sum(len(members) for members in groups)
    for name in ARRAYS.values():
        if name in arrays:
            dtype = arrays[name].dtype
            _require(dtype in (np.float64, np.float32), f"holds {name} of dtype {dtype}")
    lacking = {"quantiles", "references", "weight"} - set(arrays)
    _require(not lacking, f"lacks {sorted(lacking)}")
    _check_quantiles(
        arrays["quantiles"].T, arrays["references"], arrays["weight"], n_groups, "quantiles"
    )
    before = [f"{name}_before" for name in ("quantiles", "references", "weight")]
    if any(name in arrays for name in before):
        _require(all(name in arrays for name in before), "lacks a part of what was before")
        quantiles, references, weight = (arrays[name] for name in before)
        _check_quantiles(quantiles, references, weight, n_groups, before[0])
    recent, count = arrays.get("recent"), arrays.get("recent_count")
    _require((recent is None) == (count is None), "lacks recent or recent_count")
    if recent is not None and count is not None:
        is_even = recent.ndim == 1 and recent.size % n_features == 0
        _require(is_even, f"has recent {recent.shape} of {n_features} feature(s)")
        _require(count.shape == (n_groups, 1), f"has recent_count {count.shape}")
        layout = TableLayout(groups)
        of_sizes = zip(layout.unravelled(recent, np), layout.of_each_size(count, np), strict=True)
        for own, own_count in of_sizes:
            _require(
                bool(np.all((own_count >= 0.0) & (own_count <= own.shape[1]))),
                "has another recent_count than there are values",
            )
            _require(_are_sorted(own[own_count[:, 0] > 0.0]), "has recent values that fall")


def _check_quantiles(
    quantiles: np.ndarray[Any, Any],
    references: np.ndarray[Any, Any],
    weight: np.ndarray[Any, Any],
    n_groups: int,
    name: str,
) -> None:
    _require(
        references.ndim == 1 and quantiles.shape == (n_groups, references.size)
        and weight.shape == (n_groups, 1),
        f"has {name}, references and weights of shapes {quantiles.shape}, {references.shape} and "
        f"{weight.shape} for {n_groups} group(s)",
    )  # fmt: skip
    steps = equal_steps(max(references.size, 1), np.dtype(np.float64), None, np)
    _require(
        references.size > 0 and bool(np.allclose(references, steps, rtol=0.0, atol=1e-6)),
        "has references that are not equal steps from 0 to 1",
    )
    _require(
        bool(np.all((weight >= 0.0) & np.isfinite(weight))), "has weights that are negative or NaN"
    )
    present = weight[:, 0] > 0.0
    _require(_are_sorted(quantiles[present]), f"has {name} that fall, or are not finite")
    _require(bool(np.all(np.isnan(quantiles[~present]))), f"has {name} of groups without values")


def _are_sorted(rows: np.ndarray[Any, Any]) -> bool:
    return bool(np.all(np.isfinite(rows)) and np.all(rows[:, 1:] >= rows[:, :-1]))
