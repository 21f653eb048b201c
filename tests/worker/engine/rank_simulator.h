// A rank without numbers. It follows step plans exactly as a real one must, by slot and from deltas
// alone, and keeps for every KV position which token was computed there after which prefix. Its
// "model" is a hash of the whole token prefix, read back through the block table: one position that
// is stale, poisoned, shared too early or in the wrong place changes every later token, and is
// reported where it is read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/step_plan.h"

namespace tandem::engine {

// The token that the model samples after `prefix` (never empty): none that has a bias there,
// however great, and of those in `mask`, if that is not empty.
TokenId SampleAfter(std::span<const TokenId> prefix, const SamplingSpec& sampling, int vocab_size,
                    std::span<const TokenBias> biases = {}, std::span<const uint32_t> mask = {});

// What stands for the hidden states of `tokens`, pooled: the last one, or the mean of all.
std::vector<float> Pooled(std::span<const TokenId> tokens, bool mean);

class RankSimulator {
 public:
  RankSimulator(const PlanLimits& limits, int num_blocks, int vocab_size);

  // Computes one step; reports every violation of worker/step_plan.h as a test failure.
  void Run(const StepPlan& plan, std::vector<RowResult>& results);

  // Of the rows of the last Run that give one.
  const std::vector<float>& embeddings() const { return embeddings_; }

  int64_t num_tokens_computed() const { return num_tokens_computed_; }

 private:
  struct KvEntry {
    TokenId token = -1;  // -1: poison
    int position = -1;
    uint64_t step = 0;
    int slot = -1;
  };
  struct Slot {
    bool live = false;
    std::vector<int32_t> block_table;
    int length = 0;
    TokenId last_sampled = -1;
    uint64_t sampled_step = 0;
    std::vector<TokenBias> biases;
    double sum = 0;  // of states
    int num_summed = 0;
  };

  void CheckShape(const StepPlan& plan);
  void ApplyDelta(const StepPlan& plan, const PlanRow& row);
  void Write(const StepPlan& plan, const PlanRow& row);
  void Pool(const PlanRow& row, std::span<const TokenId> prefix);
  RowResult Attend(const StepPlan& plan, const PlanRow& row);
  KvEntry& At(const Slot& slot, int position);

  const PlanLimits limits_;
  const int vocab_size_;
  std::vector<KvEntry> kv_;  // [num_blocks, block_size]
  std::vector<Slot> slots_;
  std::vector<float> embeddings_;
  uint64_t step_ = 0;
  int64_t num_tokens_computed_ = 0;
};

}  // namespace tandem::engine
