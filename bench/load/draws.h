// Random numbers as a pure function of (seed, purpose, index): what one request contains does not
// depend on which others were made before it, so a run can be repeated whatever the server does.
#pragma once

#include <cstdint>

#include "kernels/rng.h"

namespace tandem::load {

enum class Purpose : uint32_t { kArrivals, kLengths, kWords, kPrefix, kBlock, kOrder };

class Draws {
 public:
  Draws(uint64_t seed, Purpose purpose, uint64_t index);

  uint32_t Next();
  double Uniform();                       // in (0, 1)
  int64_t Between(int64_t a, int64_t b);  // both included. REQUIRES: a <= b, b - a < 2^32
  double Normal();                        // mean 0, variance 1
  // Mean and variance `shape`. REQUIRES: shape > 0.
  double Gamma(double shape);

 private:
  kernels::PhiloxKey key_;
  kernels::PhiloxCounter counter_;
  kernels::PhiloxCounter block_{};
  int used_ = 4;  // of block_
};

}  // namespace tandem::load
