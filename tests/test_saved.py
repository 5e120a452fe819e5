"""Files of fitted transformers: there and back, and what is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import groupmap as gm

pytest.importorskip("sklearn")


@pytest.fixture(name="X")
def table(rng):
    return rng.normal(size=(80, 4))


SETTINGS = (
    {},
    {"groups": "all", "tails": "linear", "target_quantiles": "uniform"},
    {"groups": [[0, 3], [1, 2]], "target_quantiles": gm.gaussian.clamped(1e-7)},
    {"groups": ["a", "b", "a", "a"], "positions": (0.3, 0.4), "random_state": 3},
    {"groups": 2, "target_quantiles": gm.sparse, "positions": "hazen", "subsample": 50},
    {"groups": np.asarray([1, 1, 0, 0]), "target_quantiles": np.linspace(-1, 1, 7) ** 3},
    {"groups": 2, "cdf": "sample"},
)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_there_and_back(tmp_path, X, settings):
    fitted = gm.GroupMapTransformer(**{"n_quantiles": 30, **settings}).fit(X)
    path = tmp_path / "fitted.npz"
    fitted.save(path)
    loaded = gm.GroupMapTransformer.load(path)
    new = np.concatenate([X, 3 * X])
    np.testing.assert_array_equal(loaded.transform(new), fitted.transform(new))
    for name, value in fitted.get_params().items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    assert loaded.groups_ == fitted.groups_
    if fitted.cdf == "fitted" and fitted.subsample is None:
        for more in (X[:10] + 0.1, X[:10] + 0.2, X):
            np.testing.assert_array_equal(
                loaded.partial_fit(more).quantiles_, fitted.partial_fit(more).quantiles_
            )
            fitted.save(path)
            loaded = gm.GroupMapTransformer.load(path)
    assert [each.name for each in tmp_path.iterdir()] == ["fitted.npz"]


def test_chunks_that_are_all_kept_go_on(tmp_path, X):
    fitted = gm.GroupMapTransformer().partial_fit(X[:10])
    fitted.save(tmp_path / "fitted.npz")
    loaded = gm.GroupMapTransformer.load(tmp_path / "fitted.npz")
    with pytest.warns(UserWarning, match="is set to 80"):
        expected = gm.GroupMapTransformer().fit(X).quantiles_
    np.testing.assert_array_equal(loaded.partial_fit(X[10:]).quantiles_, expected)


def test_names_of_columns(tmp_path, X):
    frame = pd.DataFrame(X, columns=list("abcd"))
    fitted = gm.GroupMapTransformer([["a", "c"], ["b", "d"]], n_quantiles=20).fit(frame)
    fitted.save(tmp_path / "fitted.npz")
    loaded = gm.GroupMapTransformer.load(tmp_path / "fitted.npz").set_output(transform="pandas")
    assert list(loaded.transform(frame).columns) == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.transform(frame[["b", "a", "c", "d"]])


def test_from_any_library_and_to_any(library, tmp_path, X):
    fitted = gm.GroupMapTransformer(
        n_quantiles=20, target_quantiles=library.asarray(np.linspace(0.0, 1.0, 5))
    ).fit(library.asarray(X))
    fitted.save(tmp_path / "fitted.npz")
    loaded = gm.GroupMapTransformer.load(tmp_path / "fitted.npz")
    assert type(loaded.quantiles_) is np.ndarray
    np.testing.assert_allclose(
        loaded.transform(X), library.to_numpy(fitted.transform(library.asarray(X))), atol=1e-14
    )
    given = library.asarray(X)
    import array_api_compat

    moved = loaded.move_to(
        array_api_compat.array_namespace(given), device=array_api_compat.device(given)
    )
    library.check_like(moved.transform(given), given)
    assert type(loaded.quantiles_) is np.ndarray
    moved.partial_fit(given)


class OfFewParameters(gm.GroupMapTransformer):
    """A subclass that settles the others, the target among them."""

    def __init__(self, groups=None, *, n_quantiles=20):
        super().__init__(groups, target_quantiles="uniform", n_quantiles=n_quantiles)


def test_a_subclass_of_few_parameters(tmp_path, X):
    fitted = OfFewParameters("all").fit(X)
    fitted.save(tmp_path / "fitted.npz")
    loaded = OfFewParameters.load(tmp_path / "fitted.npz")
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))


def test_groups_that_are_columns_of_a_frame(tmp_path, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    labels = pd.Series(list("xyxy"), dtype="category")
    for groups in ([frame.columns[:1], frame.columns[1:]], labels, pd.Index([1, 1, 2, 2])):
        fitted = gm.GroupMapTransformer(groups, n_quantiles=20).fit(frame)
        fitted.save(tmp_path / "fitted.npz")
        loaded = gm.GroupMapTransformer.load(tmp_path / "fitted.npz")
        assert loaded.groups_ == fitted.groups_


def test_what_has_no_plain_form(tmp_path, X):
    for settings in (
        {"target_quantiles": stats.norm(1, 2)},
        {"target_quantiles": np.sqrt},
        {"random_state": np.random.RandomState(0)},
    ):
        fitted = gm.GroupMapTransformer(n_quantiles=20, **settings).fit(X)
        with pytest.raises(TypeError, match="joblib, which needs"):
            fitted.save(tmp_path / "fitted.npz")
    labelled = gm.GroupMapTransformer([("a", 1)] * 2 + [("b", 1)] * 2, n_quantiles=20).fit(X)
    changed = gm.GroupMapTransformer(n_quantiles=20).fit(X).set_params(groups=2)
    for fitted in (labelled, changed):
        with pytest.raises(TypeError, match="cannot be written as plain data: what would be read"):
            fitted.save(tmp_path / "fitted.npz")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="cannot be written"):
        gm.GroupMapTransformer(n_quantiles=20).fit(X).save(tmp_path / "absent" / "fitted.npz")


def rewritten(path, change):
    """The file with something else in it."""
    with np.load(path) as file:
        arrays = {name: file[name].copy() for name in file.files}
    header = json.loads(bytes(arrays.pop("header")))
    header = change(header, arrays) or header
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(path, header=text, **arrays)


def scaled(name, factor):
    return lambda h, a: a.update({name: a[name] * factor})


POISONED = {
    "no header of groupmap": lambda h, a: {**h, "format": "pandas"},
    "format version 3": lambda h, a: {**h, "version": 3},
    "has parameters": lambda h, a: h["parameters"].pop("tails") and None,
    "not iterable": lambda h, a: {**h, "parameters": 5},
    "The 'tails' parameter": lambda h, a: h["parameters"].update(tails="wrap"),
    "positions=": lambda h, a: h["parameters"].update(positions=[5, 7]),
    "The 'eps' parameter": lambda h, a: h["parameters"].update(eps=-1),
    "has the target": lambda h, a: h["parameters"].update(target_quantiles={"name": "evil"}),
    "clamp=2": lambda h, a: h["parameters"].update(
        target_quantiles={"name": "gaussian", "clamp": 2.0}
    ),
    "unexpected keyword": lambda h, a: h["parameters"].update(
        target_quantiles={"name": "gaussian", "shell": 1}
    ),
    "lacks its reference": lambda h, a: h["parameters"].update(target_quantiles={"sample": 1}),
    "has 0 features": lambda h, a: {**h, "n_features": 0},
    "has True features": lambda h, a: {**h, "n_features": True},
    "of other than 1000000000000 features": lambda h, a: {**h, "n_features": 10**12},
    "has the groups None": lambda h, a: {**h, "groups": None},
    "groups holds 0.5": lambda h, a: {**h, "groups": [[0.5], [1], [2], [3]]},
    "names its features": lambda h, a: {**h, "feature_names": ["a"]},
    "once": lambda h, a: {**h, "groups": [[0, 1], [1, 2]]},
    "other groups": lambda h, a: {**h, "groups": [[0], [1], [2, 3]]},
    "has -3 samples": lambda h, a: {**h, "n_samples_seen": -3},
    "has None rows": lambda h, a: {**h, "n_counted": None},
    "lacks .'quantiles'": lambda h, a: a.pop("quantiles") is None or None,
    "quantiles of dtype int64": lambda h, a: a.update(quantiles=a["quantiles"].astype(int)),
    "for 4 group": lambda h, a: a.update(quantiles=a["quantiles"][:, :2]),
    "not equal steps": lambda h, a: a.update(references=a["references"] ** 2),
    "of shapes": lambda h, a: a.update(references=a["references"][:, None]),
    "weights that are negative": scaled("weight", -1),
    "quantiles that fall": scaled("quantiles", -1),
    "quantiles that fall, or are not finite": lambda h, a: a["quantiles"].__setitem__(
        (3, 1), np.inf
    ),
    "of groups without values": lambda h, a: a["weight"].__setitem__((1, 0), 0.0),
    "has recent .4, 2": lambda h, a: a.update(
        recent=np.zeros((4, 2)), recent_count=np.ones((4, 1))
    ),
    "has recent .7,.* of": lambda h, a: a.update(
        recent=np.zeros(7), recent_count=np.ones((4, 1))
    ),
    "lacks recent or recent_count": lambda h, a: a.update(recent=np.zeros(8)),
    "recent values that fall": lambda h, a: a.update(
        recent=np.array([2.0, 1.0] * 4), recent_count=np.full((4, 1), 2.0)
    ),
    "another recent_count": lambda h, a: a.update(
        recent=np.zeros(8), recent_count=np.full((4, 1), 3.0)
    ),
    "a part of what was before": lambda h, a: a.update(weight_before=a["weight"]),
    "quantiles_before that fall": lambda h, a: a.update(
        weight_before=a["weight"], references_before=a["references"],
        quantiles_before=-a["quantiles"].T,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", POISONED)
def test_poisoned_files(tmp_path, X, reason):
    path = tmp_path / "fitted.npz"
    gm.GroupMapTransformer(n_quantiles=20).fit(X).save(path)
    rewritten(path, POISONED[reason])
    with pytest.raises(ValueError, match=rf"fitted\.npz: .*{reason}"):
        gm.GroupMapTransformer.load(path)


def test_truncated_and_foreign_files(tmp_path, X):
    path = tmp_path / "fitted.npz"
    gm.GroupMapTransformer(n_quantiles=20).fit(X).save(path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"fitted\.npz: is truncated, or no .npz file"):
            gm.GroupMapTransformer.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(flipped))
    with pytest.raises(ValueError, match=r"fitted\.npz: .*CRC"):
        gm.GroupMapTransformer.load(path)
    with pytest.raises(ValueError, match="is a directory"):
        gm.GroupMapTransformer.load(tmp_path)
    path.write_bytes(pickle.dumps({"quantiles": 1}))
    with pytest.raises(ValueError, match=r"fitted\.npz: is truncated, or no .npz file"):
        gm.GroupMapTransformer.load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"fitted\.npz: has no header of groupmap"):
        gm.GroupMapTransformer.load(path)
    with pytest.raises(ValueError, match=r"absent\.npz: there is no such file"):
        gm.GroupMapTransformer.load(tmp_path / "absent.npz")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


def test_nothing_is_unpickled(tmp_path, X):
    path = tmp_path / "fitted.npz"
    gm.GroupMapTransformer(n_quantiles=20).fit(X).save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["quantiles"] = np.array([Bomb()], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"fitted\.npz: .*allow_pickle"):
        gm.GroupMapTransformer.load(path)


def test_joblib_and_skops(X):
    fitted = gm.GroupMapTransformer(n_quantiles=20).fit(X)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).transform(X), fitted.transform(X))
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(fitted)
    trusted = skops.get_untrusted_types(data=content)
    assert all(each.startswith("groupmap.") for each in trusted)
    loaded = skops.loads(content, trusted=trusted)
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))


def test_only_files_are_replaced_and_links_stay(tmp_path, X):
    fitted = gm.GroupMapTransformer(n_quantiles=20).fit(X)
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    target.touch(mode=0o600)
    link.symlink_to(target.name)
    fitted.save(link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    gm.GroupMapTransformer.load(target)
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    for place in (folder, pipe):
        with pytest.raises(ValueError, match="it is there, and no file"):
            fitted.save(place)
    assert pipe.is_fifo()
    new = tmp_path / "new.npz"
    fitted.save(new)
    (tmp_path / "as open makes it").touch()
    assert new.stat().st_mode == (tmp_path / "as open makes it").stat().st_mode
