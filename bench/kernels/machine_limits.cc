#include "bench/kernels/machine_limits.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "common/check.h"
#include "kernels/cpu/aligned_buffer.h"

namespace tandem::bench {
namespace {

constexpr int kRepeats = 5;
constexpr long long kBytes = 512ll << 20, kLoops = 4'000'000;

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Billions a second of all threads, each of which does `work` by calling `body` once. CPU time,
// the best of some: others may share this machine. They start together, for they share what is
// measured.
template <class F>
double BestRate(int threads, double work, F&& body) {
  std::vector<std::vector<double>> rates(kRepeats, std::vector<double>(threads));
  std::barrier start(threads);
  std::vector<std::thread> others;
  const auto measure = [&](int thread) {
    for (std::vector<double>& rate : rates) {
      start.arrive_and_wait();
      const double begin = CpuSeconds();
      body();
      rate[thread] = 1e-9 * work / (CpuSeconds() - begin);
    }
  };
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(measure, thread);
  measure(0);
  for (std::thread& other : others) other.join();
  double best = 0;
  for (const std::vector<double>& rate : rates) {
    best = std::max(best, std::accumulate(rate.begin(), rate.end(), 0.0));
  }
  return best;
}

// Of memory in huge pages, as weights are; with small ones it is up to a quarter less.
double ReadRate(int threads) {
  const kernels::cpu::AlignedBuffer data(kBytes);
  TANDEM_CHECK(data.data() != nullptr) << "no memory for " << kBytes << " bytes";
  std::memset(data.data(), 1, kBytes);
  // Each thread reads its own part: what one has read, another would find in a shared cache.
  std::vector<double> sinks(threads);
  const long long part = kBytes / threads / 128 * 128;
  std::atomic<int> turn = 0;
  const double rate = BestRate(threads, static_cast<double>(part), [&] {
    const int mine = turn++ % threads;
    const char* const from = reinterpret_cast<const char*>(data.data()) + mine * part;
    sinks[mine] = std::max(sinks[mine], ReadAvx2(from, part));
  });
  return *std::min_element(sinks.begin(), sinks.end()) < 0 ? 0 : rate;  // never 0: keeps the reads
}

}  // namespace

MachineLimits MeasureLimits(bool avx512, int threads) {
  const double loops = static_cast<double>(kLoops);
  MachineLimits limits;
  limits.read_gb_per_s = ReadRate(threads);
  if (avx512) {
    limits.int8_gop_per_s = BestRate(threads, loops * kInt8OpsAvx512, [] { Int8Avx512(kLoops); });
    limits.f32_gflop_per_s = BestRate(threads, loops * kF32OpsAvx512, [] { F32Avx512(kLoops); });
    if (__builtin_cpu_supports("avx512bf16")) {
      limits.bf16_gflop_per_s =
          BestRate(threads, loops * kBf16OpsAvx512, [] { Bf16Avx512(kLoops); });
    }
  } else {
    limits.int8_gop_per_s = BestRate(threads, loops * kInt8OpsAvx2, [] { Int8Avx2(kLoops); });
    limits.f32_gflop_per_s = BestRate(threads, loops * kF32OpsAvx2, [] { F32Avx2(kLoops); });
  }
  return limits;
}

}  // namespace tandem::bench
