#include "kernels/cpu/attention_plan.h"

#include <algorithm>

#include "kernels/ops_check.h"

namespace tandem::kernels::cpu {

AttentionPlan::AttentionPlan(int max_tokens) {
  tokens_.reserve(max_tokens);
  parts_.reserve(max_tokens);
  shorts_.reserve(max_tokens);
}

void AttentionPlan::Build(TensorView out, TensorView q, const StepBatch& batch,
                          const KvCacheSpec& spec, int threads) {
  tokens_.clear();
  parts_.clear();
  shorts_.clear();
  int short_tokens = 0;
  for (int s = 0; s < batch.num_seqs; ++s) {
    const int begin = batch.query_start[s], end = batch.query_start[s + 1];
    if (end - begin < kAttentionTokens) {
      shorts_.push_back(
          {batch.block_table + s * batch.max_blocks, s, end - begin, batch.context_len[s]});
      short_tokens += end - begin;
      continue;
    }
    for (int t = begin; t < end; t += kAttentionTokens) {
      AddPart(out, q, batch, s, t, std::min(kAttentionTokens, end - t));
    }
  }
  // Of one prefix as many parts as keep all threads busy.
  const int parts = threads == 1 ? 1 : (2 * threads - 1) / spec.num_kv_heads + 1;
  AddShorts(out, q, batch, spec.block_size,
            std::min(kAttentionTokens, (short_tokens - 1) / parts + 1));
}

void AttentionPlan::AddPart(TensorView out, TensorView q, const StepBatch& batch, int sequence,
                            int first_row, int num_tokens) {
  const int32_t* blocks = batch.block_table + sequence * batch.max_blocks;
  parts_.push_back({static_cast<int>(tokens_.size()), num_tokens, 0});
  for (int t = first_row; t < first_row + num_tokens; ++t) {
    tokens_.push_back({q.row(t), out.row(t), blocks, PositionOfRow(batch, sequence, t)});
  }
}

void AttentionPlan::AddShorts(TensorView out, TensorView q, const StepBatch& batch, int block_size,
                              int most_tokens) {
  const auto num_blocks = [&](const Short& s) { return (s.context - 1) / block_size + 1; };
  const auto ends = [&](const Short& s) { return s.blocks + num_blocks(s); };
  // Those that share a prefix become neighbours.
  std::sort(shorts_.begin(), shorts_.end(), [&](const Short& a, const Short& b) {
    const auto [at_a, at_b] = std::mismatch(a.blocks, ends(a), b.blocks, ends(b));
    if (at_a == ends(a) || at_b == ends(b)) {
      return num_blocks(a) != num_blocks(b) ? num_blocks(a) < num_blocks(b)
                                            : a.sequence < b.sequence;
    }
    return *at_a < *at_b;
  });
  int members = 0;  // of the part that may still grow
  for (size_t i = 0; i < shorts_.size(); ++i) {
    const Short& now = shorts_[i];
    int shared = 0;
    if (i > 0) {
      const Short& before = shorts_[i - 1];
      const auto same = std::mismatch(now.blocks, ends(now), before.blocks, ends(before)).first;
      const int positions =
          std::min({static_cast<int>(same - now.blocks) * block_size, now.context, before.context});
      shared = positions / kAttentionSplit * kAttentionSplit;
    }
    // One more member reads what it shares for nothing; the others may share less than before.
    bool joins =
        members > 0 && shared > 0 && parts_.back().num_tokens + now.num_tokens <= most_tokens;
    if (joins && members > 1) {
      shared = std::min(shared, parts_.back().shared);
      joins = (members - 1) * (parts_.back().shared - shared) <= shared;
    }
    AddPart(out, q, batch, now.sequence, batch.query_start[now.sequence], now.num_tokens);
    if (!joins) {
      members = 1;
      continue;
    }
    const int added = parts_.back().num_tokens;
    parts_.pop_back();
    parts_.back().num_tokens += added;
    parts_.back().shared = shared;
    ++members;
  }
}

}  // namespace tandem::kernels::cpu
