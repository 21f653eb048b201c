#include "bench/load/arrivals.h"

#include <cmath>

namespace tandem::load {

Arrivals::Arrivals(double rate, double burstiness, uint64_t seed)
    : rate_(rate), burstiness_(burstiness), draws_(seed, Purpose::kArrivals, 0) {}

Nanos Arrivals::Next() {
  if (std::isinf(rate_)) return 0;
  const double gap = std::isinf(burstiness_) ? 1 : draws_.Gamma(burstiness_) / burstiness_;
  at_s_ += gap / rate_;
  return static_cast<Nanos>(at_s_ * static_cast<double>(kSecond));
}

}  // namespace tandem::load
