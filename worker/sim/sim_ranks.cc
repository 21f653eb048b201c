#include "worker/sim/sim_ranks.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace tandem::sim {

SimRanks::SimRanks(const DeviceProfile& profile, const PlanLimits& limits,
                   const SimSampler& sampler, std::function<Nanos()> clock)
    : profile_(profile),
      sampler_(sampler),
      clock_(std::move(clock)),
      work_(limits.max_rows),
      mask_words_(static_cast<size_t>(limits.mask_words)),
      biases_(static_cast<size_t>(limits.max_rows)) {
  for (worker::StepResult& step : steps_) step.rows.resize(static_cast<size_t>(limits.max_rows));
}

// The results are made now and shown when the step is over.
bool SimRanks::Publish(const StepPlan& plan, Nanos /*limit: a clock is never late*/) {
  TANDEM_CHECK(num_in_flight_ < kSlots) << "more steps in flight than there are slots";
  worker::StepResult& step = steps_[(oldest_ + static_cast<size_t>(num_in_flight_)) % kSlots];
  ++num_in_flight_;
  const StepWork work = work_.Apply(plan);
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    step.rows[i].token = -1;
    std::vector<TokenBias>& biases = biases_[static_cast<size_t>(row.slot)];
    if ((row.flags & kRowStart) != 0) {
      const auto first = plan.biases.begin() + row.first_bias;
      biases.assign(first, first + row.num_biases);
    }
    if ((row.flags & kRowSample) == 0) continue;
    std::span<const uint32_t> mask;
    if (row.mask >= 0) {
      mask = plan.masks.subspan(static_cast<size_t>(row.mask) * mask_words_, mask_words_);
    }
    sampler_.Sample(row, work_.length(row.slot), biases, mask, step.rows[i]);
  }
  step.start = std::max(clock_(), busy_until_);
  step.end = busy_until_ = step.start + StepTime(profile_, work);
  return true;
}

const worker::StepResult* SimRanks::Oldest() {
  return busy() && clock_() >= due() ? &steps_[oldest_] : nullptr;
}

void SimRanks::Pop() {
  TANDEM_CHECK(busy()) << "nothing is in flight";
  oldest_ = (oldest_ + 1) % kSlots;
  --num_in_flight_;
}

}  // namespace tandem::sim
