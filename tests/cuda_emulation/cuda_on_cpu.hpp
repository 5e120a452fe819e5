// In front of CUDA C++ source, lets g++ compile its kernels for EMULATED_KERNEL to launch.
#pragma once

#include "intrinsics.hpp"
#include "launch.hpp"
#include "warp_operations.hpp"

// After all headers: those of the standard library use some of these names as attributes.
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __constant__ const
#define __forceinline__ inline
#define __noinline__
// The threads are one to the compiler, for which restrict would hide what the others write.
#define __restrict__
#define __restrict
#define __shared__
