#include "bench/kernels/machine_limits.h"

#include <time.h>

#include <algorithm>
#include <vector>

namespace tandem::bench {
namespace {

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// CPU time, the best of five: others may share this machine.
template <class F>
double BestSeconds(F&& body) {
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    const double start = CpuSeconds();
    body();
    best = std::min(best, CpuSeconds() - start);
  }
  return best;
}

}  // namespace

MachineLimits MeasureLimits(bool avx512) {
  constexpr long long kBytes = 512ll << 20, kLoops = 4'000'000;
  MachineLimits limits;
  const std::vector<char> data(kBytes, 1);
  double sink = 0;
  limits.read_gb_per_s = 1e-9 * static_cast<double>(kBytes) /
                         BestSeconds([&] { sink = std::max(sink, ReadAvx2(data.data(), kBytes)); });
  if (sink < 0) limits.read_gb_per_s = 0;  // never: keeps the reads
  const double loops = 1e-9 * static_cast<double>(kLoops);
  if (avx512) {
    limits.int8_gop_per_s = loops * kInt8OpsAvx512 / BestSeconds([] { Int8Avx512(kLoops); });
    limits.f32_gflop_per_s = loops * kF32OpsAvx512 / BestSeconds([] { F32Avx512(kLoops); });
  } else {
    limits.int8_gop_per_s = loops * kInt8OpsAvx2 / BestSeconds([] { Int8Avx2(kLoops); });
    limits.f32_gflop_per_s = loops * kF32OpsAvx2 / BestSeconds([] { F32Avx2(kLoops); });
  }
  return limits;
}

}  // namespace tandem::bench
