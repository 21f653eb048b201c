// What the kernels read of a step, in one piece of memory: packed on the host, copied up at once,
// seen on the device as a Batch and the rows to sample. The places of all arrays follow from a
// shape, so that a graph that was captured for a shape finds every step of it at the same ones.
//
// Pure: no device is touched. Memory: what the caller has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/ops.h"
#include "worker/model/slot_table.h"
#include "worker/step_plan.h"

namespace tandem::model::cuda {

// How much a step holds, padding included.
struct StepShape {
  int32_t tokens = 0;   // T
  int32_t seqs = 0;     // S
  int32_t sampled = 0;  // rows of logits
  bool operator==(const StepShape&) const = default;
};

// What a device remembers between steps; see kernels::cuda::Batch.
struct DeviceState {
  const int32_t* last_sampled = nullptr;
  int32_t* block_tokens = nullptr;
};

// What rows to sample point to, in device memory.
struct SamplingInputs {
  const TokenBias* biases = nullptr;  // [slots, kMaxTokenBiases]
  const uint32_t* masks = nullptr;    // StepPlan::masks
};

class StepLayout {
 public:
  // max_items, max_merges: see kernels::cuda::AttentionPlan.
  StepLayout(const StepShape& shape, const PlanLimits& limits, int32_t max_items,
             int32_t max_merges);

  const StepShape& shape() const { return shape_; }
  int64_t bytes() const { return bytes_; }  // at most

  // Writes the step into `host`; rows and sequences beyond the plan's become padding. Returns how
  // many bytes of it mean something. REQUIRES: it fits the shape; host.size() >= bytes().
  int64_t Pack(const StepPlan& plan, const StepInputs& in,
               const kernels::cuda::AttentionPlan& attention, const SamplingInputs& sampling,
               std::span<std::byte> host) const;

  // Views of memory that starts at `base`.
  kernels::cuda::Batch BatchAt(std::byte* base, const DeviceState& state) const;
  const int32_t* SampledRowsAt(std::byte* base) const;                  // [sampled]
  const kernels::cuda::SampleRow* SampleRowsAt(std::byte* base) const;  // [sampled]

 private:
  int64_t Place(int64_t bytes);
  // Returns the end, like Pack.
  int64_t PackBlocks(const kernels::StepBatch& batch, std::byte* base) const;

  StepShape shape_;
  int64_t max_blocks_;  // of a sequence
  int64_t mask_words_;
  int32_t block_size_;
  int32_t max_items_, max_merges_;
  int64_t bytes_ = 0;
  // Offsets. Block tables, which may be by far the largest, are last, without gaps: only what is
  // used is copied.
  int64_t tokens_, row_sequence_, positions_, slots_, query_start_, context_len_, first_block_,
      sampled_rows_, samples_, counts_, merges_, items_, block_table_;
};

}  // namespace tandem::model::cuda
