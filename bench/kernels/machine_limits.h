// What this machine can do at most, measured now, by one thread: what the kernels are held against.
#pragma once

namespace tandem::bench {

struct MachineLimits {
  double read_gb_per_s = 0;    // DRAM, a buffer far larger than the caches
  double int8_gop_per_s = 0;   // vpdpbusd on 512 bits; vpmaddubsw + vpmaddwd + vpaddd on 256
  double f32_gflop_per_s = 0;  // fused multiply-adds, 2 operations each
};

MachineLimits MeasureLimits(bool avx512);

// Compiled with the flags of their instruction set; `loops` rounds of kOpsPerRound operations.
double ReadAvx2(const void* data, long long bytes);
void Int8Avx2(long long loops);
void F32Avx2(long long loops);
void Int8Avx512(long long loops);
void F32Avx512(long long loops);
inline constexpr double kInt8OpsAvx2 = 8 * 32 * 2, kF32OpsAvx2 = 10 * 8 * 2;
inline constexpr double kInt8OpsAvx512 = 12 * 64 * 2, kF32OpsAvx512 = 12 * 16 * 2;

}  // namespace tandem::bench
