// Hands what rank 0's model thread sampled to the engine thread: a few slots of fixed size, one
// writer, one reader, in the order of the plans.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/ids.h"
#include "worker/ranks.h"
#include "worker/step_plan.h"

namespace tandem::worker {

class StepResults {
 public:
  static constexpr uint32_t kSlots = 4;  // the plan ring never has more in flight

  // `on_result` is called on the model thread after each Put.
  StepResults(int max_rows, std::function<void()> on_result);

  // Model thread: where the next step's results go, and that they are there.
  std::span<RowResult> Next() { return slots_[put_.load(std::memory_order_relaxed) % kSlots].rows; }
  // `embeddings` is copied: a step with some may allocate.
  void Put(Nanos step_start, Nanos step_end, std::span<const float> embeddings = {});

  // Engine thread: the oldest result not yet taken, or null. Pop frees its slot.
  const StepResult* Oldest() const;
  void Pop() { taken_.fetch_add(1, std::memory_order_release); }

 private:
  std::vector<StepResult> slots_;
  std::function<void()> on_result_;
  std::atomic<uint32_t> put_{0};
  std::atomic<uint32_t> taken_{0};
};

}  // namespace tandem::worker
