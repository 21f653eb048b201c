// For tests of the emulated runtime: the options of a test, streams, and kernels as closures.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/options.h"

namespace tandem::emulation {

#define EXPECT_CUDA(call) EXPECT_EQ(cudaSuccess, (call))
#define ASSERT_CUDA(call) ASSERT_EQ(cudaSuccess, (call))

// Deferred streams that do not move by themselves, so that a test's order is the seed's.
class RuntimeTest : public testing::Test {
 protected:
  RuntimeTest() {
    Options options;
    options.streams = Streams::kDeferred;
    options.seed = 1;
    options.progress_ms = 3'600'000;
    SetOptions(options);
    EXPECT_CUDA(cudaSetDevice(0));
    EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    EXPECT_CUDA(cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking));
  }
  ~RuntimeTest() override {
    EXPECT_CUDA(cudaStreamDestroy(stream_));
    EXPECT_CUDA(cudaStreamDestroy(other_));
    static_cast<void>(cudaGetLastError());
  }

  cudaStream_t stream_ = nullptr;
  cudaStream_t other_ = nullptr;
};

// A kernel of one thread.
inline cudaError_t LaunchOne(cudaStream_t stream, std::function<void()> body) {
  static constexpr char kKernel = 0;
  GridLaunch launch;
  launch.name = "Body";
  launch.kernel = &kKernel;
  launch.thread_body = std::move(body);
  return EnqueueGrid(std::move(launch), stream);
}

template <class T>
T* DeviceArray(size_t count) {
  void* memory = nullptr;
  EXPECT_CUDA(cudaMalloc(&memory, count * sizeof(T)));
  return static_cast<T*>(memory);
}

template <class T>
T* PinnedArray(size_t count) {
  void* memory = nullptr;
  EXPECT_CUDA(cudaMallocHost(&memory, count * sizeof(T)));
  return static_cast<T*>(memory);
}

}  // namespace tandem::emulation
