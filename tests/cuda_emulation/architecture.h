// The limits of the GPU that is emulated (Options::arch), from NVIDIA's table of compute
// capabilities.
#pragma once

#include <driver_types.h>

#include <cstddef>

#include "tests/cuda_emulation/grid.h"

namespace tandem::emulation {

struct Architecture {
  int capability;  // 90: 9.0
  const char* name;
  int multiprocessors;
  int threads_per_multiprocessor;
  int blocks_per_multiprocessor;
  size_t shared_per_multiprocessor;
  size_t shared_per_block;  // after opting in
};

inline constexpr size_t kSharedWithoutOptIn = 48 << 10;
inline constexpr size_t kReservedSharedPerBlock = 1 << 10;
inline constexpr int kMaxThreadsPerBlock = 1024;

const Architecture& TheArchitecture();

void FillProperties(cudaDeviceProp& properties, int device);
cudaError_t DeviceAttribute(int* value, cudaDeviceAttr attribute, int device);

// cudaFuncAttributeMaxDynamicSharedMemorySize.
cudaError_t SetMaxDynamicShared(const void* kernel, int bytes);
size_t MaxDynamicShared(const void* kernel);

// Blocks of one multiprocessor, by threads and shared memory: the registers of a kernel are not
// known here.
int MaxActiveBlocks(int block_threads, size_t dynamic_shared);

// What a launch of these dimensions returns.
cudaError_t CheckLaunch(const GridLaunch& launch);

}  // namespace tandem::emulation
