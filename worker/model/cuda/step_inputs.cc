#include "worker/model/cuda/step_inputs.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/round.h"

namespace tandem::model::cuda {
namespace {

using kernels::cuda::AttentionItem;
using kernels::cuda::AttentionMerge;
using kernels::cuda::SampleRow;

constexpr int64_t kAlign = 16;
constexpr int32_t kPadding = -1;

template <class T>
T* At(std::byte* base, int64_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

// `from`, then `padding` up to `count`.
void Fill(int32_t* to, std::span<const int32_t> from, int32_t count, int32_t padding) {
  std::fill(std::copy(from.begin(), from.end(), to), to + count, padding);
}

// `sequence`: the row's index in the plan.
SampleRow SampleRowOf(const PlanRow& row, int32_t sequence, int32_t context_len,
                      const SamplingInputs& inputs, int64_t mask_words) {
  SampleRow sample;
  sample.slot = row.slot;
  sample.sequence = sequence;
  sample.num_prompt_tokens = row.sampling.num_prompt_tokens;
  sample.params = {
      .temperature = row.sampling.temperature,
      .top_p = row.sampling.top_p,
      .min_p = row.sampling.min_p,
      .top_k = row.sampling.top_k,
      .seed = row.sampling.seed,
      .sequence_index = row.sampling.sequence_index,
      .position = static_cast<uint64_t>(context_len),
      .num_logprobs = row.sampling.num_logprobs,
      .forced_token = row.forced_token,
      .repetition_penalty = row.sampling.repetition_penalty,
      .presence_penalty = row.sampling.presence_penalty,
      .frequency_penalty = row.sampling.frequency_penalty,
      .biases = row.num_biases > 0 ? inputs.biases + int64_t{row.slot} * kMaxTokenBiases : nullptr,
      .num_biases = row.num_biases,
      .mask = row.mask >= 0 ? inputs.masks + row.mask * mask_words : nullptr};
  return sample;
}

}  // namespace

StepLayout::StepLayout(const StepShape& shape, const PlanLimits& limits, int32_t max_items,
                       int32_t max_merges)
    : shape_(shape),
      max_blocks_(limits.max_blocks_per_seq),
      mask_words_(limits.mask_words),
      block_size_(limits.block_size),
      max_items_(max_items),
      max_merges_(max_merges) {
  constexpr int64_t kInt = sizeof(int32_t);
  tokens_ = Place(shape.tokens * kInt);
  row_sequence_ = Place(shape.tokens * kInt);
  positions_ = Place(shape.tokens * kInt);
  slots_ = Place(shape.seqs * kInt);
  query_start_ = Place((shape.seqs + 1) * kInt);
  context_len_ = Place(shape.seqs * kInt);
  first_block_ = Place(shape.seqs * kInt);
  sampled_rows_ = Place(shape.sampled * kInt);
  samples_ = Place(shape.sampled * static_cast<int64_t>(sizeof(SampleRow)));
  counts_ = Place(2 * kInt);
  merges_ = Place(max_merges * static_cast<int64_t>(sizeof(AttentionMerge)));
  items_ = Place(max_items * static_cast<int64_t>(sizeof(AttentionItem)));
  block_table_ = Place(shape.seqs * max_blocks_ * kInt);
}

int64_t StepLayout::Place(int64_t bytes) {
  const int64_t at = bytes_;
  bytes_ += RoundUp(bytes, kAlign);
  return at;
}

int64_t StepLayout::Pack(const StepPlan& plan, const StepInputs& in,
                         const kernels::cuda::AttentionPlan& attention,
                         const SamplingInputs& sampling, std::span<std::byte> host) const {
  const auto seqs = static_cast<int32_t>(plan.rows.size());
  TANDEM_CHECK(static_cast<int64_t>(host.size()) >= bytes_ &&
               in.batch.num_tokens <= shape_.tokens && seqs <= shape_.seqs &&
               static_cast<int32_t>(in.sampled.size()) <= shape_.sampled)
      << in.batch.num_tokens << " tokens, " << seqs << " sequences";
  std::byte* const base = host.data();
  Fill(At<int32_t>(base, tokens_), in.tokens, shape_.tokens, 0);
  auto* const row_sequence = At<int32_t>(base, row_sequence_);
  auto* const positions = At<int32_t>(base, positions_);
  auto* const slots = At<int32_t>(base, slots_);
  Fill(row_sequence, {}, shape_.tokens, kPadding);
  Fill(positions, {}, shape_.tokens, 0);
  Fill(slots, {}, shape_.seqs, kPadding);
  for (int32_t s = 0; s < seqs; ++s) {
    slots[s] = plan.rows[s].slot;
    const int32_t end = in.batch.query_start[s + 1];
    for (int32_t t = in.batch.query_start[s]; t < end; ++t) {
      row_sequence[t] = s;
      positions[t] = in.batch.context_len[s] - (end - t);
    }
  }
  const size_t used = static_cast<size_t>(seqs);
  Fill(At<int32_t>(base, query_start_), {in.batch.query_start, used + 1}, shape_.seqs + 1,
       in.batch.num_tokens);
  Fill(At<int32_t>(base, context_len_), {in.batch.context_len, used}, shape_.seqs, 0);
  Fill(At<int32_t>(base, sampled_rows_), in.sampled_row, shape_.sampled, kPadding);
  auto* const samples = At<SampleRow>(base, samples_);
  for (int32_t i = 0; i < shape_.sampled; ++i) {
    if (i >= static_cast<int32_t>(in.sampled.size())) {
      samples[i] = SampleRow();
      continue;
    }
    const int32_t s = in.sampled[i];
    samples[i] = SampleRowOf(plan.rows[s], s, in.batch.context_len[s], sampling, mask_words_);
  }
  const std::span<const AttentionItem> items = attention.items();
  const std::span<const AttentionMerge> merges = attention.merges();
  TANDEM_CHECK(static_cast<int32_t>(items.size()) <= max_items_ &&
               static_cast<int32_t>(merges.size()) <= max_merges_)
      << items.size() << " items, " << merges.size() << " merges";
  auto* const counts = At<int32_t>(base, counts_);
  counts[0] = static_cast<int32_t>(items.size());
  counts[1] = static_cast<int32_t>(merges.size());
  std::copy(merges.begin(), merges.end(), At<AttentionMerge>(base, merges_));
  std::copy(items.begin(), items.end(), At<AttentionItem>(base, items_));
  return PackBlocks(in.batch, base);
}

// Only the blocks that a step looks at: room for 64 sequences of 128 Ki tokens is 2 MiB.
int64_t StepLayout::PackBlocks(const kernels::StepBatch& batch, std::byte* base) const {
  TANDEM_CHECK(batch.max_blocks <= max_blocks_) << batch.max_blocks;
  auto* const first_block = At<int32_t>(base, first_block_);
  auto* const table = At<int32_t>(base, block_table_);
  int32_t* end = table;
  for (int32_t s = 0; s < batch.num_seqs; ++s) {
    first_block[s] = static_cast<int32_t>(end - table);
    end = std::copy_n(batch.block_table + s * batch.max_blocks,
                      CeilDiv(batch.context_len[s], block_size_), end);
  }
  // Padding has no keys, so nothing is looked up for it.
  std::fill(first_block + batch.num_seqs, first_block + shape_.seqs, 0);
  return reinterpret_cast<std::byte*>(end) - base;
}

kernels::cuda::Batch StepLayout::BatchAt(std::byte* base, const DeviceState& state) const {
  kernels::cuda::Batch batch;
  batch.num_tokens = shape_.tokens;
  batch.num_seqs = shape_.seqs;
  batch.tokens = At<int32_t>(base, tokens_);
  batch.row_sequence = At<int32_t>(base, row_sequence_);
  batch.positions = At<int32_t>(base, positions_);
  batch.slots = At<int32_t>(base, slots_);
  batch.query_start = At<int32_t>(base, query_start_);
  batch.context_len = At<int32_t>(base, context_len_);
  batch.block_table = At<int32_t>(base, block_table_);
  batch.first_block = At<int32_t>(base, first_block_);
  batch.items = At<AttentionItem>(base, items_);
  batch.num_items = At<int32_t>(base, counts_);
  batch.max_items = max_items_;
  batch.merges = At<AttentionMerge>(base, merges_);
  batch.num_merges = batch.num_items + 1;
  batch.max_merges = max_merges_;
  batch.last_sampled = state.last_sampled;
  batch.block_tokens = state.block_tokens;
  batch.block_size = block_size_;
  return batch;
}

const int32_t* StepLayout::SampledRowsAt(std::byte* base) const {
  return At<int32_t>(base, sampled_rows_);
}

const SampleRow* StepLayout::SampleRowsAt(std::byte* base) const {
  return At<SampleRow>(base, samples_);
}

}  // namespace tandem::model::cuda
