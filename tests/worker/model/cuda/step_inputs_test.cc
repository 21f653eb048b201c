#include "worker/model/cuda/step_inputs.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace tandem::model::cuda {
namespace {

constexpr PlanLimits kLimits = {.max_rows = 4,
                                .max_step_tokens = 8,
                                .max_blocks_per_seq = 3,
                                .block_size = 16,
                                .mask_words = 3};

kernels::cuda::AttentionPlanSpec Attention() {
  kernels::cuda::AttentionPlanSpec spec;
  spec.max_tokens = 8;
  spec.max_seqs = 4;
  spec.max_context = 48;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.blocks_at_once = 8;
  return spec;
}

// Slot 2 decodes after three tokens; slot 1 begins with a chunk of five that is not sampled.
class Packed : public ::testing::Test {
 protected:
  void SetUp() override {
    SlotTable slots(kLimits, 10, SlotTable::LastSampled::kOnDevice);
    PlanRow begin{.slot = 2, .flags = kRowStart, .num_tokens = 3, .num_blocks = 1, .sampling = {}};
    const std::vector<TokenId> prompt = {5, 6, 7};
    const std::vector<int32_t> block = {9};
    StepPlan first;
    first.step = 1;
    first.rows = {&begin, 1};
    first.tokens = prompt;
    first.new_blocks = block;
    slots.Apply(first);
    rows_[0] = {
        .slot = 2, .flags = kRowSample, .num_tokens = 1, .forced_token = 77, .sampling = {}};
    rows_[0].sampling.seed = 123;
    rows_[0].num_biases = 2;
    rows_[0].mask = 1;
    rows_[1] = {.slot = 1,
                .flags = kRowStart,
                .start = 16,
                .num_tokens = 5,
                .first_token = 1,
                .num_blocks = 2,
                .sampling = {}};
    plan_.step = 2;
    plan_.num_decodes = 1;
    plan_.rows = rows_;
    plan_.tokens = tokens_;
    plan_.new_blocks = blocks_;
    plan_.masks = masks_;
    const StepInputs& in = slots.Apply(plan_);
    kernels::cuda::AttentionPlan attention(Attention());
    attention.Make({in.batch.query_start, 3}, {in.batch.context_len, 2});
    num_items_ = static_cast<int32_t>(attention.items().size());
    layout_.emplace(StepShape{8, 4, 2}, kLimits, attention.MaxItems(8, 4), attention.MaxMerges(8));
    memory_.assign(static_cast<size_t>(layout_->bytes()), std::byte{0xAB});
    used_ = layout_->Pack(plan_, in, attention, {biases_.data(), masks_.data()}, memory_);
    batch_ = layout_->BatchAt(memory_.data(), {});
  }

  template <class T>
  static std::vector<T> Values(const T* data, int count) {
    return {data, data + count};
  }

