// CUDA's built-in variables, of the thread that runs now on this OS thread.
#pragma once

#include <cuda_runtime_api.h>

extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local uint3 blockDim;
extern constinit thread_local uint3 gridDim;
inline constexpr int warpSize = 32;
