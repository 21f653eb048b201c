#include "tests/cuda_emulation/memory.h"

#include <cstring>
#include <vector>

#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

class MemoryTest : public RuntimeTest {};

TEST_F(MemoryTest, CopiesThereAndBack) {
  for (const size_t count : {1, 3, 1000, 5000}) {
    int* device = DeviceArray<int>(count);
    std::vector<int> in(count);
    for (size_t i = 0; i < count; ++i) in[i] = static_cast<int>(i) * 7;
    std::vector<int> out(count);
    ASSERT_CUDA(cudaMemcpyAsync(device, in.data(), 4 * count, cudaMemcpyHostToDevice, stream_));
    ASSERT_CUDA(LaunchOne(stream_, [=] { device[count - 1] += 1; }));
    ASSERT_CUDA(cudaMemcpyAsync(out.data(), device, 4 * count, cudaMemcpyDeviceToHost, stream_));
    in[count - 1] += 1;
    EXPECT_EQ(in, out);
    EXPECT_CUDA(cudaFree(device));
  }
}

TEST_F(MemoryTest, NewMemoryIsNaN) {
  float* device = DeviceArray<float>(3);
  float out[3] = {};
  ASSERT_CUDA(cudaMemcpyAsync(out, device, sizeof(out), cudaMemcpyDeviceToHost, stream_));
  EXPECT_NE(out[0], out[0]);
  ASSERT_CUDA(cudaMemsetAsync(device, 0, sizeof(out), stream_));
  ASSERT_CUDA(cudaMemcpyAsync(out, device, sizeof(out), cudaMemcpyDeviceToHost, stream_));
  EXPECT_EQ(out[2], 0);
  EXPECT_CUDA(cudaFree(device));
}

TEST_F(MemoryTest, AlignmentIsAsAsked) {
  EXPECT_EQ(reinterpret_cast<uintptr_t>(DeviceArray<char>(17)) % 16, 0u);
  Options options = GetOptions();
  options.align = 256;
  SetOptions(options);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(DeviceArray<char>(17)) % 256, 0u);
}

TEST_F(MemoryTest, MemoryIsLimited) {
  size_t free = 0;
  size_t total = 0;
  ASSERT_CUDA(cudaSetDevice(1));
  ASSERT_CUDA(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(total, size_t{1} << 30);
  EXPECT_EQ(free, total);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_CUDA(cudaMalloc(&memory, 1000));
  ASSERT_CUDA(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(free, total - 1024);
  void* rest = nullptr;
  EXPECT_EQ(cudaMalloc(&rest, total - 1023), cudaErrorMemoryAllocation);
  ASSERT_CUDA(cudaFree(memory));
  ASSERT_CUDA(cudaMemGetInfo(&free, &total));
  EXPECT_EQ(free, total);
}

TEST_F(MemoryTest, CopiesOutsideAnAllocationAreRefused) {
  char* device = DeviceArray<char>(64);
  char host[128] = {};
  EXPECT_EQ(cudaMemcpyAsync(device, host, 65, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(device + 1, 0, 64, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host, host + 64, 64, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(device + 1), cudaErrorInvalidValue);
  EXPECT_CUDA(cudaFree(device));
  EXPECT_EQ(cudaFree(device), cudaErrorInvalidValue);
}

TEST_F(MemoryTest, PinnedMemoryIsReadWhenTheStreamGetsThere) {
  int* pinned = PinnedArray<int>(1);
  int* device = DeviceArray<int>(1);
  int pageable = 1;
  int out = 0;
  *pinned = 1;
  ASSERT_CUDA(cudaMemcpyAsync(device, &pageable, 4, cudaMemcpyHostToDevice, stream_));
  pageable = 2;  // legal: it was read at the call
  ASSERT_CUDA(cudaMemcpyAsync(&out, device, 4, cudaMemcpyDeviceToHost, stream_));
  EXPECT_EQ(out, 1);
  ASSERT_CUDA(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream_));
  *pinned = 2;  // the planted bug: the copy may not have begun
  ASSERT_CUDA(cudaMemcpyAsync(&out, device, 4, cudaMemcpyDeviceToHost, stream_));
  EXPECT_EQ(out, 2);
  EXPECT_CUDA(cudaFree(device));
  EXPECT_CUDA(cudaFreeHost(pinned));
}

using MemoryDeathTest = MemoryTest;

TEST_F(MemoryDeathTest, UseAfterFreeIsNamed) {
  int* device = DeviceArray<int>(10);
  ASSERT_CUDA(cudaFree(device));
  EXPECT_DEATH(
      {
        static_cast<void>(LaunchOne(stream_, [=] { device[3] = 1; }));
        static_cast<void>(cudaStreamSynchronize(stream_));
      },
      "cuda emulation: use after free: byte 12 of 40 of device memory .*kernel Body");
}

TEST_F(MemoryDeathTest, OverrunIsNamed) {
  int* device = DeviceArray<int>(8);
  EXPECT_DEATH(
      {
        static_cast<void>(LaunchOne(stream_, [=] { device[8] = 1; }));
        static_cast<void>(cudaStreamSynchronize(stream_));
      },
      "cuda emulation: 0 bytes past the end of 32 bytes of device memory .*kernel Body");
}

TEST_F(MemoryDeathTest, HostDereferenceIsNamed) {
  for (const HostGuard guard : {HostGuard::kMprotect, HostGuard::kAuto}) {
    EXPECT_DEATH(
        {
          Options options = GetOptions();
          options.hostguard = guard;
          SetOptions(options);
          int* device = DeviceArray<int>(8);
          static_cast<void>(LaunchOne(stream_, [=] { device[7] = 1; }));
          static_cast<void>(cudaStreamSynchronize(stream_));
          device[1] = 1;
        },
        "cuda emulation: the host touched byte 4 of 32 of device memory");
    if (!HostIsGuarded()) break;  // no protection keys on this machine
  }
}

TEST_F(MemoryDeathTest, PinnedMemoryFreedWhileItIsCopiedWaits) {
  int* pinned = PinnedArray<int>(1);
  int* device = DeviceArray<int>(1);
  *pinned = 5;
  ASSERT_CUDA(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream_));
  ASSERT_CUDA(cudaFreeHost(pinned));
  int out = 0;
  ASSERT_CUDA(cudaMemcpyAsync(&out, device, 4, cudaMemcpyDeviceToHost, stream_));
  EXPECT_EQ(out, 5);
  EXPECT_DEATH(*pinned = 1, "use after free: byte 0 of 4 of pinned memory");
}

}  // namespace
}  // namespace tandem::emulation
