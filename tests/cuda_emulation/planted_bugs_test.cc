// Mistakes that end the process where they are made: each is planted, and the report names the
// mistake, the place and the thread.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <vector>

#include "tests/cuda_emulation/device_prelude.h"
#include "tests/cuda_emulation/options.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace tandem::kernels::cuda {
namespace {

using emulation::kAsan;
using emulation::Options;
using emulation::Policy;

// In every order: these reports do not depend on luck.
class PlantedBugDeathTest : public testing::TestWithParam<Policy> {
 protected:
  void SetUp() override {
    emulation::SetOptions({.policy = GetParam(), .seed = 5, .watchdog_seconds = 1});
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, PlantedBugDeathTest,
                         testing::Values(Policy::kInOrder, Policy::kReverse, Policy::kRandom));

// Floats up to an unmapped page.
class GuardedFloats {
 public:
  explicit GuardedFloats(size_t count) {
    memory_ = static_cast<char*>(
        mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + kPage, kPage, PROT_NONE);
    data = reinterpret_cast<float*>(memory_ + kPage) - count;
  }
  ~GuardedFloats() { munmap(memory_, 2 * kPage); }
  GuardedFloats(const GuardedFloats&) = delete;
  GuardedFloats& operator=(const GuardedFloats&) = delete;

  float* data;

 private:
  static constexpr size_t kPage = 4096;
  char* memory_;
};

__global__ void WriteUpTo(float* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i <= n) out[i] = 1;  // < n
}

TEST_P(PlantedBugDeathTest, GlobalMemoryOutOfBounds) {
  const GuardedFloats out(45);
  Launch<&WriteUpTo>({.grid = 2, .block = 32}, out.data, 44);
  EXPECT_DEATH((Launch<&WriteUpTo>({.grid = 2, .block = 32}, out.data, 45)),
               "cuda emulation: access to memory that is not the device's, at address .*: kernel "
               "WriteUpTo, block \\(1,0,0\\), thread \\(13,0,0\\); policy");
}

__global__ void WriteShared(int n) {
  TANDEM_SHARED(float, left, [16]);
  TANDEM_SHARED(float, right, [16]);
  left[0] = right[0] = 0;
  float* volatile p = left;  // no compiler shall see it
  for (int i = 0; i < n; ++i) p[i] = 1;
}

TEST_P(PlantedBugDeathTest, StaticSharedMemoryOutOfBounds) {
  Launch<&WriteShared>({.grid = 1, .block = 1}, 16);
  EXPECT_DEATH((Launch<&WriteShared>({.grid = 1, .block = 1}, 17)),
               kAsan ? "use-after-poison"
                     : "shared memory written 0 bytes after the end of left and .* bytes before "
                       "right: kernel WriteShared, block \\(0,0,0\\)");
}

__global__ void WriteDynamic(int n) {
  TANDEM_DYNAMIC_SHARED(bytes);
  for (int i = 0; i < n; ++i) bytes[i] = 1;
}

TEST_P(PlantedBugDeathTest, DynamicSharedMemoryOutOfBounds) {
  const LaunchConfig config = {.grid = 1, .block = 1, .shared_bytes = 200};
  Launch<&WriteDynamic>(config, 200);
  EXPECT_DEATH(Launch<&WriteDynamic>(config, 201),
               kAsan ? "use-after-poison"
                     : "shared memory written 0 bytes after the end of the dynamic part");
  EXPECT_DEATH(Launch<&WriteDynamic>(config, 1000),
               kAsan ? "use-after-poison" : "access beyond the end of dynamic shared memory");
}

__global__ void CopyVector(const float* in, float* out) {
  const auto* from = reinterpret_cast<const float4*>(in);
  *reinterpret_cast<float4*>(out) = *from;
}

TEST_P(PlantedBugDeathTest, MisalignedVector) {
  alignas(16) float in[8] = {};
  alignas(16) float out[8] = {};
  Launch<&CopyVector>({.grid = 1, .block = 1}, &in[4], &out[0]);
  EXPECT_DEATH((Launch<&CopyVector>({.grid = 1, .block = 1}, &in[1], &out[0])),
               kAsan ? "misaligned address" : "misaligned access to a vector");
}

enum class Address { kRight, kMisaligned, kGlobal };

__device__ void* Shared16(Address address, unsigned char* global) {
  TANDEM_DYNAMIC_SHARED(bytes);
  if (address == Address::kGlobal) return global;
  return bytes + 16 * threadIdx.x + (address == Address::kMisaligned ? 4 : 0);
}
__global__ void CopyAsync(Address address, unsigned char* global) {
  CpAsync16(Shared16(address, global), global);
}
__global__ void LoadMatrix(Address address, unsigned char* global) {
  uint32_t r[4];
  LdMatrixX4(r, Shared16(address, global));
}

TEST_P(PlantedBugDeathTest, AddressesOfAsyncCopiesAndMatrices) {
  const LaunchConfig config = {.grid = 1, .block = 32, .shared_bytes = 1024};
  alignas(16) static unsigned char global[64];
  unsigned char* const p = global;
  Launch<&CopyAsync>(config, Address::kRight, p);
  Launch<&LoadMatrix>(config, Address::kRight, p);
  EXPECT_DEATH(Launch<&CopyAsync>(config, Address::kMisaligned, p), "cp.async to .* misaligned");
  EXPECT_DEATH(Launch<&CopyAsync>(config, Address::kRight, p + 8), "cp.async from .* misaligned");
  EXPECT_DEATH(Launch<&CopyAsync>(config, Address::kGlobal, p), "not within this block's shared");
  EXPECT_DEATH(Launch<&LoadMatrix>(config, Address::kMisaligned, p), "ldmatrix of .* misaligned");
  EXPECT_DEATH(Launch<&LoadMatrix>(config, Address::kGlobal, p), "not within this block's shared");
}

enum class Way { kRight, kOtherSite, kEarlyEnd, kOtherOp, kInWarp };

__global__ void Meet(Way way) {
  const bool odd = threadIdx.x % 2 == 1;
  if (way == Way::kEarlyEnd && threadIdx.x == 40) return;
  if (way == Way::kOtherSite && odd) {
    __syncthreads();
  } else if (way == Way::kOtherOp && odd) {
    __syncthreads_or(0);
  } else if (way == Way::kInWarp && threadIdx.x == 3) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

TEST_P(PlantedBugDeathTest, Barriers) {
  const LaunchConfig config = {.grid = 1, .block = 64};
  Launch<&Meet>(config, Way::kRight);
  EXPECT_DEATH(Launch<&Meet>(config, Way::kOtherSite),
               "divergent barrier: this thread comes to __syncthreads at planted_bugs_test.cc:.*, "
               ".* others wait in __syncthreads at planted_bugs_test.cc:.*: kernel Meet, block "
               "\\(0,0,0\\), thread \\(");
  EXPECT_DEATH(Launch<&Meet>(config, Way::kOtherOp), "divergent barrier: .*__syncthreads_or");
  EXPECT_DEATH(Launch<&Meet>(config, Way::kEarlyEnd), "missing barrier: ");
  EXPECT_DEATH(Launch<&Meet>(config, Way::kInWarp), "divergent warp: .*__syncwarp");
}

enum class Lane { kRight, kOtherSite, kOtherMask, kOtherOp, kEnded, kNotNamed, kUnnamedSource };

__global__ void Talk(Lane way, int* out) {
  const unsigned lane = threadIdx.x;
  const bool odd = lane % 2 == 1;
  if (way == Lane::kEnded && lane == 7) return;
  int x = 0;
  if (way == Lane::kOtherSite && odd) {
    x = __shfl_xor_sync(0xFFFFFFFF, 1, 1);
  } else if (way == Lane::kOtherMask && odd) {
    x = __shfl_xor_sync(0xFFFFFFFE, 1, 1);
  } else if (way == Lane::kOtherOp && odd) {
    x = __shfl_down_sync(0xFFFFFFFF, 1, 1);
  } else if (way == Lane::kNotNamed) {
    x = __shfl_xor_sync(0xFFFF, 1, 1);
  } else if (way == Lane::kUnnamedSource) {
    if (lane < 16) x = __shfl_xor_sync(0xFFFF, 1, 16);
  } else {
    x = __shfl_xor_sync(0xFFFFFFFF, 1, 1);
  }
  out[lane] = x;
}

TEST_P(PlantedBugDeathTest, WarpFunctions) {
  const LaunchConfig config = {.grid = 1, .block = 32};
  std::vector<int> memory(32);
  int* const out = memory.data();
  Launch<&Talk>(config, Lane::kRight, out);
  EXPECT_DEATH(Launch<&Talk>(config, Lane::kOtherSite, out),
               "divergent warp: __shfl_xor_sync at planted_bugs_test.cc:.* with mask 0xffffffff, "
               "while lanes .* wait in __shfl_xor_sync at planted_bugs_test.cc:");
  EXPECT_DEATH(Launch<&Talk>(config, Lane::kOtherMask, out), "divergent warp: ");
  EXPECT_DEATH(Launch<&Talk>(config, Lane::kOtherOp, out), "divergent warp: .*__shfl_down_sync");
  EXPECT_DEATH(Launch<&Talk>(config, Lane::kEnded, out),
               "names lanes 0x00000080 that have ended|this lane ends, lanes .* wait for it");
  EXPECT_DEATH(Launch<&Talk>(config, Lane::kNotNamed, out), "does not name lane");
  EXPECT_DEATH(Launch<&Talk>(config, Lane::kUnnamedSource, out), "which is not in mask 0x0000ffff");
  EXPECT_DEATH(Launch<&Talk>({.grid = 1, .block = 31}, Lane::kRight, out),
               "names lanes 0x80000000 that have ended or do not exist");
}

__global__ void WaitInACircle() {
  if (threadIdx.x == 0) __syncwarp(0b011);
  if (threadIdx.x == 1) __syncwarp(0b110);
  if (threadIdx.x == 2) __syncwarp(0b101);
}

TEST_P(PlantedBugDeathTest, Deadlock) {
  EXPECT_DEATH((Launch<&WaitInACircle>({.grid = 1, .block = 3})),
               "deadlock: block \\(0,0,0\\): 1 threads are in __syncwarp at planted_bugs_test.cc:");
}

// Every block signs in and waits for all.
__global__ void SignIn(uint32_t* flags, unsigned wanted) {
  if (threadIdx.x == 0) {
    StoreRelease(&flags[blockIdx.x], 1);
    for (unsigned b = 0; b < wanted; ++b) {
      while (LoadAcquire(&flags[b]) == 0) SpinPause();
    }
  }
  __syncthreads();
}

TEST_P(PlantedBugDeathTest, SpinningForEver) {
  std::vector<uint32_t> memory(10);
  uint32_t* const flags = memory.data();
  Launch<&SignIn>({.grid = 8, .block = 64, .cooperative = true}, flags, 8);
  EXPECT_DEATH((Launch<&SignIn>({.grid = 8, .block = 64, .cooperative = true}, flags, 9)),
               "no progress for 1 s: block .*: 1 threads are in SpinPause at planted_bugs_test.cc:"
               ".*, 63 threads are in __syncthreads");
}

TEST_P(PlantedBugDeathTest, BlocksThatWaitButAreNotResident) {
  std::vector<uint32_t> memory(8);
  EXPECT_DEATH((Launch<&SignIn>({.grid = 8, .block = 64}, memory.data(), 8)),
               "no progress for 1 s \\(not all blocks run: the launch is not cooperative\\)");
}

__global__ void UseStack(int* out) {
  constexpr int kBytes = 300 * 1024;  // on a GPU it would be local memory
  volatile char big[kBytes];
  for (int i = kBytes - 1; i >= 0; --i) big[i] = 1;
  *out = big[0];
}

TEST_P(PlantedBugDeathTest, StackOverflow) {
  int out = 0;
  EXPECT_DEATH((Launch<&UseStack>({.grid = 1, .block = 1}, &out)),
               kAsan ? "stack-overflow|stack overflow|SEGV" : "stack overflow, at address");
}

}  // namespace
}  // namespace tandem::kernels::cuda
