// What the emulation's primitives cost: one line each, nanoseconds for a thread or a warp. Not a
// test: `emulation_speed` is built on demand.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "tests/cuda_emulation/device_prelude.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kRepeats = 64;  // of a primitive in one thread

__global__ void Nothing(float* out) { out[blockIdx.x] = 1; }

__global__ void Barriers(int n) {
  for (int i = 0; i < n; ++i) __syncthreads();
}

__global__ void Shuffles(int* out) {
  int x = static_cast<int>(threadIdx.x);
  for (int i = 0; i < kRepeats; ++i) x = __shfl_xor_sync(0xFFFFFFFF, x, 1);
  out[threadIdx.x] = x;
}

__global__ void Sums(float* out) {
  float x = 1;
  for (int i = 0; i < kRepeats; ++i) x = WarpSum(x) / 32;
  out[threadIdx.x] = x;
}

template <class T>
__global__ void Multiplications(float* out) {
  const uint32_t a[4] = {};
  const uint32_t b[2] = {};
  float d[4] = {};
  for (int i = 0; i < kRepeats; ++i) MmaM16N8K16(d, a, b, T());
  out[threadIdx.x] = d[0];
}

__global__ void Loads(float* out) {
  TANDEM_DYNAMIC_SHARED(bytes);
  uint32_t r[4] = {};
  for (int i = 0; i < kRepeats; ++i) LdMatrixX4(r, bytes + threadIdx.x * 16);
  out[threadIdx.x] = static_cast<float>(r[0]);
}

__global__ void Copies(const float* in, float* out) {
  TANDEM_DYNAMIC_SHARED(bytes);
  for (int i = 0; i < kRepeats; ++i) {
    CpAsync16(bytes + threadIdx.x * 16, in);
    CpAsyncCommit();
    CpAsyncWait<0>();
  }
  out[threadIdx.x] = bytes[threadIdx.x];
}

// Seconds of this thread on a processor: others may use the machine too.
double CpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of several runs, divided by `count`.
template <class F>
void Measure(const char* what, int64_t count, F launch) {
  double best = 1e9;
  for (int run = 0; run < 7; ++run) {
    const double start = CpuSeconds();
    launch();
    best = std::min(best, CpuSeconds() - start);
  }
  fmt::print("{:44} {:8.1f} ns\n", what, best * 1e9 / static_cast<double>(count));
}

}  // namespace
}  // namespace tandem::kernels::cuda

int main() {
  using namespace tandem::kernels::cuda;
  alignas(16) static float in[4] = {};
  std::vector<float> floats(4096);
  std::vector<int> ints(1024);
  float* out = floats.data();
  constexpr int64_t kWarps = 4;
  const LaunchConfig warps = {.grid = 1, .block = 32 * kWarps, .shared_bytes = 4096};
  constexpr int64_t kPerWarp = kWarps * kRepeats;

  Measure("thread without a barrier", 1024 * 256,
          [&] { Launch<&Nothing>({.grid = 1024, .block = 256}, out); });
  Measure("thread with one barrier", 1024 * 256,
          [&] { Launch<&Barriers>({.grid = 1024, .block = 256}, 1); });
  for (const int threads : {32, 128, 256, 1024}) {
    Measure(fmt::format("__syncthreads, a thread of {}", threads).c_str(), threads * 1000,
            [&] { Launch<&Barriers>({.grid = 1, .block = static_cast<unsigned>(threads)}, 1000); });
  }
  Measure("__shfl_xor_sync, a warp", kPerWarp, [&] { Launch<&Shuffles>(warps, ints.data()); });
  Measure("WarpSum, a warp", kPerWarp, [&] { Launch<&Sums>(warps, out); });
  Measure("MmaM16N8K16 bf16, a warp", kPerWarp,
          [&] { Launch<&Multiplications<__nv_bfloat16>>(warps, out); });
  Measure("MmaM16N8K16 f16, a warp", kPerWarp,
          [&] { Launch<&Multiplications<__half>>(warps, out); });
  Measure("LdMatrixX4, a warp", kPerWarp, [&] { Launch<&Loads>(warps, out); });
  Measure("CpAsync16 + commit + wait, a thread", 32 * kPerWarp,
          [&] { Launch<&Copies>(warps, static_cast<const float*>(in), out); });
}
