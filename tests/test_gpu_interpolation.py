"""Interpolation between knots by the kernels for GPUs, which an emulation runs, bit for bit."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import groupmap as gm
from tests import cuda_emulation
from tests.backends import no_kernels
from tests.emulated_gpu import emulated_gpu

torch = pytest.importorskip("torch")
if not cuda_emulation.AVAILABLE:
    pytest.skip("needs g++", allow_module_level=True)

import array_api_compat.torch as xp_torch  # noqa: E402  # there now

from groupmap import interpolation  # noqa: E402
from groupmap.backends.cuda import interpolating, launching  # noqa: E402
from groupmap.backends.cuda.programs import Program, numbers_of  # noqa: E402
from groupmap.backends.torch import OPS  # noqa: E402

SEEDS = [0, 1, 5]
INF, NAN = float("inf"), float("nan")
ON_RUNS = [*interpolating.ON_RUNS]


def doubles(values):
    return torch.as_tensor(values, dtype=torch.float64)


def by_library_ops(x, knots, values, on_runs):
    return interpolation._interpolated(x, knots, values, on_runs=on_runs, xp=xp_torch, ops=OPS)


def by_kernel(x, knots, values, on_runs="middle", **options):
    """What the core's own function finds, if a kernel serves it."""
    with emulated_gpu(**options):
        native = OPS.interpolator(knots, values, on_runs)
        found = native(x)
    assert found is not None
    assert (found.shape, found.dtype) == (x.shape, torch.float64)
    return found


def check(x, knots, values, *, on_runs=ON_RUNS, **options):
    for rule in on_runs:
        found = by_kernel(x, knots, values, rule, **options)
        expected = by_library_ops(x.double(), knots, values, rule)
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), err_msg=rule)


def beside(knots):
    """On the knots, just beside them, far away, at no number."""
    knots = doubles(knots)
    ends = doubles([-INF, INF, NAN, -0.0, 0.0, -1e300, 1e300])
    ends = ends.expand(*knots.shape[:-1], len(ends))
    near = [torch.nextafter(knots, doubles(end)) for end in (-INF, INF)]
    middles = knots[..., 1:] / 2 + knots[..., :-1] / 2
    return torch.cat([knots, *near, middles, ends], dim=-1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "knots",
    [
        [3.0],
        [-1.0, 2.0],
        [2.0, 2.0],
        [1.0, 1.0, 1.0, 2.0, 3.0, 4.0],
        [0.0, 1.0, 1.0, 1.0, 1.0, 3.0],
        [0.0, 1.0, 2.0, 2.0, 2.0],
        [0.0, 0.0, 1.0, 1.0, 2.0, 2.0],
        [7.0] * 9,
        [-0.0, 0.0, 5e-324, 1e-323],
        [-1.7e308, -1e308, 0.0, 1e308, 1.7e308],
        [-INF, -1.0, 0.0, 1.0, INF],
        [-INF, -INF, 0.0, 0.0, INF, INF],
    ],
    ids=str,
)
def test_at_and_beside_knots(knots, seed):
    values = torch.linspace(0, 1, len(knots), dtype=torch.float64)
    check(beside(knots), doubles(knots), values, seed=seed)
    if np.all(np.isfinite(knots)):  # the inverse
        check(beside(values), values, doubles(knots), seed=seed)


ROWS = st.tuples(st.integers(1, 4), st.integers(1, 40)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays("float64", shape, elements=st.floats(-9, 9, width=16)),
        hnp.arrays("float64", shape, elements=st.floats(-1e3, 1e3)),
        hnp.arrays(
            "float64",
            st.tuples(st.just(shape[0]), st.integers(0, 50)),
            elements=st.floats(-10, 10, width=16) | st.floats(),
        ),
    )
)


@given(ROWS, st.sampled_from(ON_RUNS), st.integers(0, 99), st.booleans())
def test_any_rows(rows, on_runs, seed, at_knots):
    knots, values, x = (doubles(each) for each in rows)
    knots, values = (torch.sort(each, dim=-1).values for each in (knots, values))
    check(beside(knots) if at_knots else x, knots, values, on_runs=[on_runs], seed=seed)


@given(ROWS, st.integers(0, 99))
def test_order_statistics(rows, seed):
    _, values, index = (doubles(each) for each in rows)
    values = torch.sort(values, dim=-1).values
    index = torch.nan_to_num(index, nan=0.5)
    for one, at in ((values, index), (values[0], index), (values.float(), index)):
        expected = interpolation.order_statistics(one, at, xp_torch, OPS)
        with emulated_gpu(seed=seed):
            found = OPS.order_statistics(one, at)
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def ascending(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return doubles(np.sort(rng.normal(size=shape).round(2), axis=-1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("groups", "n", "k"), [(1, 3000, 1000), (3, 700, 2), (5, 1, 300)])
def test_knots_that_fit_shared_memory_and_knots_of_which_some_do(groups, n, k, seed):
    knots, values = ascending(groups, k), ascending(groups, k, seed=1)
    x = doubles(np.random.default_rng(2).normal(size=(groups, n)))
    check(x, knots, values, seed=seed)


def test_more_knots_than_fit_shared_memory(rng):
    k = 9001
    knots, values = ascending(2, k), ascending(2, k, seed=1)
    x = torch.cat([doubles(rng.normal(size=(2, 6000)).round(3)), knots], dim=-1)
    check(x, knots, values, limits=(40_000, 2))
    check(x[0], knots[0], values[0], limits=(40_000, 1), seed=7)


def test_what_a_block_needs_is_little():
    with emulated_gpu():
        for n_rows, n, k in [(1, 1, 1), (1, 10**7, 10**6), (10**6, 3, 50), (7, 10**5, 4096)]:
            plan = interpolating.plan_for(n_rows, n, k, 0)
            assert (plan.stretches - 1) * plan.entries < n <= plan.stretches * plan.entries
            assert plan.shared_bytes(k) <= launching.SHARED_MEMORY_UNASKED


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_x(dtype):
    x = torch.linspace(-3, 3, 101).to(dtype)
    check(x, ascending(40), ascending(40, seed=1))


def test_x_that_is_not_contiguous(rng):
    x = doubles(rng.normal(size=(50, 2, 3))).permute(1, 2, 0)
    knots, values = ascending(2, 3, 20), ascending(2, 3, 20, seed=1)
    check(x, knots, values)
    check(x[..., ::2], knots.expand(2, 3, 20), values[:, :1].expand(2, 3, 20))
    check(x, knots[0, 0], values[0, 0])


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5)])
def test_nothing_is_asked(shape):
    knots = torch.zeros((*shape[:-1], 4), dtype=torch.float64)
    assert by_kernel(torch.zeros(shape, dtype=torch.float64), knots, knots).shape == shape


