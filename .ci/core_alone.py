"""With the core dependencies alone, importing and mapping work and nothing else comes in."""

import importlib.util
import sys

OPTIONAL = ("torch", "cupy", "sklearn", "numba", "jax", "dask", "matplotlib", "rich")

for name in OPTIONAL:
    assert importlib.util.find_spec(name) is None, f"{name} is installed: this proves nothing"

import numpy as np  # noqa: E402 (after the look at what is installed)

import groupmap as gm  # noqa: E402

assert "scipy" not in sys.modules
np.testing.assert_array_equal(
    gm.quantile_map(np.array([3.0, 10.0, -2.0]), "uniform"), [0.5, 1.0, 0.0]
)
assert "scipy" not in sys.modules
assert gm.quantile_map(np.arange(5.0))[2] == 0.0
assert gm.EmpiricalCDF.fit(np.arange(5.0)).cdf(np.array([2.0]))[0] == 0.5
for layer in ("GroupMap", "GroupMapTransformer"):
    said = ""
    try:
        getattr(gm, layer)
    except ModuleNotFoundError as error:
        said = str(error)
    assert "pip install 'groupmap[" in said, f"{layer} came without what it needs: {said!r}"
names: dict[str, object] = {}
exec("from groupmap import *", names)
assert {"quantile_map", "EmpiricalCDF"} <= set(names)
assert "GroupMap" not in names
help(gm)
assert not set(OPTIONAL) & set(sys.modules)
print("the core stands alone")
