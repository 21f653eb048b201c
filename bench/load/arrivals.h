// When the requests of an open loop are due, whether or not earlier ones have been answered.
#pragma once

#include "bench/load/draws.h"
#include "common/ids.h"

namespace tandem::load {

class Arrivals {
 public:
  // Gaps are gamma distributed with mean 1 / rate: `burstiness` is the shape, so 1 is a Poisson
  // process, less is burstier (the variance of a gap is mean^2 / burstiness), infinite is a fixed
  // pace. An infinite rate makes everything due at once. REQUIRES: both > 0.
  Arrivals(double rate, double burstiness, uint64_t seed);

  // The next one, counted from the start of the run; never earlier than the one before.
  Nanos Next();

 private:
  double rate_;
  double burstiness_;
  Draws draws_;
  double at_s_ = 0;
};

}  // namespace tandem::load
