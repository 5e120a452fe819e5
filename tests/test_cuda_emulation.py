"""The emulator of CUDA: what it runs, and what it refuses."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests import cuda_emulation

if not cuda_emulation.AVAILABLE:
    pytest.skip("needs g++", allow_module_level=True)

SEEDS = [0, 1, 2, 3, 17]

SOURCE = r"""
extern __shared__ __align__(16) unsigned char dynamic_shared[];

__device__ __forceinline__ int sum_of_warp(int value) {
    for (int offset = 16; offset; offset /= 2) value += __shfl_down_sync(~0u, value, offset);
    return value;
}

extern "C" __global__ void __launch_bounds__(1024) reduce_and_scan(
    const int* __restrict__ values, int* total, int* scan) {
    int* sums = reinterpret_cast<int*>(dynamic_shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int running = values[threadIdx.x];
    const int sum = sum_of_warp(running);
    if (lane == 0) sums[warp] = sum;
    for (int offset = 1; offset < 32; offset *= 2) {
        const int below = __shfl_up_sync(~0u, running, offset);
        if (lane >= offset) running += below;
    }
    __syncthreads();
    if (warp == 0) {
        const int whole = sum_of_warp(lane < warps ? sums[lane] : 0);
        if (lane == 0) *total = whole;
    }
    for (int before = 0; before < warp; ++before) running += sums[before];
    scan[threadIdx.x] = running;
}

extern "C" __global__ void count_digits(const int* digits, unsigned* counts) {
    const int digit = digits[threadIdx.x], lane = threadIdx.x % 32;
    const unsigned equal = __match_any_sync(~0u, digit);
    if (lane == __ffs(equal) - 1) atomicAdd(counts + digit, __popc(equal));
}

extern "C" __global__ void race(int* last) { *last = threadIdx.x; }

extern "C" __global__ void read_uninitialised(unsigned* words) {
    words[threadIdx.x] = reinterpret_cast<unsigned*>(dynamic_shared)[threadIdx.x];
}

extern "C" __global__ void lose_updates(int* count) {
    const int seen = atomicAdd(count, 0);
    atomicExch(count, seen + 1);
}

extern "C" __global__ void await_flag(int* flag) {
    if (threadIdx.x == 1) atomicExch(flag, 1);
    else while (atomicAdd(flag, 0) == 0) {}
}

extern "C" __global__ void half_at_barrier() { if (threadIdx.x < blockDim.x / 2) __syncthreads(); }

extern "C" __global__ void two_barriers() {
    if (threadIdx.x) __syncthreads();
    else __syncthreads_or(1);
}

extern "C" __global__ void lane_returns() {
    if (threadIdx.x == 5) return;
    __syncwarp();
}

extern "C" __global__ void two_operations() {
    if (threadIdx.x == 5) __ballot_sync(~0u, 1);
    else __syncwarp();
}

extern "C" __global__ void foreign_mask() { __syncwarp(1u); }

extern "C" __global__ void write_shared(int at) {
    extern __shared__ __align__(16) unsigned char dynamic_shared[];
    if (threadIdx.x == 0) dynamic_shared[at] ^= 1;
}

extern "C" __global__ void overflow_stack(int bytes, char* out) {
    volatile char* wide = static_cast<char*>(__builtin_alloca(bytes));
    for (int at = bytes; at-- > 0;) wide[at] = 1;
    out[threadIdx.x] = wide[0];
}

extern "C" __global__ void write_indices(int* out) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

extern "C" __global__ void wide_arguments(
    long long a, unsigned long long b, double c, float d, long long* out) {
    out[0] = a;
    out[1] = b;
    out[2] = __double_as_longlong(c);
    out[3] = __float_as_uint(d);
    out[4] = __shfl_xor_sync(~0u, a + threadIdx.x, 3);
    out[5] = __double_as_longlong(__shfl_sync(~0u, c * threadIdx.x, 2));
}

extern "C" __global__ void divergent_groups(int* out) {
    const int lane = threadIdx.x;
    int value = lane;
    if (lane < 8) for (int i = 0; i < 5; ++i) value = __shfl_xor_sync(0xffu, value, 1);
    else if (lane < 20) value = __reduce_add_sync(0xfff00u, value);
    else value = __any_sync(0xfff00000u, lane == 25) + 2 * __all_sync(0xfff00000u, lane == 25);
    out[lane] = value;
    out[32 + lane] = __shfl_down_sync(~0u, lane, 3, 8);
    out[64 + lane] = __shfl_up_sync(~0u, lane, 3, 8);
    out[96 + lane] = __shfl_sync(~0u, lane, 13, 8);
    out[128 + lane] = __ballot_sync(~0u, lane % 2);
    out[160 + lane] = __reduce_min_sync(~0u, unsigned(lane - 1)) + __reduce_max_sync(~0u, -lane);
}

extern "C" __global__ void predicates(int* out) {
    const int thread = threadIdx.x;
    const int some = __syncthreads_or(thread == 40), all = __syncthreads_and(thread >= 1);
    out[thread] = 1000 * __syncthreads_count(thread < 33) + 10 * some + all;
}

extern "C" __global__ void intrinsics(double* out) {
    int i = 0;
    out[i++] = __clz(1) + __clz(0) + __clzll(1) + __popcll(~0ull) + __ffsll(8);
    out[i++] = __brev(1) == 0x80000000u && __umulhi(1u << 31, 6) == 3;
    out[i++] = __umul64hi(1ull << 63, 6);
    out[i++] = min(3, -4);
    out[i++] = max(-1, 2u) == 0xffffffffu;
    out[i++] = max(NAN, 2.0) + min(1.0f, NAN);
    out[i++] = 1 / min(0.0f, -0.0f);
    const uint4 four = make_uint4(1, 2, 3, 4);
    out[i++] = __ldg(&four.w) + sizeof(float2) + alignof(float4);
    int exponent;
    out[i++] = frexp(40.0, &exponent) + exponent + ldexp(1.0, 3) + rint(2.5) + floorf(1.5f);
    out[i++] = isnan(NAN) + isinf(INFINITY) + isfinite(1.0) + fabs(-1.0);
}
"""

KERNELS = [
    "reduce_and_scan", "count_digits", "race", "read_uninitialised", "lose_updates", "await_flag",
    "half_at_barrier", "two_barriers", "lane_returns", "two_operations", "foreign_mask",
    "write_shared", "overflow_stack", "write_indices", "wide_arguments", "divergent_groups",
    "predicates", "intrinsics",
]  # fmt: skip


def pointer(array):
    """The argument for an array."""
    return array.ctypes.data_as(ctypes.c_void_p)


@pytest.fixture(scope="module", params=[{}, {"EMULATE_WITH_UCONTEXT": "1"}], ids=["own", "libc"])
def module(request):
    """The kernels above, with either way to switch stacks."""
    return cuda_emulation.compile(SOURCE, KERNELS, request.param)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threads", [32, 256, 1024])
def test_reduction_and_scan(module, threads, seed):
    values = np.random.default_rng(0).integers(-99, 99, threads, dtype=np.int32)
    total, scan = np.zeros(1, np.int32), np.zeros_like(values)
    args = [pointer(values), pointer(total), pointer(scan)]
    module.launch("reduce_and_scan", 1, threads, 128, args, seed)
    assert total == values.sum()
    np.testing.assert_array_equal(scan, values.cumsum())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("switch_at_atomics", [False, True])
def test_aggregated_atomics(module, seed, switch_at_atomics):
    digits = np.random.default_rng(0).integers(0, 10, 512, dtype=np.int32)
    counts = np.zeros(10, np.uint32)
    args = [pointer(digits), pointer(counts)]
    module.launch("count_digits", 1, 512, 0, args, seed, switch_at_atomics)
    np.testing.assert_array_equal(counts, np.bincount(digits))


def test_seed_shows_race(module):
    last = np.zeros(1, np.int32)
    seen = []
    for seed in [0, 1, 2, 3, 4, 5, 2]:
        module.launch("race", 1, 96, 0, [pointer(last)], seed)
        seen.append(int(last[0]))
    assert seen[:2] == [95, 0]
    assert len(set(seen)) > 3
    assert seen[-1] == seen[2]


def test_uninitialised_memory_is_garbage(module):
    words = np.zeros((2, 64), np.uint32)
    for seed, row in enumerate(words):
        module.launch("read_uninitialised", 1, 64, 256, [pointer(row)], seed)
    assert len(np.unique(words)) == 128


def test_switch_at_atomics_loses_updates(module):
    count = np.zeros(1, np.int32)
    module.launch("lose_updates", 1, 64, 0, [pointer(count)])
    assert count == 64
    count[:] = 0
    module.launch("lose_updates", 1, 64, 0, [pointer(count)], switch_at_atomics=True)
    assert count < 64


def test_wait_for_another_thread(module):
    flag = np.zeros(1, np.int32)
    module.launch("await_flag", 1, 64, 0, [pointer(flag)], switch_at_atomics=True)
    flag[:] = 0
    with pytest.raises(RuntimeError, match=r"thread \(0, 0, 0\): .* it spins"):
        module.launch("await_flag", 1, 64, 0, [pointer(flag)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("half_at_barrier", "32 wait at __syncthreads, 32 have returned"),
        ("two_barriers", "while other threads wait at __syncthreads"),
        ("lane_returns", "names lanes which have returned|wait at __syncwarp for lanes 0x00000020"),
        ("two_operations", "while other lanes of the mask 0xffffffff wait at"),
        ("foreign_mask", "lacks its own lane"),
    ],
)
def test_misuse_is_an_error(module, kernel, message, seed):
    with pytest.raises(RuntimeError, match=message):
        module.launch(kernel, 2, 64, 0, [], seed)


def test_mask_beyond_the_block(module):
    with pytest.raises(RuntimeError, match="names lanes which the block does not have"):
        module.launch("lane_returns", 1, 20, 0, [])


def test_write_past_shared_memory(module):
    module.launch("write_shared", 3, 32, 100, [ctypes.c_int(99)])
    for at in [100, 4000]:
        with pytest.raises(RuntimeError, match=f"wrote past its shared memory, at byte {at}$"):
            module.launch("write_shared", 3, 32, 100, [ctypes.c_int(at)])


READS_FAR_AWAY = """
import ctypes
from tests import cuda_emulation

module = cuda_emulation.compile(
    'extern "C" __global__ void touch(int at) {'
    "    extern __shared__ unsigned char dynamic_shared[];"
    "    ((int*)dynamic_shared)[0] = ((int*)dynamic_shared)[at];"
    "}",
    ["touch"],
)
module.launch("touch", 1, 1, 200_000, [ctypes.c_int(2_000)])
module.launch("touch", 1, 1, 100, [ctypes.c_int(20)])
print("so far", flush=True)
module.launch("touch", 1, 1, 100, [ctypes.c_int(70_000)])
print("too far")
"""


def test_what_reads_far_behind_shared_memory_ends():
    """As on a GPU; nearer by it reads what is none of its own."""
    command = [sys.executable, "-c", READS_FAR_AWAY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == "so far\n"


def test_stack_overflow(module):
    out = np.zeros(4, np.int8)
    module.launch("overflow_stack", 1, 4, 0, [ctypes.c_int(60_000), pointer(out)])
    with pytest.raises(RuntimeError, match="more than 65536 bytes of stack"):
        module.launch("overflow_stack", 1, 4, 0, [ctypes.c_int(65_600), pointer(out)])


@pytest.mark.parametrize("seed", SEEDS)
def test_indices(module, seed):
    out = np.zeros((24, 120), np.int32)
    module.launch("write_indices", (2, 3, 4), (4, 5, 6), 0, [pointer(out)], seed)
    np.testing.assert_array_equal(out, 1000 * np.arange(24)[:, None] + np.arange(120))


def test_wide_arguments(module):
    out = np.zeros(6, np.int64)
    a, b, c, d = -(2**62) - 5, 2**63 + 7, 1 / 3, 1.5
    args = [ctypes.c_longlong(a), ctypes.c_ulonglong(b), ctypes.c_double(c), ctypes.c_float(d)]
    module.launch("wide_arguments", 1, 32, 0, [*args, pointer(out)])
    assert out[0] == a
    assert out[1:2].view(np.uint64) == b
    assert out[2:3].view(np.float64) == c
    assert out[3] == np.float32(d).view(np.uint32)
    assert out[4] == a + 28
    assert out[5:6].view(np.float64) == c * 2


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_of_lanes(module, seed):
    out = np.zeros((6, 32), np.int32)
    module.launch("divergent_groups", 1, 32, 0, [pointer(out)], seed)
    lane = np.arange(32)
    shuffled = np.where(lane < 8, lane ^ 1, np.where(lane < 20, sum(range(8, 20)), 1))
    down, up = np.where(lane % 8 < 5, lane + 3, lane), np.where(lane % 8 > 2, lane - 3, lane)
    # The unsigned minimum is 0, of lane 1; the signed maximum 0, of lane 0.
    expected = [shuffled, down, up, lane // 8 * 8 + 5, 0 * lane + 0xAAAAAAAA - 2**32, 0 * lane]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_predicates_of_block(module, seed):
    out = np.zeros(64, np.int32)
    module.launch("predicates", 1, 64, 0, [pointer(out)], seed)
    assert set(out) == {33_010}


def test_intrinsics(module):
    out = np.zeros(10)
    module.launch("intrinsics", 1, 1, 0, [pointer(out)])
    sums = [31 + 32 + 63 + 64 + 4, 1, 3, -4, 1, 3, -np.inf, 4 + 8 + 16, 0.625 + 6 + 8 + 2 + 1, 4]
    np.testing.assert_array_equal(out, sums)


def test_arguments_are_checked(module):
    with pytest.raises(TypeError, match=r"race takes arguments of \[8\] bytes, not of \[4\]"):
        module.launch("race", 1, 32, 0, [ctypes.c_int(0)])


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes"), [(0, 32, 0), (1, 1025, 0), (1, 32, 300_000)]
)
def test_impossible_launch(module, grid, block, shared_bytes):
    with pytest.raises(RuntimeError, match="no launch of"):
        module.launch("half_at_barrier", grid, block, shared_bytes, [])


def test_compiler_errors_have_the_lines_of_the_source():
    with pytest.raises(RuntimeError, match=r"kernels\.cu:2:"):
        cuda_emulation.compile('\nextern "C" __global__ void broken() { nonsense; }', ["broken"])


def test_static_shared_memory_is_refused():
    source = 'extern "C" __global__ void fixed() { __shared__ int sums[32]; sums[0] = 1; }'
    with pytest.raises(ValueError, match=r"must be dynamic, that is extern: __shared__ int sums"):
        cuda_emulation.compile(source, ["fixed"])


def test_name_of_shared_memory():
    source = """// one name alone, not for __shared__ memory of each type
    extern "C" __global__ void other() { extern __shared__ int sums[]; sums[0] = 1; }"""
    with pytest.raises(RuntimeError, match=r"undefined reference to [`']sums'"):
        cuda_emulation.compile(source, ["other"])
