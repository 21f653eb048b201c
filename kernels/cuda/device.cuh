// What every kernel file includes first. Kernels are portable CUDA: shared memory by the macros
// below, launches by launch.cuh, special instructions by ptx.cuh; no cooperative groups, no
// __device__ or __constant__ variables, large arguments by `const __grid_constant__` structs.
// Then the same source is compiled by the host's compiler, where a prelude of
// tests/cuda_emulation, given on its command line, defines what stands under __CUDACC__ here.
#pragma once

#ifdef __CUDACC__
#include "kernels/cuda/ptx.cuh"

// TANDEM_SHARED(float, sums, [32]); is `__shared__ float sums[32];`
#define TANDEM_SHARED(type, name, dims) __shared__ type name dims
// The launch's dynamic shared memory, as bytes, aligned to 128.
#define TANDEM_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif
