// Kernels that do right: every primitive against what CUDA's documentation says, in every order.
#include "tests/cuda_emulation/device_prelude.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "tests/cuda_emulation/options.h"

namespace tandem::kernels::cuda {
namespace {

using emulation::AsyncCopies;
using emulation::Options;
using emulation::Policy;

class ExecutorTest : public testing::TestWithParam<Options> {
 protected:
  void SetUp() override { emulation::SetOptions(GetParam()); }
};

std::vector<Options> AllOrders() {
  std::vector<Options> all;
  all.push_back({.policy = Policy::kInOrder});
  all.push_back({.policy = Policy::kReverse});
  all.push_back({.policy = Policy::kInOrder, .cp_async = AsyncCopies::kEager});
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    all.push_back({.policy = Policy::kRandom, .cp_async = AsyncCopies::kRandom, .seed = seed});
  }
  return all;
}
std::string NameOf(const testing::TestParamInfo<Options>& info) {
  constexpr const char* kNames[] = {"InOrder", "Reverse", "Random"};
  return kNames[static_cast<int>(info.param.policy)] + std::to_string(info.index);
}
INSTANTIATE_TEST_SUITE_P(Orders, ExecutorTest, testing::ValuesIn(AllOrders()), NameOf);

__global__ void Indices(uint3* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = {
      blockIdx.x + 10 * threadIdx.x, blockIdx.y + 10 * threadIdx.y, blockIdx.z + 10 * threadIdx.z};
}

TEST_P(ExecutorTest, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<uint3> out(2 * 3 * 2 * 5 * 2 * 3);
  Launch<&Indices>({.grid = {2, 3, 2}, .block = {5, 2, 3}}, out.data());
  for (unsigned i = 0; i < out.size(); ++i) {
    const unsigned thread = i % 30;
    const unsigned block = i / 30;
    EXPECT_EQ(out[i].x, block % 2 + 10 * (thread % 5));
    EXPECT_EQ(out[i].y, block / 2 % 3 + 10 * (thread / 5 % 2));
    EXPECT_EQ(out[i].z, block / 6 + 10 * (thread / 10));
  }
}

TEST_P(ExecutorTest, AnEmptyGridIsNothing) {
  Launch<&Indices>({.grid = {0, 1, 1}, .block = 32}, static_cast<uint3*>(nullptr));
}

__device__ float BlockSum(float x) {
  TANDEM_SHARED(float, sums, [32]);
  x = WarpSum(x);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) total += sums[w];
  __syncthreads();
  return total;
}

template <class T>
__global__ void SumTwice(const T* in, float* out) {
  TANDEM_SHARED(T, last, );
  if (threadIdx.x == 0) last = in[blockIdx.x * blockDim.x];
  const float x = static_cast<float>(in[blockIdx.x * blockDim.x + threadIdx.x]);
  const float first = BlockSum(x);
  const float second = BlockSum(2 * x);
  if (threadIdx.x == 0) out[blockIdx.x] = first + second + static_cast<float>(last);
}

TEST_P(ExecutorTest, BarriersAndSharedMemory) {
  constexpr int kBlocks = 5;
  constexpr int kThreads = 96;
  std::vector<int> in(kBlocks * kThreads);
  std::iota(in.begin(), in.end(), 1);
  std::vector<float> out(kBlocks);
  Launch<&SumTwice<int>>({.grid = kBlocks, .block = kThreads}, in.data(), out.data());
  for (int b = 0; b < kBlocks; ++b) {
    const float sum =
        static_cast<float>(std::accumulate(&in[b * kThreads], &in[b * kThreads] + kThreads, 0));
    EXPECT_EQ(out[b], 3 * sum + static_cast<float>(in[b * kThreads]));
  }
}

__global__ void Reverse(const int* in, int* out, int n) {
  TANDEM_DYNAMIC_SHARED(bytes);
  int* staged = reinterpret_cast<int*>(bytes);
  for (int i = threadIdx.x; i < n; i += blockDim.x) staged[i] = in[i];
  const int odd = __syncthreads_count(threadIdx.x % 2);
  for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = staged[n - 1 - i] + odd;
}

TEST_P(ExecutorTest, DynamicSharedMemory) {
  std::vector<int> in(301);
  std::iota(in.begin(), in.end(), 0);
  std::vector<int> out(in.size());
  Launch<&Reverse>({.grid = 1, .block = 70, .shared_bytes = in.size() * 4}, in.data(), out.data(),
                   301);
  for (int i = 0; i < 301; ++i) EXPECT_EQ(out[i], 300 - i + 35);
}

struct LaneResults {
  int index, up, down, exclusive, half;
  unsigned ballot, matched, maximum;
  int any, all;
  float sum;
};

__global__ void Lanes(LaneResults* out) {
  const int lane = threadIdx.x;
  LaneResults& r = out[lane];
  r.index = __shfl_sync(0xFFFFFFFF, lane * 3, lane + 5, 16);
  r.up = __shfl_up_sync(0xFFFFFFFF, lane, 3);
  r.down = __shfl_down_sync(0xFFFFFFFF, lane, 3, 8);
  r.exclusive = __shfl_xor_sync(0xFFFFFFFF, lane, 7);
  if (lane < 16) {
    r.half = __shfl_xor_sync(0x0000FFFF, lane, 1);
  } else {
    r.half = __shfl_xor_sync(0xFFFF0000, lane, 2);
  }
  r.ballot = __ballot_sync(0xFFFFFFFF, lane % 3 == 0);
  r.matched = __match_any_sync(0xFFFFFFFF, lane / 8);
  r.maximum = __reduce_max_sync(0xFFFFFFFF, static_cast<unsigned>(lane * 7 % 32));
  r.any = __any_sync(0xFFFFFFFF, lane == 31);
  r.all = __all_sync(0xFFFFFFFF, lane != 31);
  r.sum = WarpSum(static_cast<float>(lane)) + WarpMax(static_cast<float>(-lane));
}

TEST_P(ExecutorTest, WarpFunctions) {
  std::vector<LaneResults> out(32);
  Launch<&Lanes>({.grid = 1, .block = 32}, out.data());
  for (int lane = 0; lane < 32; ++lane) {
    const LaneResults& r = out[lane];
    EXPECT_EQ(r.index, 3 * ((lane & 16) + (lane + 5) % 16));
    EXPECT_EQ(r.up, lane < 3 ? lane : lane - 3);
    EXPECT_EQ(r.down, lane % 8 + 3 > 7 ? lane : lane + 3);
    EXPECT_EQ(r.exclusive, lane ^ 7);
    EXPECT_EQ(r.half, lane < 16 ? lane ^ 1 : lane ^ 2);
    EXPECT_EQ(r.ballot, 0x49249249u);
    EXPECT_EQ(r.matched, 0xFFu << lane / 8 * 8);
    EXPECT_EQ(r.maximum, 31u);
    EXPECT_EQ(r.any, 1);
    EXPECT_EQ(r.all, 0);
    EXPECT_EQ(r.sum, 496.0f);
  }
}

// C[16, 8] = A[16, 16] B[16, 8] with A and B staged by cp.async, loaded by ldmatrix.
template <class T>
__global__ void Multiply(const T* a, const T* b, float* c) {
  TANDEM_SHARED(T, as, [16][16]);
  TANDEM_SHARED(T, bs, [16][8]);
  const int lane = threadIdx.x;
  CpAsync16(&as[lane / 2][lane % 2 * 8], a + lane * 8);
  CpAsyncCommit();
  if (lane < 16) CpAsync16(&bs[lane][0], b + lane * 8);
  CpAsyncCommit();
  CpAsyncWait<0>();
  __syncwarp();
  uint32_t fa[4];
  uint32_t fb[4];
  LdMatrixX4(fa, &as[lane % 16][lane / 16 * 8]);
  LdMatrixX4Trans(fb, &bs[lane % 16][0]);
  const uint32_t fb2[2] = {fb[0], fb[1]};
  float d[4] = {};
  MmaM16N8K16(d, fa, fb2, T());
  const int row = lane / 4;
  const int col = lane % 4 * 2;
  c[row * 8 + col] = d[0];
  c[row * 8 + col + 1] = d[1];
  c[(row + 8) * 8 + col] = d[2];
  c[(row + 8) * 8 + col + 1] = d[3];
}

template <class T>
void CheckMultiply() {
  alignas(16) T a[16 * 16];
  alignas(16) T b[16 * 8];
  for (int i = 0; i < 256; ++i) a[i] = T(static_cast<float>(i * 37 % 101 - 50) / 16);
  for (int i = 0; i < 128; ++i) b[i] = T(static_cast<float>(i * 53 % 97 - 48) / 32);
  std::vector<float> c(16 * 8);
  Launch<&Multiply<T>>({.grid = 1, .block = 32}, a, b, c.data());
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) {
        sum += static_cast<float>(a[m * 16 + k]) * static_cast<float>(b[k * 8 + n]);
      }
      EXPECT_EQ(c[m * 8 + n], sum) << m << ' ' << n;  // exact: small multiples of 1/512
    }
  }
}
TEST_P(ExecutorTest, TensorCoresBf16) { CheckMultiply<__nv_bfloat16>(); }
TEST_P(ExecutorTest, TensorCoresF16) { CheckMultiply<__half>(); }

__global__ void Count(int* count, float* sum, unsigned* largest) {
  atomicAdd(count, 1);
  atomicAdd(sum, 0.5f);
  atomicMax(largest, blockIdx.x * blockDim.x + threadIdx.x);
}

TEST_P(ExecutorTest, Atomics) {
  int count = 0;
  float sum = 0;
  unsigned largest = 0;
  Launch<&Count>({.grid = 5, .block = 40}, &count, &sum, &largest);
  EXPECT_EQ(count, 200);
  EXPECT_EQ(sum, 100);
  EXPECT_EQ(largest, 199u);
}

// Every block waits for all of them, twice.
__global__ void Meet(uint32_t* arrived, const int* in, int* out) {
  TANDEM_SHARED(int, value, );
  if (threadIdx.x == 0) {
    StoreRelease(&arrived[blockIdx.x], 1);
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) {
      while (LoadAcquire(&arrived[b]) != 1) SpinPause();
      sum += in[b];
    }
    value = sum;
  }
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

TEST_P(ExecutorTest, BlocksOfACooperativeGridWaitForEachOther) {
  std::vector<uint32_t> arrived(9);
  std::vector<int> in = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<int> out(9 * 33);
  Launch<&Meet>({.grid = 9, .block = 33, .cooperative = true}, arrived.data(), in.data(),
                out.data());
  for (const int x : out) EXPECT_EQ(x, 45);
}

}  // namespace
}  // namespace tandem::kernels::cuda
