// What a rank remembers of every slot and of every block between steps, and the step's inputs that
// follow from it and from a plan. Pure: no tensor, no device. Memory: all of it in the constructor.
//
// A plan that contradicts what is held (a slot out of range, more blocks than fit, a token that was
// never sampled) is a bug of the leader: CHECK.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "worker/step_plan.h"

namespace tandem::model {

// Views into the table; valid until the next Apply.
struct StepInputs {
  std::span<const int32_t> tokens;       // [T] ids, kLastSampled resolved or as it was
  kernels::StepBatch batch;              // a sequence a plan row
  std::span<const int32_t> sampled;      // plan rows that sample, ascending
  std::span<const int32_t> sampled_row;  // their last query token's row in [0, T)
};

class SlotTable {
 public:
  // What becomes of kLastSampled in a plan: the id that SetSampled said, or, where ids never leave
  // the device between steps, kLastSampled again.
  enum class LastSampled : uint8_t { kResolved, kOnDevice };

  // REQUIRES: limits.max_rows == number of slots.
  SlotTable(const PlanLimits& limits, int num_blocks,
            LastSampled last_sampled = LastSampled::kResolved);

  // Takes the plan's changes over: block tables grow, lengths are those after the step.
  const StepInputs& Apply(const StepPlan& plan);

  // What `slot` drew in this step: its kLastSampled in the next.
  void SetSampled(int slot, TokenId token) { slots_[slot].last_sampled = token; }

  // The tokens whose KV the slot has once the last applied plan has run, wherever they were
  // computed: cached ones are those of the blocks. Valid until the next Apply.
  kernels::TokenHistory History(int slot, int num_prompt_tokens) const {
    return {block_tokens_.data(), BlocksOf(slot), limits_.block_size, slots_[slot].length,
            num_prompt_tokens};
  }

  // What the plan that started the slot said; `num_biases` as in every row of it.
  const TokenBias* Biases(int slot) const {
    return biases_.data() + static_cast<size_t>(slot) * kMaxTokenBiases;
  }

  // Of a row of `plan`; null: none. REQUIRES: the plan was applied.
  const uint32_t* Mask(const StepPlan& plan, const PlanRow& row) const {
    if (row.mask < 0) return nullptr;
    return plan.masks.data() + static_cast<size_t>(row.mask) * limits_.mask_words;
  }

  // Tokens whose KV exists once the last applied plan has run.
  int length(int slot) const { return slots_[slot].length; }

 private:
  struct Slot {
    int32_t length = 0;
    int32_t num_blocks = 0;
    TokenId last_sampled = -1;
  };

  int32_t* BlocksOf(int slot) { return blocks_.data() + slot * limits_.max_blocks_per_seq; }
  const int32_t* BlocksOf(int slot) const {
    return blocks_.data() + slot * limits_.max_blocks_per_seq;
  }
  void AppendBlocks(const StepPlan& plan, const PlanRow& row);
  void AppendTokens(const StepPlan& plan, const PlanRow& row);
  void KeepBiases(const StepPlan& plan, const PlanRow& row);

  PlanLimits limits_;
  int num_blocks_;
  LastSampled last_sampled_;
  std::vector<Slot> slots_;
  std::vector<int32_t> blocks_;        // [slots, max_blocks_per_seq]
  std::vector<int32_t> block_tokens_;  // [num_blocks, block_size]: whose KV is there
  std::vector<TokenBias> biases_;      // [slots, kMaxTokenBiases]
  // Of the step:
  std::vector<int32_t> tokens_, query_start_, context_len_, sampled_, sampled_row_;
  std::vector<int32_t> step_blocks_;  // [rows, max_blocks_per_seq]
  StepInputs inputs_;
};

}  // namespace tandem::model
