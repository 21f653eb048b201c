#include "worker/sim/sim_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

namespace tandem::sim {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr PlanLimits kLimits = {
    .max_rows = 4, .max_step_tokens = 64, .max_blocks_per_seq = 8, .block_size = 16};

PlanRow Sampled(uint64_t seed, uint32_t index = 0) {
  PlanRow row;
  row.flags = kRowSample;
  row.num_tokens = 1;
  row.sampling.temperature = 1;
  row.sampling.seed = seed;
  row.sampling.sequence_index = index;
  return row;
}

TokenId Draw(const SimSampler& sampler, const PlanRow& row, int position,
             std::span<const TokenBias> biases = {}) {
  RowResult result;
  sampler.Sample(row, position, biases, {}, result);
  return result.token;
}

// A step of one decode a microsecond, of a chunk as many microseconds as it has tokens.
DeviceProfile OneMicrosecondAToken() {
  DeviceProfile profile;
  profile.gemm_ns_per_token = kMicrosecond;
  return profile;
}

class Steps : public ::testing::Test {
 protected:
  void Publish(int num_tokens) {
    PlanRow row;
    row.flags = kRowStart | kRowSample;
    row.num_tokens = num_tokens;
    StepPlan plan;
    plan.rows = {&row, num_tokens > 0 ? size_t{1} : 0};
    ASSERT_TRUE(ranks_.Publish(plan, kSecond));
  }

