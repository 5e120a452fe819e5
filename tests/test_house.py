"""The house: what importing brings in, which way data flow, and which names are public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import groupmap as gm

PACKAGE = Path(gm.__file__).parent

# From the ground up. A module imports from its own storey or from below, never from above.
KERNELS = "backends.kernels.*"  # those that have no storey of their own
STOREYS = (
    {"_typing", "counts", "files"},
    {"backends._bits", "backends._layout", "backends.kernels.threads"},
    {"backends.kernels"},
    {"backends._ops", "backends._normal"},
    {KERNELS},
    {"backends.generic", "backends.cuda", "backends.cuda.programs"},
    {"backends.cuda.launching", "backends.cuda.requests"},
    {"backends.cuda.partitions", "backends.cuda.plans"},
    {"backends.cuda.short_rows", "backends.cuda.long_rows"},
    {"backends.cuda.ranking"},
    {"backends.cuda.tables", "backends.cuda.estimating", "backends.cuda.interpolating",
     "backends.cuda.scaling"},
    {"backends.cuda.on_arrays"},
    {"backends.cuda.steps"},
    {"backends", "backends.numpy", "backends.numpy_incomplete", "backends.numpy_normal",
     "backends.numpy_sorts", "backends.torch", "backends.torch_kernels", "backends.torch_cuda",
     "backends.torch_estimates", "backends.torch_scaling", "backends.torch_sorts",
     "backends.torch_tracing", "backends.torch_connection", "backends.torch_random",
     "backends.torch_portable", "backends.cupy", "backends.jax", "backends.dask"},
    {"dtypes", "incomplete", "positions", "windows"},
    {"interpolation", "targets"},
    {"references", "ranks", "sorted_rows"},
    {"user_targets"},
    {"tables", "gradients"},
    {"mapping"},
    {"grouping", "feature_groups"},
    {"samples", "weighted", "steps"},
    {"knots", "pipeline"},
    {"cdf", "functional", "learned", "fitted_map", "table_input"},
    {"matching", "nn._libraries", "nn._piecewise", "nn._pooling", "nn._nested", "nn._replacing",
     "nn._sharded"},
    {"nn._targets"},
    {"nn._base", "nn._running", "nn._moments", "nn.frozen"},
    {"nn._channels", "nn.group", "nn.layer", "nn.monotone"},
    {"nn.batch", "nn.instance"},
    {"nn.sync"},
    {"nn.convert"},
    {"nn"},
    {"fitting"},
    {"transformer", "saved"},
    {"table_functions"},
    {""},  # the package itself, which gathers the public names
    {"plots", "demo", "cli", "__main__"},
)  # fmt: skip
STOREY_OF = {module: height for height, modules in enumerate(STOREYS) for module in modules}


def is_kernel(module):
    return module.startswith(KERNELS.removesuffix("*"))


def storey_of(module):
    """Its storey, or that of the kernels; None where it has none."""
    return STOREY_OF.get(module, STOREY_OF[KERNELS] if is_kernel(module) else None)


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in PACKAGE.rglob("*.py")}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("groupmap"):
            below = node.module.removeprefix("groupmap").lstrip(".")
            for alias in node.names:
                inner = f"{below}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else below
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("groupmap"), f"{path}: import {alias.name}"


def test_libraries_may_be_stand_ins():
    """As where documentation is built without them."""
    code = """
import sys, types
from unittest import mock
sys.modules.update(torch=mock.MagicMock(), sklearn=None)
import groupmap
print("GroupMap" in groupmap.__all__, "GroupMapTransformer" in groupmap.__all__)
"""
    assert run(code) == "True False"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_nothing_imports_upward(path):
    name = module_name(path)
    assert storey_of(name) is not None, f"{name} has no storey; give it one"
    for imported in imports_of(path):
        assert storey_of(imported) <= storey_of(name), f"{name} imports {imported} from above"


def test_all_storeys_are_of_modules_that_exist():
    assert {*STOREY_OF} - {KERNELS} == {name for name in MODULES if not is_kernel(name)} | {
        "backends.kernels.threads"
    }


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_the_core_knows_no_library(path):
    """Only the backends, and the faces made for one library, import it."""
    module = module_name(path)
    allowed = {
        "backends.cuda.launching": {"cuda"}, "backends.cupy": {"cupy", "cupyx"},
        "backends.jax": {"jax"}, "backends.dask": {"dask"},
        "transformer": {"sklearn"}, "table_input": {"sklearn"}, "fitting": {"sklearn"},
        "demo": {"torch", "sklearn"},
    }.get(module, set())  # fmt: skip
    if module.startswith(("nn", "backends.torch")):
        allowed = {"torch"}
    elif is_kernel(module):
        allowed = {"numba"}
    libraries = {"torch", "cuda", "cupy", "cupyx", "jax", "dask", "sklearn", "numba"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
        else:
            continue
        assert not (names & libraries) - allowed


COMPILED = ("kernel", "part", "inlined")


def compiled_by(function):
    """The name of what compiles a function; None where nothing does."""
    names = (each.id for each in function.decorator_list if isinstance(each, ast.Name))
    return next((name for name in names if name.endswith(COMPILED)), None)


def parts_of(module, tree):
    """The parts of kernels that a module defines, or makes of its functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and (compiled_by(node) or "").endswith("part"):
            yield module, node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made_by = getattr(node.value.func, "id", "")
            yield from ((module, each.id) for each in node.targets if made_by.endswith("part"))


