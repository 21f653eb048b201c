// The GPU of a rank: whether it can be used, and owners of what the CUDA runtime hands out. Goes
// through the runtime alone, so that a program with this in it starts without a driver.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"

namespace tandem::model::cuda {

// OK, or what failed. kResourceExhausted: no memory; kFailedPrecondition: there is no GPU that this
// program could use, which no other try changes; else kInternal, for good.
Status FromCuda(cudaError_t error, std::string_view what);

struct DeviceInfo {
  int index = 0;
  std::string name;
  int compute_capability = 0;  // 90: 9.0
  int64_t total_bytes = 0;
};

// Makes GPU `index` the thread's current one. kFailedPrecondition: no driver, one that is too old,
// no GPU or one that is too old; kInvalidArgument: fewer GPUs. One line each, with what to do.
StatusOr<DeviceInfo> UseDevice(int index);

StatusOr<int64_t> FreeBytes();  // of the current GPU

struct FreeDevice {
  void operator()(void* memory) const { static_cast<void>(cudaFree(memory)); }
};
struct FreePinned {
  void operator()(void* memory) const { static_cast<void>(cudaFreeHost(memory)); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;
using PinnedMemory = std::unique_ptr<void, FreePinned>;

// bytes 0: null.
StatusOr<DeviceMemory> AllocateDevice(int64_t bytes);
StatusOr<PinnedMemory> AllocatePinned(int64_t bytes);

struct DestroyStream {
  using pointer = cudaStream_t;
  void operator()(cudaStream_t stream) const { static_cast<void>(cudaStreamDestroy(stream)); }
};
struct DestroyEvent {
  using pointer = cudaEvent_t;
  void operator()(cudaEvent_t event) const { static_cast<void>(cudaEventDestroy(event)); }
};
struct DestroyGraph {
  using pointer = cudaGraphExec_t;
  void operator()(cudaGraphExec_t graph) const { static_cast<void>(cudaGraphExecDestroy(graph)); }
};
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;
using Event = std::unique_ptr<CUevent_st, DestroyEvent>;
using Graph = std::unique_ptr<CUgraphExec_st, DestroyGraph>;

StatusOr<Stream> MakeStream();
StatusOr<Event> MakeEvent();  // without time

}  // namespace tandem::model::cuda
