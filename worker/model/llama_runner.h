// The forward pass of one rank for all families, which are Llama with differences that ModelConfig
// holds: ModelRunner over kernels::Ops. Made by ModelRunner::Load.
//
// A layer: norm, QKV (with bias), head norms + rope + KV store, attention, O, all-reduce; norm,
// gate/up and down or experts.h, all-reduce. Families with post-norms norm each sum before it is
// added. Norms and residuals are computed by every rank alike; matrices are
// this rank's shard. Logits are split by vocabulary; row i of the sampled rows is collected and
// drawn on rank i % tp, then the drawn tokens go to all.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/comm/communicator.h"
#include "kernels/ops.h"
#include "worker/model/experts.h"
#include "worker/model/llama_weights.h"
#include "worker/model/model_runner.h"
#include "worker/model/model_source.h"
#include "worker/model/shard_layout.h"
#include "worker/model/slot_table.h"

namespace tandem::model {

class LlamaRunner final : public ModelRunner {
 public:
  static StatusOr<std::unique_ptr<LlamaRunner>> Make(const ShardOptions& options,
                                                     std::unique_ptr<ModelSource> source,
                                                     kernels::Communicator& comm);

  const ModelInfo& info() const override { return info_; }
  Status Prepare(int num_blocks) override;
  Status Begin(const StepPlan& plan) override;
  Status Finish(std::span<RowResult> results) override;
  std::span<const float> embeddings() const override {
    return std::span(embeddings_).first(static_cast<size_t>(num_embeddings_) * config_.hidden);
  }

  // Of the step that ran last, [rows, vocab]: row i is that of the (i * tp + rank)-th plan row that
  // sampled. For tests that need more than the most likely tokens.
  kernels::TensorView logits();

 private:
  LlamaRunner(const ShardOptions& options, std::unique_ptr<ModelSource> source,
              kernels::Communicator& comm);

  Status Load();
  void MakeRopeTables();
  void AllocateStep();

  // Leaves the last layer's residual in x_ and what is still to be added to it in partial_.
  void Forward(const StepInputs& in);
  void Attention(const LlamaLayer& layer, int index, const kernels::StepBatch& batch);
  void FeedForward(const LlamaLayer& layer, int num_tokens);
  // Of the ranks' partial_; normed, if the family does.
  void SumPartial(int num_tokens, const std::vector<float>& post_norm);
  // Fills logits_, one row for each sampled row that this rank draws.
  void Logits(const StepInputs& in);
  void Sample(const StepPlan& plan, const StepInputs& in);
  // Fills embeddings_, adds to sums_. Leaves the residuals of the rows that it reads normed.
  void Pool(const StepPlan& plan, const StepInputs& in);
  void Publish(std::span<RowResult> results);

  int tp() const { return comm_.size(); }
  // How many of `num_sampled` rows `rank` draws.
  int NumDrawn(int num_sampled, int rank) const { return (num_sampled - rank + tp() - 1) / tp(); }

  ShardOptions options_;
  std::unique_ptr<ModelSource> source_;
  const ModelConfig& config_;  // source_'s
  kernels::Communicator& comm_;
  std::vector<RankShard> shards_;  // of all ranks
  RankShard shard_;                // this rank's
  ModelInfo info_;

  std::unique_ptr<kernels::Ops> ops_;
  LlamaWeights weights_;
  std::vector<std::unique_ptr<kernels::RopeTable>> ropes_;  // of config_.ropes
  std::unique_ptr<kernels::RopeTable> no_rope_;             // turns nothing
  std::optional<Experts> experts_;
  std::unique_ptr<kernels::KvCache> kv_;
  std::optional<SlotTable> slots_;
  std::optional<uint64_t> last_step_;
  StepPlan plan_;                   // begun, not finished
  const StepInputs* in_ = nullptr;  // of it; null: it is idle
  int num_drawn_ = 0;               // rows of logits_ in use
  int num_embeddings_ = 0;          // rows of embeddings_ in use

  // Step memory, sized for the largest plan. T tokens, S sampled rows; the rest as in LlamaLayer.
  std::vector<float> x_, normed_, partial_;   // [T, H]
  std::vector<float> qkv_, attention_, act_;  // [T, (Nq + 2 Nkv) D], [T, Nq D], [T, F]
  std::vector<float> last_x_, last_partial_;  // [S, H]
  std::vector<float> part_logits_;            // [S, vocab of this rank]
  std::vector<float> logits_;                 // [ceil(S / tp), vocab]
  std::vector<float> embeddings_;             // [S, H]
  // [slots, H]: sums of hidden states, one token after the other, so that they do not depend on how
  // a prompt came in chunks. Twice as exact as what is added, or a long prompt's end would be lost.
  std::vector<double> sums_;
  std::vector<size_t> gather_bytes_;              // [tp]
  std::vector<kernels::SamplingParams> params_;   // [ceil(S / tp)]
  std::vector<kernels::TokenHistory> histories_;  // [ceil(S / tp)]
  std::vector<kernels::SampledToken> drawn_;      // [ceil(S / tp)]
  std::vector<kernels::SampledToken> all_drawn_;  // [S] by rank, then by row
};

}  // namespace tandem::model
