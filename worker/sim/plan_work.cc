#include "worker/sim/plan_work.h"

#include "common/check.h"

namespace tandem::sim {

StepWork PlanWork::Apply(const StepPlan& plan) {
  StepWork work;
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    TANDEM_CHECK(row.slot >= 0 && row.slot < static_cast<int>(lengths_.size()) &&
                 row.num_tokens >= 1)
        << "slot " << row.slot << " of " << lengths_.size() << ", " << row.num_tokens << " tokens";
    TANDEM_CHECK(row.num_drafts == 0) << "drafts in row " << i;
    int32_t& length = lengths_[static_cast<size_t>(row.slot)];
    if ((row.flags & kRowStart) != 0) length = row.start;
    if (i < static_cast<size_t>(plan.num_decodes)) {
      ++work.num_decodes;
      work.context_tokens += length + row.num_tokens;
    } else {
      AddChunk(work, length, row.num_tokens);
    }
    length += row.num_tokens;
  }
  return work;
}

}  // namespace tandem::sim
