#include "kernels/cuda/attention_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace tandem::kernels::cuda {
namespace {

struct Step {
  std::vector<int32_t> query_start = {0}, context_len;
  void Add(int32_t tokens, int32_t context) {
    query_start.push_back(query_start.back() + tokens);
    context_len.push_back(context);
  }
  int32_t num_tokens() const { return query_start.back(); }
  int32_t num_seqs() const { return static_cast<int32_t>(context_len.size()); }
};

AttentionPlanSpec Spec(int32_t heads, int32_t kv_heads, int32_t blocks_at_once) {
  AttentionPlanSpec spec;
  spec.max_tokens = 512;
  spec.max_seqs = 64;
  spec.max_context = 100'000;
  spec.num_heads = heads;
  spec.num_kv_heads = kv_heads;
  spec.blocks_at_once = blocks_at_once;
  return spec;
}

// Every unit that a token sees is in exactly one item, and where there are several items, in one
// partial result, which one merge collects in ascending order.
void ExpectWhole(const AttentionPlan& plan, const AttentionPlanSpec& spec, const Step& step) {
  std::map<int32_t, std::vector<std::pair<int32_t, int32_t>>> units;  // row -> (unit, partial)
  for (const AttentionItem& item : plan.items()) {
    const int32_t s = item.sequence;
    ASSERT_LT(item.first_unit, item.end_unit);
    ASSERT_GE(item.first_row, step.query_start[s]);
    ASSERT_LE(item.first_row + item.num_tokens, step.query_start[s + 1]);
    ASSERT_EQ(item.first_position,
              step.context_len[s] - (step.query_start[s + 1] - item.first_row));
    for (int32_t i = 0; i < item.num_tokens; ++i) {
      for (int32_t u = item.first_unit; u < item.end_unit; ++u) {
        units[item.first_row + i].push_back(
            {u,
             item.partial < 0 ? -1 : item.partial + (u - item.first_unit) * item.num_tokens + i});
      }
    }
  }
  ASSERT_EQ(static_cast<int32_t>(units.size()), step.num_tokens());
  std::map<int32_t, AttentionMerge> merges;
  for (const AttentionMerge& merge : plan.merges()) {
    ASSERT_TRUE(merges.insert({merge.row, merge}).second);
  }
  const int64_t room = plan.PartialBytes(128) / 4 / (spec.num_heads * 130);
  std::set<int32_t> partials;
  for (auto& [row, seen] : units) {
    std::sort(seen.begin(), seen.end());
    const auto s = std::upper_bound(step.query_start.begin(), step.query_start.end(), row) -
                   step.query_start.begin() - 1;
    const int32_t position = step.context_len[s] - (step.query_start[s + 1] - row);
    const int32_t first =
        spec.window > 0 ? std::max(0, position - spec.window + 1) / kAttentionUnit : 0;
    ASSERT_LE(seen.front().first, first);
    ASSERT_GE(seen.back().first, position / kAttentionUnit);
    ASSERT_EQ(seen.back().first - seen.front().first + 1, static_cast<int32_t>(seen.size()));
    if (seen.front().second < 0) {
      ASSERT_EQ(merges.count(row), 0u);
      continue;
    }
    const AttentionMerge merge = merges.at(row);
    ASSERT_EQ(merge.count, static_cast<int32_t>(seen.size()));
    for (int32_t i = 0; i < merge.count; ++i) {
      ASSERT_EQ(seen[i].second, merge.first + i * merge.stride);
      ASSERT_LT(seen[i].second, room);
      ASSERT_TRUE(partials.insert(seen[i].second).second);
    }
  }
}

TEST(AttentionPlan, AnyStepIsCoveredOnceAndWithinItsBounds) {
  std::mt19937 random(1);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 100; ++round) {
    const int kv_heads = draw(1, 8);
    AttentionPlanSpec spec = Spec(kv_heads * draw(1, 16), kv_heads, draw(1, 500));
    spec.window = draw(0, 1) * draw(1, 1000);
    spec.min_piece_units = draw(1, 6);
    AttentionPlan plan(spec);
    Step step;
    for (int s = draw(1, 40); s > 0; --s) {
      const int room = spec.max_tokens - step.num_tokens();
      const int tokens = std::min(room, draw(0, 3) == 0 ? draw(0, 200) : draw(0, 1));
      step.Add(tokens, tokens + draw(0, draw(0, 5) == 0 ? 90'000 : 600));
    }
    plan.Make(step.query_start, step.context_len);
    ExpectWhole(plan, spec, step);
    EXPECT_LE(static_cast<int32_t>(plan.items().size()),
              plan.MaxItems(step.num_tokens(), step.num_seqs()));
    EXPECT_LE(static_cast<int32_t>(plan.merges().size()), plan.MaxMerges(step.num_tokens()));
  }
}

TEST(AttentionPlan, OneLongDecodeFillsTheDevice) {
  const AttentionPlanSpec spec = Spec(32, 8, 264);
  AttentionPlan plan(spec);
  Step step;
  step.Add(1, 64 * 640);
  plan.Make(step.query_start, step.context_len);
  EXPECT_EQ(plan.items().size(), 32u);  // x 8 KV heads: 256 of 264 blocks
  for (const AttentionItem& item : plan.items()) {
    EXPECT_EQ(item.end_unit - item.first_unit, 20);
  }
  EXPECT_EQ(plan.merges().size(), 1u);
}

TEST(AttentionPlan, ManyDecodesStayInOnePiece) {
  AttentionPlan plan(Spec(32, 8, 264));
  Step step;
  for (int s = 0; s < 40; ++s) step.Add(1, 3000);
  plan.Make(step.query_start, step.context_len);
  EXPECT_EQ(plan.items().size(), 40u);
  EXPECT_TRUE(plan.merges().empty());
}

TEST(AttentionPlan, ShortContextsAreNotCut) {
  AttentionPlan plan(Spec(32, 8, 264));
  Step step;
  step.Add(1, 7 * kAttentionUnit);
  plan.Make(step.query_start, step.context_len);
  EXPECT_EQ(plan.items().size(), 1u);
}

TEST(AttentionPlan, ChunksShareKeysAndTheLongestBegins) {
  AttentionPlan plan(Spec(32, 8, 264));  // 4 tokens a tile, 16 a block
  Step step;
  step.Add(1, 100);
  step.Add(100, 1000);
  plan.Make(step.query_start, step.context_len);
  ASSERT_EQ(plan.items().size(), 8u);
  EXPECT_EQ(plan.items().front().first_row, 1 + 96);
  EXPECT_EQ(plan.items().front().num_tokens, 4);
  EXPECT_EQ(plan.items().front().end_unit, 16);
  EXPECT_EQ(plan.items().back().sequence, 0);
}

}  // namespace
}  // namespace tandem::kernels::cuda