def used_by_python(module, tree):
    """What a module names outside of compiled functions: ``(module, name)``."""
    imported = {
        alias.asname or alias.name: (node.module.removeprefix("groupmap."), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef) and compiled_by(node):
            continue
        todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield imported.get(node.id, (module, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield ".".join(imported.get(node.value.id, ())), node.attr


def called_parts(trees):
    parts = {part for module, tree in trees.items() for part in parts_of(module, tree)}
    assert len(parts) > 40
    return parts & {used for module, tree in trees.items() for used in used_by_python(module, tree)}


def test_parts_of_kernels_are_called_by_kernels():
    """From Python, one would end the process."""
    trees = {module_name(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert not called_parts(trees)
    below = "groupmap.backends.kernels"
    for calling in (
        f"from {below} import sampling\nsampling.sampled_index(0, 1, 1)",
        f"from {below}.sampling import sampled_index as at\nat(0, 1, 1)",
        f"def f():\n    from {below}.runs import merge_sort\n    return merge_sort",
    ):
        assert called_parts({**trees, "cli": ast.parse(calling)})


def test_importing_brings_in_nothing_heavy():
    heavy = ("torch", "cupy", "sklearn", "numba", "scipy", "jax", "dask", "matplotlib", "rich")
    code = f"import groupmap, sys; print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"


def test_importing_is_quick():
    """Counted in modules, since no test asserts a time; benchmarks/import_time.py has the time."""
    beyond_numpy = run(
        "import numpy, sys; before = set(sys.modules); import groupmap;"
        "print(len(set(sys.modules) - before))"
    )
    assert int(beyond_numpy) < 60


def test_a_numpy_map_brings_in_no_other_library():
    code = (
        "import groupmap as gm, numpy as np, sys; gm.quantile_map(np.arange(5.0));"
        "gm.match_quantiles(np.arange(5.0), np.arange(3.0)); gm.EmpiricalCDF.fit(np.arange(5.0));"
        "print([m for m in ('torch', 'sklearn', 'numba', 'jax', 'dask') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_a_map_without_special_functions_brings_in_no_scipy():
    code = (
        "import groupmap as gm, numpy as np, sys; gm.quantile_map(np.arange(5.0), 'uniform');"
        "print('scipy' in sys.modules)"
    )
    assert run(code) == "False"


def test_public_names_are_there_and_documented():
    for name in gm.__all__:
        assert getattr(gm, name).__doc__
    assert set(gm.__all__) <= set(dir(gm))
    reference = (PACKAGE.parent / "docs" / "api.md").read_text()
    documented = {
        line.removeprefix("### `").partition("`")[0].partition("(")[0]
        for line in reference.splitlines()
        if line.startswith("### `")
    }
    assert documented == set(gm.__all__)


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'GroupNorm'"):
        _ = gm.GroupNorm


@pytest.mark.parametrize(
    ("absent", "name", "extra"),
    [("torch", "GroupMap", "torch"), ("sklearn", "GroupMapTransformer", "sklearn")],
)
def test_what_is_missing_is_said_plainly(absent, name, extra):
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        f"import groupmap\n"
        f"try: groupmap.{name}\n"
        f"except ModuleNotFoundError as error: print(error)"
    )
    said = run(code)
    assert f"groupmap.{name} needs {absent}" in said
    assert f"pip install 'groupmap[{extra}]'" in said


def test_no_dangerous_loading():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for danger in ("pickle.load", "allow_pickle=True", "weights_only=False"):
            assert danger not in text, f"{path.name}: {danger}"
