"""Fitted transformers as files: one .npz of plain arrays and a JSON header, nothing pickled."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import array_api_compat as compat
import numpy as np

from groupmap._typing import Array
from groupmap.backends import namespace_and_ops
from groupmap.feature_groups import feature_groups
from groupmap.files import written_whole
from groupmap.targets import NAMED_TARGETS, FormulaTarget
from groupmap.user_targets import as_target

if TYPE_CHECKING:
    from groupmap.transformer import GroupMapTransformer

FORMAT, FORMAT_VERSION = "groupmap.GroupMapTransformer", 1
ARRAYS = {
    "quantiles": "quantiles_", "references": "references_",
    "weight_seen": "_weight_seen", "values_seen": "_values_seen",
}  # fmt: skip
# What NumPy, zipfile and zlib raise where a file is not what it should be.
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError)

Transformer = TypeVar("Transformer", bound="GroupMapTransformer")


class RefusedError(ValueError):
    """What a file says cannot be."""


def save(transformer: GroupMapTransformer, path: str | PathLike[str]) -> None:
    """Write a fitted transformer; see `GroupMapTransformer.save`."""
    parameters = transformer.get_params(deep=False)
    arrays = {
        name: _on_host(getattr(transformer, attribute))
        for name, attribute in ARRAYS.items()
        if getattr(transformer, attribute, None) is not None
    }
    if compat.is_array_api_obj(parameters["target_quantiles"]):
        arrays["target"] = _on_host(parameters["target_quantiles"])
        parameters["target_quantiles"] = {"sample": "target"}
    else:
        parameters["target_quantiles"] = _described(parameters["target_quantiles"])
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "parameters": parameters,
        "groups": transformer.groups_,
        "n_features": transformer.n_features_in_,
        "n_samples_seen": getattr(transformer, "n_samples_seen_", None),
        "feature_names": getattr(transformer, "feature_names_in_", None),
    }
    text = json.dumps(header, default=_plain).encode()
    with written_whole(Path(path)) as file:
        arrays["header"] = np.frombuffer(text, dtype=np.uint8)
        np.savez(file, **arrays)  # type: ignore[arg-type]  # none of them is named allow_pickle


def _on_host(array: Array) -> np.ndarray[Any, Any]:
    _, ops = namespace_and_ops(x=array)
    return np.asarray(ops.to_host(ops.detach(array)))


def _plain(value: object) -> object:
    """What JSON has no word for, as something that it has one for."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(
        f"{value!r} cannot be written as plain data; save the estimator with joblib or skops."
    )


def _described(target: object) -> object:
    """A built-in target as its name and parameters."""
    target = as_target(target)
    if not isinstance(target, FormulaTarget):
        raise TypeError(
            f"target_quantiles={target!r} cannot be written as plain data; use a built-in target "
            "or a reference sample, or save the estimator with joblib or skops."
        )
    return {"name": type(target).__name__.lower(), **asdict(target)}


def load(cls: type[Transformer], path: str | PathLike[str]) -> Transformer:
    """Read a transformer; see `GroupMapTransformer.load`."""
    try:
        header, arrays = _read(Path(path))
        return _restored(cls, header, arrays)
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path}: {reason}; give a file that GroupMapTransformer.save has written."
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    if not zipfile.is_zipfile(path):
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
                f"version {FORMAT_VERSION}"
            )
        return header, {name: file[name] for name in file.files if name != "header"}


def _restored(
    cls: type[Transformer], header: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]
) -> Transformer:
    parameters = dict(header["parameters"])
    parameters["target_quantiles"] = _target(parameters["target_quantiles"], arrays)
    if isinstance(parameters["positions"], list):
        parameters["positions"] = tuple(parameters["positions"])
    transformer = cls(**_only_known(cls, parameters))
    transformer._validate_params()  # by sklearn's rules

    n_features, names = header["n_features"], header["feature_names"]
    _require(isinstance(n_features, int) and n_features > 0, f"has {n_features!r} features")
    transformer.n_features_in_ = n_features
    if names is not None:
        named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        _require(named and len(names) == n_features, f"names its features {names!r}")
        transformer.feature_names_in_ = np.asarray(names, dtype=object)
    groups = feature_groups(header["groups"], n_features)
    _require(groups == feature_groups(parameters["groups"], n_features, names), "has other groups")
    transformer.groups_ = groups
    transformer._place = np.zeros(0)
    if transformer.cdf == "fitted":
        _check_learned(arrays, len(groups))
        for name, attribute in ARRAYS.items():
            setattr(transformer, attribute, arrays.get(name))
        transformer.n_quantiles_ = len(arrays["references"])
        seen = header["n_samples_seen"]
        _require(isinstance(seen, int) and seen > 0, f"has seen {seen!r} samples")
        transformer.n_samples_seen_ = seen
    return transformer


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise RefusedError(reason)


def _only_known(cls: type[Any], parameters: dict[str, Any]) -> dict[str, Any]:
    known = set(cls().get_params(deep=False))
    _require(set(parameters) == known, f"has parameters {sorted(parameters)}")
    return parameters


def _target(described: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> object:
    _require(isinstance(described, dict), f"has the target {described!r}")
    if "sample" in described:
        _require("target" in arrays, "lacks its reference sample")
        as_target(arrays["target"])  # which says what is wrong with it
        return arrays["target"]
    parameters = {name: value for name, value in described.items() if name != "name"}
    named = NAMED_TARGETS.get(described.get("name", ""))
    if named is None:
        raise RefusedError(f"has the target {described!r}")
    try:
        return type(named)(**parameters)
    except TypeError as error:
        raise RefusedError(f"has the target {described!r}: {error}") from error


def _check_learned(arrays: dict[str, np.ndarray[Any, Any]], n_groups: int) -> None:
    """Refuse quantiles that no data have."""
    required = {"quantiles", "references", "weight_seen"}
    _require(required <= set(arrays), f"lacks {sorted(required - set(arrays))}")
    for name in (*required, "values_seen"):
        if name in arrays:
            dtype = arrays[name].dtype
            _require(dtype in (np.float64, np.float32), f"holds {name} of dtype {dtype}")
    quantiles, references = arrays["quantiles"], arrays["references"]
    weight = arrays["weight_seen"]
    _require(references.ndim == 1 and references.size > 0, f"has references {references.shape}")
    _require(
        quantiles.shape == (references.size, n_groups) and weight.shape == (n_groups, 1),
        f"has quantiles {quantiles.shape} and weights {weight.shape} for {n_groups} group(s)",
    )
    _require(
        bool(np.all(np.diff(references) > 0.0) and references[0] >= 0.0 and references[-1] <= 1.0),
        "has references that are not rising from 0 to 1",
    )
    _require(bool(np.all((weight >= 0.0) & np.isfinite(weight))), "has weights that are none")
    present = quantiles[:, weight[:, 0] > 0.0]
    _require(_are_sorted(present.T), "has quantiles that fall, or are not finite")
    _require(bool(np.all(np.isnan(quantiles[:, weight[:, 0] == 0.0]))), "has quantiles of nothing")
    if "values_seen" in arrays:
        values = arrays["values_seen"]
        _require(values.ndim == 2 and len(values) == n_groups, f"has values {values.shape}")
        _require(_are_sorted(values[weight[:, 0] > 0.0]), "has values that fall, or are not finite")
        _require(bool(np.all(weight[:, 0] <= values.shape[1])), "has fewer values than it says")


def _are_sorted(rows: np.ndarray[Any, Any]) -> bool:
    return bool(np.all(np.isfinite(rows)) and np.all(rows[:, 1:] >= rows[:, :-1]))
