#include "tests/cuda_emulation/architecture.h"
#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

class LaunchTest : public RuntimeTest {
 protected:
  // Launches go into a graph that never runs: what is tested comes before.
  LaunchTest() { EXPECT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal)); }
  ~LaunchTest() override {
    cudaGraph_t graph = nullptr;
    EXPECT_CUDA(cudaStreamEndCapture(stream_, &graph));
    EXPECT_CUDA(cudaGraphDestroy(graph));
  }

  cudaError_t Launch(dim3 grid, dim3 block, size_t shared = 0, bool cooperative = false) {
    GridLaunch launch;
    launch.name = "Empty";
    launch.kernel = &kernel_;
    launch.grid = grid;
    launch.block = block;
    launch.shared_bytes = shared;
    launch.cooperative = cooperative;
    launch.thread_body = [] {};
    const cudaError_t error = EnqueueGrid(std::move(launch), stream_);
    EXPECT_EQ(cudaGetLastError(), error);
    return error;
  }
  void SetArch(int arch) {
    Options options = GetOptions();
    options.arch = arch;
    SetOptions(options);
  }
  char kernel_ = 0;  // its address is the kernel's identity
};

TEST_F(LaunchTest, DimensionsAreCheckedAtTheCall) {
  EXPECT_EQ(Launch({1, 1, 1}, {1024, 1, 1}), cudaSuccess);
  EXPECT_EQ(Launch({1, 1, 1}, {1025, 1, 1}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch({1, 1, 1}, {64, 32, 1}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch({1, 1, 1}, {1, 1, 65}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch({0, 1, 1}, {1, 1, 1}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch({1, 1, 1}, {0, 1, 1}), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Launch({1, 65536, 1}, {1, 1, 1}), cudaErrorInvalidConfiguration);
}

TEST_F(LaunchTest, SharedMemoryIsLimitedByArchitecture) {
  for (const auto& [arch, limit] : {std::pair(80, 163 << 10), {90, 227 << 10}, {100, 227 << 10}}) {
    SetArch(arch);
    const char kernel = 0;
    const size_t large = 48 << 10;
    EXPECT_EQ(Launch({1}, {1}, large), cudaSuccess);
    EXPECT_EQ(Launch({1}, {1}, large + 1), cudaErrorInvalidValue);  // not opted in
    const auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    EXPECT_EQ(cudaFuncSetAttribute(&kernel, attribute, limit), cudaSuccess);
    EXPECT_EQ(cudaFuncSetAttribute(&kernel, attribute, limit + 1), cudaErrorInvalidValue);
    EXPECT_EQ(Launch({1}, {1}, large + 1), cudaErrorInvalidValue);  // another kernel was
    EXPECT_EQ(cudaFuncSetAttribute(&kernel_, attribute, static_cast<int>(large) + 1), cudaSuccess);
    EXPECT_EQ(Launch({1}, {1}, large + 1), cudaSuccess);
    EXPECT_EQ(Launch({1}, {1}, large + 2), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFuncSetAttribute(&kernel_, attribute, static_cast<int>(large)), cudaSuccess);
  }
}

TEST_F(LaunchTest, CooperativeBlocksMustAllFit) {
  SetArch(80);  // 108 multiprocessors of 2048 threads and 164 KiB
  EXPECT_EQ(Launch({216}, {1024}, 0, true), cudaSuccess);
  EXPECT_EQ(Launch({217}, {1024}, 0, true), cudaErrorCooperativeLaunchTooLarge);
  EXPECT_EQ(Launch({108 * 3}, {32}, 48 << 10, true), cudaSuccess);
  EXPECT_EQ(Launch({108 * 3 + 1}, {32}, 48 << 10, true), cudaErrorCooperativeLaunchTooLarge);
  EXPECT_EQ(Launch({217}, {1024}), cudaSuccess);
}

TEST_F(LaunchTest, OccupancyAndPropertiesAgree) {
  int blocks = 0;
  EXPECT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &kernel_, 256, 0));
  EXPECT_EQ(blocks, 8);
  EXPECT_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &kernel_, 32, 0));
  EXPECT_EQ(blocks, 32);
  cudaDeviceProp properties;
  ASSERT_CUDA(cudaGetDeviceProperties(&properties, 0));
  EXPECT_EQ(properties.major * 10 + properties.minor, 90);
  int value = 0;
  EXPECT_CUDA(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
  EXPECT_EQ(value, properties.multiProcessorCount);
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 8), cudaErrorInvalidDevice);
}

}  // namespace
}  // namespace tandem::emulation
