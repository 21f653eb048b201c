#include "bench/load/draws.h"

#include <cmath>
#include <numbers>

namespace tandem::load {

Draws::Draws(uint64_t seed, Purpose purpose, uint64_t index)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
      counter_{0, static_cast<uint32_t>(purpose), static_cast<uint32_t>(index),
               static_cast<uint32_t>(index >> 32)} {}

uint32_t Draws::Next() {
  if (used_ == 4) {
    block_ = kernels::Philox4x32(counter_, key_);
    ++counter_[0];
    used_ = 0;
  }
  return block_[static_cast<size_t>(used_++)];
}

double Draws::Uniform() {
  const uint64_t high = Next();
  const uint64_t bits = (high << 32 | Next()) >> 11;
  return (static_cast<double>(bits) + 0.5) * 0x1p-53;
}

int64_t Draws::Between(int64_t a, int64_t b) {
  const auto span = static_cast<uint64_t>(b - a) + 1;
  return a + static_cast<int64_t>((Next() * span) >> 32);
}

double Draws::Normal() {
  const double radius = std::sqrt(-2 * std::log(Uniform()));
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

// Marsaglia and Tsang, "A simple method for generating gamma variables", TOMS 2000: shapes of one
// and more by squeeze, smaller ones from shape + 1 and a power of a uniform.
double Draws::Gamma(double shape) {
  if (shape < 1) {
    const double larger = Gamma(shape + 1);
    return larger * std::pow(Uniform(), 1 / shape);
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = Normal();
    const double cube = std::pow(1 + c * x, 3);
    if (cube <= 0) continue;
    if (std::log(Uniform()) < 0.5 * x * x + d - d * cube + d * std::log(cube)) return d * cube;
  }
}

}  // namespace tandem::load
