#include "kernels/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tandem::kernels {
namespace {

// The pair index (not an integer) that turns `turns` times in the context trained for.
double PairOfTurns(const RopeSpec& spec, double turns) {
  return spec.dims * std::log(spec.scaling.original_context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(spec.theta));
}

// How much of pair i's frequency is kept: 1 for fast pairs, 0 for slow ones.
double KeptPart(const RopeSpec& spec, int i) {
  if (spec.scaling.type != RopeScaling::Type::kYarn) return 0;
  const double low = std::max(0.0, std::floor(PairOfTurns(spec, spec.scaling.beta_fast)));
  const double high =
      std::min(spec.dims - 1.0, std::ceil(PairOfTurns(spec, spec.scaling.beta_slow)));
  return 1 - std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
}

}  // namespace

double YarnAttentionFactor(double factor) { return factor <= 1 ? 1 : 0.1 * std::log(factor) + 1; }

std::vector<double> RopeFrequencies(const RopeSpec& spec) {
  std::vector<double> frequencies;
  for (int i = 0; i < spec.dims / 2; ++i) {
    double frequency = std::pow(spec.theta, -2.0 * i / spec.dims);
    if (!spec.freq_factors.empty()) frequency /= spec.freq_factors[i];
    if (spec.scaling.type != RopeScaling::Type::kNone) {
      const double kept = KeptPart(spec, i);
      frequency *= kept + (1 - kept) / spec.scaling.factor;
    }
    frequencies.push_back(frequency);
  }
  return frequencies;
}

std::vector<float> RopeCosSin(const RopeSpec& spec) {
  const std::vector<double> frequencies = RopeFrequencies(spec);
  std::vector<float> table(static_cast<size_t>(spec.max_positions) * spec.dims);
  for (int p = 0; p < spec.max_positions; ++p) {
    float* row = table.data() + static_cast<size_t>(p) * spec.dims;  // none, if nothing is rotated
    for (size_t i = 0; i < frequencies.size(); ++i) {
      row[2 * i] = static_cast<float>(std::cos(p * frequencies[i]) * spec.scaling.attention_factor);
      row[2 * i + 1] =
          static_cast<float>(std::sin(p * frequencies[i]) * spec.scaling.attention_factor);
    }
  }
  return table;
}

}  // namespace tandem::kernels
