// How far predicted times to first token are from observed ones: quantiles of observed / predicted
// over the newest requests. 1 is perfect, 2 means that it took twice as long.
//
// Thread: the routing thread. Memory: fixed.
#pragma once

#include <array>
#include <cstdint>

#include "common/ids.h"

namespace tandem::routing {

class PredictionError {
 public:
  // Ignored: durations that are not positive.
  void Observe(Nanos predicted, Nanos observed);

  // `q` in [0, 1]; 0 if nothing was observed. O(window).
  double Quantile(double q) const;
  int64_t count() const { return count_; }  // since the start

 private:
  static constexpr int kWindow = 1024;
  std::array<float, kWindow> ratios_{};
  int64_t count_ = 0;
};

}  // namespace tandem::routing