  const std::vector<TokenBias> biases_ = std::vector<TokenBias>(8 * kMaxTokenBiases);
  const std::vector<uint32_t> masks_ = std::vector<uint32_t>(6);
  PlanRow rows_[2];
  std::vector<TokenId> tokens_ = {kLastSampled, 1, 2, 3, 4, 5};
  std::vector<int32_t> blocks_ = {4, 8};
  StepPlan plan_;
  std::optional<StepLayout> layout_;
  std::vector<std::byte> memory_;
  int64_t used_ = 0;
  int32_t num_items_ = 0;
  kernels::cuda::Batch batch_;
};

using Ints = std::vector<int32_t>;

TEST_F(Packed, RowsHavePositionsAndSequences) {
  EXPECT_EQ(Values(batch_.tokens, 6), (Ints{-1, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Values(batch_.row_sequence, 8), (Ints{0, 1, 1, 1, 1, 1, -1, -1}));
  EXPECT_EQ(Values(batch_.positions, 6), (Ints{3, 16, 17, 18, 19, 20}));
}

TEST_F(Packed, SequencesHaveSlotsLengthsAndBlocks) {
  EXPECT_EQ(Values(batch_.slots, 4), (Ints{2, 1, -1, -1}));
  EXPECT_EQ(Values(batch_.query_start, 5), (Ints{0, 1, 6, 6, 6}));
  EXPECT_EQ(Values(batch_.context_len, 4), (Ints{4, 21, 0, 0}));
  EXPECT_EQ(Values(batch_.first_block, 4), (Ints{0, 1, 0, 0}));
  EXPECT_EQ(Values(batch_.block_table, 3), (Ints{9, 4, 8}));
}

TEST_F(Packed, RowsThatSampleComeFirstThenPadding) {
  EXPECT_EQ(Values(layout_->SampledRowsAt(memory_.data()), 2), (Ints{0, -1}));
  const kernels::cuda::SampleRow* samples = layout_->SampleRowsAt(memory_.data());
  EXPECT_EQ(samples[0].slot, 2);
  EXPECT_EQ(samples[0].sequence, 0);
  EXPECT_EQ(samples[0].params.seed, 123u);
  EXPECT_EQ(samples[0].params.position, 4u);
  EXPECT_EQ(samples[0].params.forced_token, 77);
  EXPECT_EQ(samples[0].params.biases, biases_.data() + 2 * kMaxTokenBiases);
  EXPECT_EQ(samples[0].params.mask, masks_.data() + 3);
  EXPECT_EQ(samples[1].slot, -1);
}

TEST_F(Packed, OnlyBlocksThatAreLookedAtAreCopied) {
  EXPECT_EQ(*batch_.num_items, num_items_);
  const auto* end = reinterpret_cast<const std::byte*>(batch_.block_table + 3);
  EXPECT_EQ(used_, end - memory_.data());
  EXPECT_LT(used_, layout_->bytes());
}

// Bytes of a step of decodes, one of each context, with room for 128 Ki tokens each.
int64_t BytesOf(const std::vector<int>& contexts) {
  const auto seqs = static_cast<int32_t>(contexts.size());
  const PlanLimits limits = {.max_rows = seqs,
                             .max_step_tokens = seqs,
                             .max_blocks_per_seq = (128 << 10) / 16 + 1,
                             .block_size = 16};
  kernels::cuda::AttentionPlanSpec spec = Attention();
  spec.max_tokens = spec.max_seqs = seqs;
  spec.max_context = 128 << 10;
  kernels::cuda::AttentionPlan attention(spec);
  std::vector<int32_t> query_start(contexts.size() + 1),
      context_len(contexts.begin(), contexts.end());
  std::iota(query_start.begin(), query_start.end(), 0);
  attention.Make(query_start, context_len);
  const std::vector<PlanRow> rows(contexts.size());
  const std::vector<int32_t> tokens(contexts.size()),
      table(contexts.size() * limits.max_blocks_per_seq);
  StepPlan plan;
  plan.rows = rows;
  StepInputs in;
  in.tokens = tokens;
  in.batch = {.num_tokens = seqs,
              .num_seqs = seqs,
              .query_start = query_start.data(),
              .context_len = context_len.data(),
              .block_table = table.data(),
              .max_blocks = limits.max_blocks_per_seq};
  const StepLayout layout({seqs, seqs, seqs}, limits, attention.MaxItems(seqs, seqs),
                          attention.MaxMerges(seqs));
  std::vector<std::byte> memory(static_cast<size_t>(layout.bytes()));
  return layout.Pack(plan, in, attention, {}, memory);
}

TEST(StepBytes, GrowWithTheContextsInUse) {
  std::vector<int> contexts(64, 1024);
  const int64_t short_ones = BytesOf(contexts);
  EXPECT_LT(short_ones, 32 << 10);
  contexts.back() = 128 << 10;
  EXPECT_EQ(BytesOf(contexts) - short_ones, (128 - 1) * 1024 / 16 * 4);
}

}  // namespace
}  // namespace tandem::model::cuda
