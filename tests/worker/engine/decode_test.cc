#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

TEST(Decode, ComesBeforePrefillAndNeverWaitsForIt) {
  Harness h(SmallOptions());
  h.Add(Prompt(4), 20);
  h.Step();
  h.Add(Prompt(100, 200), 5);
  for (int i = 0; i < 6; ++i) {
    const StepPlan* plan = h.Plan();
    ASSERT_NE(plan, nullptr);
    EXPECT_EQ(plan->num_decodes, 1);
    ASSERT_EQ(plan->rows.size(), 2u);
    EXPECT_EQ(plan->rows[0].num_tokens, 1);
    EXPECT_EQ(plan->rows[1].num_tokens, 15) << "the rest of the budget";
    h.Commit();
  }
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Decode, NamesTheSampledTokenOnlyWhileItIsUnknown) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Prompt(4), 20);
  h.Plan();
  const StepPlan* ahead = h.Plan();
  ASSERT_NE(ahead, nullptr);
  EXPECT_EQ(ahead->tokens[0], kLastSampled);
  h.Commit();
  h.Commit();
  const StepPlan* behind = h.Plan();
  EXPECT_EQ(behind->tokens[0], h.stream(id).tokens.back());
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Decode, TellsRanksOfNewBlocksOnly) {
  Harness h(SmallOptions());
  h.Add(Prompt(6), 20);
  const StepPlan* plan = h.Plan();
  EXPECT_EQ(plan->rows[0].flags, kRowStart | kRowSample);
  EXPECT_EQ(plan->rows[0].num_blocks, 2);
  h.Commit();
  for (int position = 6; position < 18; ++position) {
    plan = h.Plan();
    EXPECT_EQ(plan->rows[0].num_blocks, position % 4 == 0) << position;
    h.Commit();
  }
}

TEST(Decode, PlansNoOverrunPastTheOutputLimit) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Prompt(6), 2);
  h.Plan();
  h.Plan();
  h.Commit();
  EXPECT_EQ(h.Plan(), nullptr) << "both tokens are in flight";
  h.Commit();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kLength);
  h.ExpectEverythingFreed();
}

// Drawn ones are held back; forced ones come, as in a reply that goes on elsewhere, and count.
TEST(Decode, NoStopIdEndsItBeforeMinTokens) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(5);
  request.max_tokens = 40;
  request.forced = {7, 7};
  request.stop_ids = {7};
  for (TokenId id = 0; id < 380; ++id) request.stop_ids.push_back(id);
  request.min_tokens = 30;
  const RequestId id = h.Add(request);
  h.Drain();
  const std::vector<TokenId>& tokens = h.stream(id).tokens;
  ASSERT_GT(tokens.size(), 30u);
  for (size_t i = 2; i < 30; ++i) EXPECT_GE(tokens[i], 380) << i;
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Decode, StopIdIsTheLastToken) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(3);
  request.max_tokens = 10;
  const std::vector<TokenId> free_running = h.Alone(request).tokens;
  request.stop_ids = {free_running[3], 777};
  const RequestId id = h.Add(request);
  h.Drain();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kStop);
  EXPECT_EQ(h.stream(id).tokens.size(), 4u);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Decode, ForcedTokensReplaceSampledOnesOneByOne) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(5);
  request.max_tokens = 5;
  request.forced = {7, 8, 9};
  const RequestId id = h.Add(request);
  h.Plan();
  for (int i = 0; i < 4; ++i) {  // two plans in flight all the time
    h.Plan();
    h.Commit();
  }
  h.Drain();
  const std::vector<TokenId>& tokens = h.stream(id).tokens;
  EXPECT_EQ(std::vector<TokenId>(tokens.begin(), tokens.begin() + 3), request.forced);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Decode, NoMoreSlotsThanBudgetTokens) {
  EngineOptions options = SmallOptions();
  options.max_seqs = 32;
  options.max_step_tokens = 3;
  EXPECT_EQ(Engine::LimitsOf(options).max_rows, 3);
  Harness h(options);
  for (int i = 0; i < 10; ++i) h.Add(Prompt(5, 20 * i), 6);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

TEST(Decode, LogprobsComeWithTheirTokens) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(5);
  request.max_tokens = 3;
  request.sampling.num_logprobs = 0;
  const RequestId id = h.Add(request);
  h.Drain();
  const Stream& stream = h.stream(id);
  ASSERT_EQ(stream.logprobs.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(stream.logprobs[i].token, stream.tokens[i]);
    EXPECT_EQ(stream.logprobs[i].logprob, -static_cast<float>(5 + i));
  }
}

}  // namespace
}  // namespace tandem::engine