def test_what_is_left_to_the_library_ops():
    knots, x = ascending(3, 9), doubles(np.zeros((3, 5)))
    with no_kernels():
        assert OPS.interpolator(knots, knots, "middle") is None  # on no GPU
    with emulated_gpu():
        assert OPS.interpolator(knots.float(), knots.float(), "middle") is None
        assert OPS.interpolator(knots.requires_grad_(), knots, "middle") is None
        with torch.no_grad():
            native = OPS.interpolator(knots, knots, "middle")
            assert native(x) is not None
        assert native(x) is None
        native = OPS.interpolator(knots.detach(), knots.detach(), "middle")
        for other in (x.clone().requires_grad_(), x[:2], x.long()):
            assert native(other) is None
        assert torch.vmap(lambda row: row + (native(row) is None))(x).eq(1).all()
        assert OPS.order_statistics(knots, x) is None
        assert OPS.order_statistics(knots.detach(), x.float()) is None
        assert OPS.order_statistics(knots.detach(), x) is not None


def test_gradients_are_those_of_the_library_ops():
    knots = ascending(9)

    def gradients():
        x, heights = (leaf.clone().requires_grad_() for leaf in (ascending(20, seed=3), knots))
        y = interpolation.interpolate(x, knots, heights, xp=xp_torch, ops=OPS)
        return torch.autograd.grad(y.square().sum(), (x, heights))

    expected = gradients()
    with emulated_gpu():
        found = gradients()
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other, rtol=0, atol=0)


def with_and_without_emulation(function):
    expected = function()
    with emulated_gpu(seed=3):
        found = function()
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.fixture
def count_launches(monkeypatch):
    """How often each of the two functions came to a kernel."""
    launched = []
    for name in ("interpolate", "order_statistics"):
        function = getattr(interpolating, name)

        def counted(*arguments, name=name, function=function):
            launched.append(name)
            return function(*arguments)

        monkeypatch.setattr(interpolating, name, counted)
    return launched


@pytest.mark.parametrize("tails", ["clip", "linear"])
@pytest.mark.parametrize("n_quantiles", [None, 1, 21])
def test_fitted_cdfs(rng, n_quantiles, tails, count_launches):
    data = doubles(rng.normal(size=(60, 3)).round(1))
    data[:10, 1], data[:, 2] = NAN, NAN
    x = doubles(rng.normal(size=(80, 3)).round(1) * 2)
    x[5] = NAN

    def fit(n=n_quantiles):
        return gm.EmpiricalCDF.fit(data, axis=0, n_quantiles=n, tails=tails)

    with_and_without_emulation(lambda: fit().values)
    with_and_without_emulation(lambda: fit().cdf(x))
    with_and_without_emulation(lambda: fit().ppf(x.abs() / 4))
    with_and_without_emulation(lambda: fit(5).merge(fit(7)).values)
    assert "interpolate" in count_launches


def test_match_quantiles(rng, count_launches):
    source, reference = (doubles(rng.normal(size=(4, n)).round(1)) for n in (50, 33))
    source[0, 0] = NAN
    with_and_without_emulation(lambda: gm.match_quantiles(source, reference))
    with_and_without_emulation(lambda: gm.match_quantiles(source, reference[0]))
    with_and_without_emulation(lambda: gm.quantile_map(source, reference[0], positions="hazen"))
    assert "order_statistics" in count_launches


def test_transformers_of_tensors(rng, count_launches):
    pytest.importorskip("sklearn")
    table = doubles(rng.normal(size=(200, 3)).round(1))

    def mapped(there_and_back):
        fitted = gm.GroupMapTransformer(n_quantiles=50).fit(table)
        y = fitted.transform(table)
        return fitted.inverse_transform(y) if there_and_back else y

    for there_and_back in (False, True):
        # The target's quantiles are computed otherwise on a GPU, the probabilities are not.
        expected = mapped(there_and_back)
        with emulated_gpu():
            found = mapped(there_and_back)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert "interpolate" in count_launches


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("kernel", ["interpolate", "order_statistics"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_compiles(kernel, architecture, dtype):
    if find_spec("cuda") is None or find_spec("cuda.core") is None:
        pytest.skip("cuda.core is not installed")
    for threads in (32, 256):
        names = interpolating._names(numbers_of(dtype), threads)
        program = Program(kernel, interpolating.FILES, names)
        assert launching.compiled(program, architecture).code
