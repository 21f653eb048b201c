#include "worker/step_results.h"

#include <utility>

#include "common/check.h"

namespace tandem::worker {

StepResults::StepResults(int max_rows, std::function<void()> on_result)
    : slots_(kSlots), on_result_(std::move(on_result)) {
  for (StepResult& slot : slots_) slot.rows.resize(static_cast<size_t>(max_rows));
}

void StepResults::Put(Nanos step_start, Nanos step_end, std::span<const float> embeddings) {
  const uint32_t index = put_.load(std::memory_order_relaxed);
  TANDEM_CHECK(index - taken_.load(std::memory_order_acquire) < kSlots - 1)
      << "more steps in flight than there are slots";
  slots_[index % kSlots].start = step_start;
  slots_[index % kSlots].end = step_end;
  slots_[index % kSlots].embeddings.assign(embeddings.begin(), embeddings.end());
  put_.store(index + 1, std::memory_order_release);
  on_result_();
}

const StepResult* StepResults::Oldest() const {
  const uint32_t taken = taken_.load(std::memory_order_relaxed);
  if (put_.load(std::memory_order_acquire) == taken) return nullptr;
  return &slots_[taken % kSlots];
}

}  // namespace tandem::worker
