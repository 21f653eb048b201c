// What this machine can do at most, measured now: what the kernels are held against.
#pragma once

namespace tandem::bench {

// Of all threads together.
struct MachineLimits {
  double read_gb_per_s = 0;     // DRAM, a buffer far larger than the caches
  double int8_gop_per_s = 0;    // vpdpbusd on 512 bits; vpmaddubsw + vpmaddwd + vpaddd on 256
  double f32_gflop_per_s = 0;   // fused multiply-adds, 2 operations each
  double bf16_gflop_per_s = 0;  // vdpbf16ps on 512 bits; 0: not measured, the CPU lacks it
};

// `avx512`: with its instructions, else those of AVX2. `threads` of them work at the same time.
MachineLimits MeasureLimits(bool avx512, int threads);

// Compiled with the flags of their instruction set; `loops` rounds of kOpsPerRound operations.
double ReadAvx2(const void* data, long long bytes);
void Int8Avx2(long long loops);
void F32Avx2(long long loops);
void Int8Avx512(long long loops);
void F32Avx512(long long loops);
void Bf16Avx512(long long loops);
inline constexpr double kInt8OpsAvx2 = 8 * 32 * 2, kF32OpsAvx2 = 10 * 8 * 2;
inline constexpr double kInt8OpsAvx512 = 12 * 64 * 2, kF32OpsAvx512 = 12 * 16 * 2;
inline constexpr double kBf16OpsAvx512 = 12 * 32 * 2;

}  // namespace tandem::bench
