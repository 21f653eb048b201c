#include "router/routing/prediction_error.h"

#include <algorithm>
#include <cstddef>

namespace tandem::routing {

void PredictionError::Observe(Nanos predicted, Nanos observed) {
  if (predicted <= 0 || observed <= 0) return;
  ratios_[static_cast<size_t>(count_ % kWindow)] =
      static_cast<float>(static_cast<double>(observed) / static_cast<double>(predicted));
  ++count_;
}

double PredictionError::Quantile(double q) const {
  const auto size = std::min<int64_t>(count_, kWindow);
  if (size == 0) return 0;
  std::array<float, kWindow> sorted = ratios_;
  const auto rank = static_cast<ptrdiff_t>(std::clamp(q, 0.0, 1.0) * static_cast<double>(size - 1));
  std::nth_element(sorted.begin(), sorted.begin() + rank, sorted.begin() + size);
  return sorted[static_cast<size_t>(rank)];
}

}  // namespace tandem::routing
