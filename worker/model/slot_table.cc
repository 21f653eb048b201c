#include "worker/model/slot_table.h"

#include <algorithm>

#include "common/check.h"

namespace tandem::model {

SlotTable::SlotTable(const PlanLimits& limits, int num_blocks, LastSampled last_sampled)
    : limits_(limits),
      num_blocks_(num_blocks),
      last_sampled_(last_sampled),
      slots_(limits.max_rows),
      blocks_(static_cast<size_t>(limits.max_rows) * limits.max_blocks_per_seq),
      block_tokens_(static_cast<size_t>(num_blocks) * limits.block_size),
      biases_(static_cast<size_t>(limits.max_rows) * kMaxTokenBiases),
      step_blocks_(blocks_.size()) {
  tokens_.reserve(limits.max_step_tokens);
  query_start_.reserve(limits.max_rows + 1);
  context_len_.reserve(limits.max_rows);
  sampled_.reserve(limits.max_rows);
  sampled_row_.reserve(limits.max_rows);
}

const StepInputs& SlotTable::Apply(const StepPlan& plan) {
  TANDEM_CHECK(plan.rows.size() <= slots_.size()) << plan.rows.size() << " rows";
  tokens_.clear();
  query_start_.assign(1, 0);
  context_len_.clear();
  sampled_.clear();
  sampled_row_.clear();
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    const PlanRow& row = plan.rows[i];
    TANDEM_CHECK(row.slot >= 0 && row.slot < limits_.max_rows) << "slot " << row.slot;
    TANDEM_CHECK(row.num_drafts == 0) << "drafts in row " << i;
    TANDEM_CHECK(row.mask < 0 ||
                 (static_cast<size_t>(row.mask) + 1) * limits_.mask_words <= plan.masks.size())
        << "row " << i << " names a mask beyond the plan's";
    Slot& slot = slots_[row.slot];
    if (row.flags & kRowStart) {
      slot = {.length = row.start};
      KeepBiases(plan, row);
    }
    AppendBlocks(plan, row);
    AppendTokens(plan, row);
    query_start_.push_back(static_cast<int32_t>(tokens_.size()));
    context_len_.push_back(slot.length);
    std::copy_n(BlocksOf(row.slot), slot.num_blocks,
                step_blocks_.begin() + i * limits_.max_blocks_per_seq);
    if (row.flags & kRowSample) {
      sampled_.push_back(static_cast<int32_t>(i));
      sampled_row_.push_back(static_cast<int32_t>(tokens_.size()) - 1);
    }
  }
  inputs_.tokens = tokens_;
  inputs_.batch = {.num_tokens = static_cast<int>(tokens_.size()),
                   .num_seqs = static_cast<int>(plan.rows.size()),
                   .query_start = query_start_.data(),
                   .context_len = context_len_.data(),
                   .block_table = step_blocks_.data(),
                   .max_blocks = limits_.max_blocks_per_seq};
  inputs_.sampled = sampled_;
  inputs_.sampled_row = sampled_row_;
  return inputs_;
}

void SlotTable::AppendBlocks(const StepPlan& plan, const PlanRow& row) {
  Slot& slot = slots_[row.slot];
  TANDEM_CHECK(slot.num_blocks + row.num_blocks <= limits_.max_blocks_per_seq)
      << "slot " << row.slot << " would have " << slot.num_blocks + row.num_blocks << " blocks";
  TANDEM_CHECK(static_cast<size_t>(row.first_block) + row.num_blocks <= plan.new_blocks.size())
      << "row of slot " << row.slot << " names blocks beyond the plan's";
  for (const int32_t block : plan.new_blocks.subspan(row.first_block, row.num_blocks)) {
    TANDEM_CHECK(block >= 0 && block < num_blocks_) << "block " << block << " of " << num_blocks_;
    BlocksOf(row.slot)[slot.num_blocks++] = block;
  }
}

void SlotTable::KeepBiases(const StepPlan& plan, const PlanRow& row) {
  TANDEM_CHECK(row.num_biases >= 0 && row.num_biases <= kMaxTokenBiases) << row.num_biases;
  TANDEM_CHECK(static_cast<size_t>(row.first_bias) + row.num_biases <= plan.biases.size())
      << "row of slot " << row.slot << " names biases beyond the plan's";
  std::copy_n(plan.biases.begin() + row.first_bias, row.num_biases,
              biases_.begin() + int64_t{row.slot} * kMaxTokenBiases);
}

void SlotTable::AppendTokens(const StepPlan& plan, const PlanRow& row) {
  TANDEM_CHECK(row.num_tokens >= 1) << "row of slot " << row.slot << " without tokens";
  TANDEM_CHECK(tokens_.size() + row.num_tokens <= tokens_.capacity())
      << "more than " << limits_.max_step_tokens << " tokens in a step";
  TANDEM_CHECK(static_cast<size_t>(row.first_token) + row.num_tokens <= plan.tokens.size())
      << "row of slot " << row.slot << " names tokens beyond the plan's";
  Slot& slot = slots_[row.slot];
  const int32_t block_size = limits_.block_size;
  TANDEM_CHECK(slot.length + row.num_tokens <= slot.num_blocks * block_size)
      << "slot " << row.slot << " has " << slot.length + row.num_tokens << " tokens in "
      << slot.num_blocks << " blocks";
  for (TokenId token : plan.tokens.subspan(row.first_token, row.num_tokens)) {
    if (token == kLastSampled && last_sampled_ == LastSampled::kResolved) {
      token = slot.last_sampled;
      TANDEM_CHECK(token >= 0) << "slot " << row.slot << " has sampled nothing yet";
    }
    tokens_.push_back(token);
    const int32_t block = BlocksOf(row.slot)[slot.length / block_size];
    block_tokens_[static_cast<size_t>(block) * block_size + slot.length % block_size] = token;
    ++slot.length;
  }
}

}  // namespace tandem::model
