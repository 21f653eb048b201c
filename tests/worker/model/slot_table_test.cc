#include "worker/model/slot_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::model {
namespace {

using ::testing::ElementsAre;

constexpr PlanLimits kLimits = {
    .max_rows = 4, .max_step_tokens = 64, .max_blocks_per_seq = 4, .block_size = 16};

std::span<const int32_t> BlocksOf(const StepInputs& in, int row) {
  const auto& b = in.batch;
  return {b.block_table + row * b.max_blocks, static_cast<size_t>((b.context_len[row] + 15) / 16)};
}

struct Plan {
  std::vector<PlanRow> rows;
  std::vector<TokenId> tokens;
  std::vector<int32_t> blocks;

  Plan& Row(int slot, uint32_t flags, int start, std::vector<TokenId> ids,
            std::vector<int32_t> new_blocks) {
    PlanRow row;
    row.slot = slot;
    row.flags = flags;
    row.start = start;
    row.num_tokens = static_cast<int32_t>(ids.size());
    row.first_token = static_cast<int32_t>(tokens.size());
    row.first_block = static_cast<int32_t>(blocks.size());
    row.num_blocks = static_cast<int32_t>(new_blocks.size());
    rows.push_back(row);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    blocks.insert(blocks.end(), new_blocks.begin(), new_blocks.end());
    return *this;
  }
  StepPlan View() const {
    StepPlan plan;
    plan.rows = rows;
    plan.tokens = tokens;
    plan.new_blocks = blocks;
    return plan;
  }
};

TEST(SlotTable, AChunkThenADecodeGrowTheSlot) {
  SlotTable table(kLimits, 10);
  Plan chunk;
  chunk.Row(2, kRowStart | kRowSample, 0, {5, 6, 7}, {4});
  const StepInputs& first = table.Apply(chunk.View());
  EXPECT_THAT(first.tokens, ElementsAre(5, 6, 7));
  EXPECT_THAT(std::vector(first.batch.query_start, first.batch.query_start + 2), ElementsAre(0, 3));
  EXPECT_EQ(first.batch.context_len[0], 3);
  EXPECT_THAT(first.sampled, ElementsAre(0));
  EXPECT_THAT(first.sampled_row, ElementsAre(2));
  table.SetSampled(2, 9);

  Plan decode;
  decode.Row(2, kRowSample, 0, {kLastSampled}, {});
  const StepInputs& second = table.Apply(decode.View());
  EXPECT_THAT(second.tokens, ElementsAre(9));
  EXPECT_EQ(second.batch.context_len[0], 4);
  EXPECT_THAT(BlocksOf(second, 0), ElementsAre(4));
}

TEST(SlotTable, ACachedStartSkipsTheTokensAndHasTheirBlocks) {
  SlotTable table(kLimits, 10);
  Plan plan;
  plan.Row(0, kRowStart, 32, {1, 2}, {3, 1, 7});
  const StepInputs& in = table.Apply(plan.View());
  EXPECT_EQ(in.batch.context_len[0], 34);
  EXPECT_THAT(BlocksOf(in, 0), ElementsAre(3, 1, 7));
  EXPECT_TRUE(in.sampled.empty());
}

std::vector<int32_t> Tokens(const kernels::TokenHistory& history) {
  std::vector<int32_t> tokens;
  history.ForEach([&](int32_t i, int32_t token) {
    EXPECT_EQ(i, static_cast<int32_t>(tokens.size()));
    tokens.push_back(token);
  });
  return tokens;
}

// A sequence that starts on blocks which others computed has their tokens.
TEST(SlotTable, HistoryIsThatOfTheBlocks) {
  SlotTable table(kLimits, 10);
  std::vector<TokenId> prompt(18);
  for (int i = 0; i < 18; ++i) prompt[i] = 100 + i;
  Plan first;
  first.Row(1, kRowStart | kRowSample, 0, prompt, {4, 2});
  table.Apply(first.View());
  table.SetSampled(1, 9);
  Plan second;
  second.Row(1, kRowSample, 0, {kLastSampled}, {}).Row(0, kRowStart, 16, {7}, {4, 8});
  table.Apply(second.View());

  std::vector<int32_t> want(prompt.begin(), prompt.end());
  want.push_back(9);
  EXPECT_EQ(Tokens(table.History(1, 18)), want);
  EXPECT_EQ(table.History(1, 18).num_prompt_tokens, 18);
  want.resize(16);
  want.push_back(7);
  EXPECT_EQ(Tokens(table.History(0, 5)), want);

  // A slot that begins anew has nothing of what it held.
  Plan third;
  third.Row(1, kRowStart, 0, {3}, {2});
  table.Apply(third.View());
  EXPECT_THAT(Tokens(table.History(1, 1)), ElementsAre(3));
  EXPECT_EQ(Tokens(table.History(0, 5)), want);
}

TEST(SlotTable, RowsAreLaidOutInPlanOrder) {
  SlotTable table(kLimits, 10);
  Plan plan;
  plan.Row(3, kRowStart | kRowSample, 0, {1}, {0})
      .Row(0, kRowStart, 0, {2, 3}, {1})
      .Row(1, kRowStart | kRowSample, 0, {4, 5, 6}, {2});
  const StepInputs& in = table.Apply(plan.View());
  EXPECT_EQ(in.batch.num_tokens, 6);
  EXPECT_EQ(in.batch.num_seqs, 3);
  EXPECT_THAT(std::vector(in.batch.query_start, in.batch.query_start + 4), ElementsAre(0, 1, 3, 6));
  EXPECT_THAT(in.sampled, ElementsAre(0, 2));
  EXPECT_THAT(in.sampled_row, ElementsAre(0, 5));
  EXPECT_THAT(BlocksOf(in, 1), ElementsAre(1));
}

TEST(SlotTable, StartingAnewForgetsTheSlot) {
  SlotTable table(kLimits, 10);
  table.Apply(Plan().Row(1, kRowStart, 0, {1, 2, 3}, {5}).View());
  const StepInputs& in = table.Apply(Plan().Row(1, kRowStart, 0, {8}, {6}).View());
  EXPECT_EQ(table.length(1), 1);
  EXPECT_THAT(BlocksOf(in, 0), ElementsAre(6));
}

TEST(SlotTableDeathTest, PlansThatContradictWhatIsHeldAreBugs) {
  SlotTable table(kLimits, 10);
  const auto apply = [&](Plan plan) { table.Apply(plan.View()); };
  EXPECT_DEATH(apply(Plan().Row(4, kRowStart, 0, {1}, {0})), "slot 4");
  EXPECT_DEATH(apply(Plan().Row(0, kRowStart, 0, {1}, {10})), "block 10 of 10");
  EXPECT_DEATH(apply(Plan().Row(0, kRowStart, 0, {kLastSampled}, {0})), "sampled nothing");
  EXPECT_DEATH(apply(Plan().Row(0, kRowStart, 0, {1}, {})), "1 tokens in 0 blocks");
  EXPECT_DEATH(apply(Plan().Row(0, kRowStart, 0, {1}, {0, 1, 2, 3, 4})), "5 blocks");
}

}  // namespace
}  // namespace tandem::model