  Nanos now_ = 1000 * kMicrosecond;
  SimSampler sampler_{{5, 6, 7}};
  SimRanks ranks_{OneMicrosecondAToken(), kLimits, sampler_, [this] { return now_; }};
};

TEST_F(Steps, AStepIsThereWhenItsTimeHasPassed) {
  Publish(50);
  EXPECT_TRUE(ranks_.busy());
  EXPECT_EQ(ranks_.due(), 1050 * kMicrosecond);
  now_ = ranks_.due() - 1;
  EXPECT_EQ(ranks_.Oldest(), nullptr);
  ++now_;
  ASSERT_NE(ranks_.Oldest(), nullptr);
  EXPECT_EQ(ranks_.Oldest()->start, 1000 * kMicrosecond);
  EXPECT_EQ(ranks_.Oldest()->end, 1050 * kMicrosecond);
  ranks_.Pop();
  EXPECT_FALSE(ranks_.busy());
  EXPECT_EQ(ranks_.Oldest(), nullptr);
}

// However late the leader looks, the device has gone on with the step that was planned ahead.
TEST_F(Steps, TheNextStepBeginsWhenTheOneBeforeEnds) {
  Publish(50);
  Publish(10);
  now_ = 1055 * kMicrosecond;
  ASSERT_NE(ranks_.Oldest(), nullptr);
  ranks_.Pop();
  EXPECT_EQ(ranks_.due(), 1060 * kMicrosecond);
  EXPECT_EQ(ranks_.Oldest(), nullptr);
  now_ = 2000 * kMicrosecond;
  ASSERT_NE(ranks_.Oldest(), nullptr);
  EXPECT_EQ(ranks_.Oldest()->start, 1050 * kMicrosecond);
  ranks_.Pop();
  Publish(10);  // after a pause
  EXPECT_EQ(ranks_.due(), 2010 * kMicrosecond);
}

TEST_F(Steps, AnIdleStepIsThereAtOnce) {
  Publish(0);
  ASSERT_NE(ranks_.Oldest(), nullptr);
  EXPECT_EQ(ranks_.Oldest()->start, ranks_.Oldest()->end);
}

TEST_F(Steps, RowsThatDoNotSampleHaveNoToken) {
  PlanRow rows[2] = {{}, Sampled(1)};
  rows[0].num_tokens = 3;
  rows[1].slot = 1;
  StepPlan plan;
  plan.rows = rows;
  ASSERT_TRUE(ranks_.Publish(plan, kSecond));
  now_ = ranks_.due();
  EXPECT_EQ(ranks_.Oldest()->rows[0].token, -1);
  EXPECT_GE(ranks_.Oldest()->rows[1].token, 5);
}

TEST(SimSampler, TheKeyIsSeedIndexAndPosition) {
  std::vector<TokenId> ids(10'000);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(i);
  const SimSampler sampler(ids);
  EXPECT_EQ(Draw(sampler, Sampled(3), 10), Draw(sampler, Sampled(3), 10));
  std::set<TokenId> different = {Draw(sampler, Sampled(3), 10), Draw(sampler, Sampled(4), 10),
                                 Draw(sampler, Sampled(3, 1), 10), Draw(sampler, Sampled(3), 11)};
  EXPECT_EQ(different.size(), 4u);
  PlanRow greedy = Sampled(3), other = Sampled(4);
  greedy.sampling.temperature = other.sampling.temperature = 0;
  EXPECT_EQ(Draw(sampler, greedy, 10), Draw(sampler, other, 10));
}

TEST(SimSampler, DrawsEvenlyFromItsTokensOnly) {
  const SimSampler sampler({10, 20, 30, 40});
  std::vector<int> count(50);
  for (int i = 0; i < 4000; ++i) ++count[static_cast<size_t>(Draw(sampler, Sampled(1), i))];
  for (const size_t token : {10, 20, 30, 40}) EXPECT_NEAR(count[token], 1000, 150);
  EXPECT_EQ(count[10] + count[20] + count[30] + count[40], 4000);
}

TEST(SimSampler, BiasesAreWeights) {
  const SimSampler sampler({10, 20, 30, 40});
  const float kNever = -std::numeric_limits<float>::infinity();
  const TokenBias biases[] = {{10, kNever, 1000}, {20, 3}, {25, 100}, {40, kNever}};
  std::map<TokenId, int> count;
  for (int i = 0; i < 2000; ++i) ++count[Draw(sampler, Sampled(1), i, biases)];
  EXPECT_GT(count[10], 20);  // from position 1000 on, one in 22
  EXPECT_GT(count[20], 10 * count[30]);
  EXPECT_GT(count[30], 0);
  EXPECT_EQ(count[40], 0);
  PlanRow greedy = Sampled(1);
  greedy.sampling.temperature = 0;
  EXPECT_EQ(Draw(sampler, greedy, 7, biases), 20);
}

TEST(SimSampler, AMaskLeavesItsTokensOfTheListOrElseAnyOfThem) {
  const SimSampler sampler({10, 20, 30, 40});
  const auto draws = [&](std::vector<uint32_t> mask) {
    std::set<TokenId> seen;
    for (int position = 0; position < 100; ++position) {
      RowResult result;
      sampler.Sample(Sampled(1), position, {}, mask, result);
      seen.insert(result.token);
    }
    return seen;
  };
  EXPECT_THAT(draws({1u << 10 | 1u << 11, 1u << 8}), ElementsAre(10, 40));
  EXPECT_THAT(draws({1u << 5, 1u << 1}), ElementsAre(5, 33));
}

TEST(SimSampler, ForcedTokensAreTaken) {
  const SimSampler sampler({10, 20});
  PlanRow row = Sampled(1);
  row.forced_token = 3;
  EXPECT_EQ(Draw(sampler, row, 1), 3);
}

TEST(SimSampler, LogprobsAreThoseOfAnEvenDistribution) {
  const SimSampler sampler({10, 20, 30, 40});
  PlanRow row = Sampled(1);
  row.sampling.num_logprobs = 3;
  RowResult result;
  sampler.Sample(row, 1, {}, {}, result);
  EXPECT_FLOAT_EQ(result.logprob, std::log(0.25f));
  ASSERT_EQ(result.num_top, 3);
  EXPECT_THAT(std::vector(result.top_ids, result.top_ids + 3), ElementsAre(10, 20, 30));
  EXPECT_THAT(std::vector(result.top_logprobs, result.top_logprobs + 3), Each(result.logprob));
  row.sampling.num_logprobs = 20;
  sampler.Sample(row, 1, {}, {}, result);
  EXPECT_EQ(result.num_top, 4) << "there are no more";
  row.sampling.num_logprobs = -1;
  sampler.Sample(row, 1, {}, {}, result);
  EXPECT_EQ(result.num_top, 0);
}

}  // namespace
}  // namespace tandem::sim
