#include <gtest/gtest.h>

#include <algorithm>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

int NumTokens(const StepPlan& plan) { return static_cast<int>(plan.tokens.size()); }

TEST(Prefill, IsChunkedUnderTheBudget) {
  Harness h(SmallOptions());
  h.Add(Prompt(40), 1);
  const int expected[] = {16, 16, 8};
  for (int i = 0; i < 3; ++i) {
    const StepPlan* plan = h.Plan();
    ASSERT_NE(plan, nullptr);
    EXPECT_EQ(NumTokens(*plan), expected[i]);
    EXPECT_EQ(plan->rows[0].flags, (i == 0 ? kRowStart : 0u) | (i == 2 ? kRowSample : 0u));
    EXPECT_EQ(plan->rows[0].num_blocks, i == 0 ? 10 : 0) << "the whole table at the start";
    h.Commit();
  }
  EXPECT_EQ(h.Plan(), nullptr);
}

TEST(Prefill, SeveralShareAStep) {
  Harness h(SmallOptions());
  for (int i = 0; i < 3; ++i) h.Add(Prompt(5, 100 * i), 3);
  const StepPlan* plan = h.Plan();
  EXPECT_EQ(plan->rows.size(), 3u);
  EXPECT_EQ(NumTokens(*plan), 15);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, ShortestRemainingFirst) {
  Harness h(SmallOptions());
  const RequestId longer = h.Add(Prompt(60), 2);
  h.Step();  // the long one has begun
  const RequestId shorter = h.Add(Prompt(14, 300), 2);
  h.Step();
  EXPECT_EQ(h.stream(shorter).tokens.size(), 1u);
  EXPECT_TRUE(h.stream(longer).tokens.empty());
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, PriorityGoesFirst) {
  EngineOptions options = SmallOptions();
  options.max_seqs = 1;
  Harness h(options);
  const RequestId low = h.Add(Prompt(4), 1);
  Generate request;
  request.prompt = Prompt(60, 300);
  request.max_tokens = 1;
  request.priority = 1;
  const RequestId high = h.Add(request);
  while (!h.stream(high).ended()) ASSERT_TRUE(h.Step());
  EXPECT_FALSE(h.stream(low).ended());
}

// engine.planning.patient: it fills half a step, less what others take of it, and goes on behind
// them.
TEST(Prefill, NegativePriorityLeavesHalfOfAStep) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(40);
  request.max_tokens = 2;
  request.priority = -1;
  const RequestId patient = h.Add(request);
  EXPECT_EQ(NumTokens(*h.Plan()), 4) << "of 16, although nobody else is there";
  h.Commit();
  h.Add(Prompt(3, 300), 1);
  const StepPlan* both = h.Plan();
  ASSERT_EQ(both->rows.size(), 2u);
  EXPECT_EQ(NumTokens(*both), 4);
  h.Commit();
  h.Add(Prompt(14, 400), 1);
  const StepPlan* other = h.Plan();
  EXPECT_EQ(other->rows.size(), 1u) << "more than a quarter is taken";
  EXPECT_EQ(NumTokens(*other), 14);
  h.Commit();
  h.Drain();
  EXPECT_TRUE(h.stream(patient).ended());
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, APatientOneThatAnUrgentOneWaitsForIsServedAsThat) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(60);
  request.max_tokens = 2;
  request.priority = -1;
  h.Add(request);
  EXPECT_EQ(NumTokens(*h.Plan()), 4);
  h.Commit();
  request.priority = 0;
  const RequestId urgent = h.Add(request);  // the same prompt
  EXPECT_EQ(NumTokens(*h.Plan()), 16);
  h.Commit();
  h.Drain();
  EXPECT_TRUE(h.stream(urgent).ended());
  h.ExpectAllStreamsAsIfAlone();
}

// engine.planning.ageing: newcomers of 14 tokens alone could fill every step of 16.
TEST(Prefill, LongPromptIsNotStarvedByShortOnes) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 300;
  options.max_context = 1000;
  Harness h(options);
  const RequestId longest = h.Add(Prompt(900), 1);
  int steps = 0;
  TokenId first = 0;
  while (!h.stream(longest).ended()) {
    h.Add(Prompt(14, first = (first + 37) % 1000), 1);
    h.Advance(50 * kMillisecond);
    h.Step();
    ASSERT_LT(++steps, 400) << "20 s of virtual time";
  }
  // 900 tokens of head start are worth 3.6 s, then it is served before every newcomer.
  EXPECT_LT(h.now() - h.stream(longest).arrival, 8 * kSecond);
  EXPECT_GT(h.now() - h.stream(longest).arrival, 3 * kSecond) << "short ones did go first";
}

// engine.planning.ageing: the hard cap beats any priority.
TEST(Prefill, OverdueOnesGoFirstByArrival) {
  EngineOptions options = SmallOptions();
  options.max_prompt_age = 10 * kSecond;
  Harness h(options);
  const RequestId first = h.Add(Prompt(50), 1);
  h.Advance(kSecond);
  const RequestId second = h.Add(Prompt(20, 300), 1);
  h.Advance(10 * kSecond);
  Generate request;
  request.prompt = Prompt(16, 600);
  request.max_tokens = 1;
  request.priority = 100;
  const RequestId urgent = h.Add(request);
  while (!h.stream(second).ended()) ASSERT_TRUE(h.Step());
  EXPECT_TRUE(h.stream(first).ended());
  EXPECT_FALSE(h.stream(urgent).ended());
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

// engine.planning.chunks
TEST(Prefill, AChunkIsBoundedInTokens) {
  EngineOptions options = SmallOptions();
  options.max_chunk_tokens = 6;
  Harness h(options);
  h.Add(Prompt(20), 1);
  h.Add(Prompt(20, 300), 1);
  const StepPlan* plan = h.Plan();
  ASSERT_EQ(plan->rows.size(), 2u);
  EXPECT_EQ(plan->rows[0].num_tokens, 6);
  EXPECT_EQ(plan->rows[1].num_tokens, 6);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

// Steps of 1 ms and 1 ms for each token: once that is known, a step of at most 5 ms has 4 tokens.
TEST(Prefill, AStepIsBoundedInTimeOnceTheFitIsKnown) {
  EngineOptions options = SmallOptions();
  options.max_step_time = 5 * kMillisecond;
  Harness h(options);
  const auto run = [&](const StepPlan& plan) {
    h.Commit(static_cast<Nanos>(1 + plan.tokens.size()) * kMillisecond);
  };
  h.Add(Prompt(40), 1);
  EXPECT_EQ(NumTokens(*h.Plan()), 16) << "nothing is known yet";
  h.Drain();
  for (int i = 0; i < 80; ++i) {
    h.Add(Prompt(1 + i * 5 % 13, i * 17), 1 + i % 3);
    while (const StepPlan* plan = h.Plan()) run(*plan);
  }
  // Only running replies are to be spared.
  h.Add(Prompt(30, 700), 1);
  const StepPlan* plan = h.Plan();
  EXPECT_EQ(NumTokens(*plan), 16);
  run(*plan);
  h.Drain();
  h.Add(Prompt(2, 800), 8);
  run(*h.Plan());
  const RequestId id = h.Add(Prompt(60, 900), 1);
  plan = h.Plan();
  EXPECT_GE(NumTokens(*plan), 3);
  EXPECT_LE(NumTokens(*plan), 5);
  run(*plan);
  h.Drain();
  EXPECT_TRUE(h.stream(id).ended());
  h.ExpectAllStreamsAsIfAlone();
}

// However little time there is, an eighth of the budget goes to prompts.
TEST(Prefill, GoesOnWhenNothingFitsIntoTheTime) {
  EngineOptions options = SmallOptions();
  options.max_step_time = 1;
  Harness h(options);
  for (int i = 0; i < 60; ++i) {
    h.Add(Prompt(1 + i % 9, i * 17), 1 + i % 3);
    h.Drain();
  }
  h.Add(Prompt(2, 800), 8);
  h.Plan();
  h.Commit();
  h.Add(Prompt(41, 900), 1);
  const StepPlan* plan = h.Plan();
  EXPECT_EQ(NumTokens(*plan), 1 + 2);
  h.Commit();
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

// Smaller ones must not slip past for ever and eat the blocks that a large one waits for.
TEST(Prefill, OneThatWaitsForBlocksIsNotOvertaken) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 20;
  Harness h(options);
  const RequestId running = h.Add(Prompt(30), 20);
  for (int i = 0; i < 3; ++i) h.Step();
  const RequestId large = h.Add(Prompt(60, 300), 1);
  h.Advance(10 * kSecond);  // old enough to be first
  const RequestId small = h.Add(Prompt(4, 600), 1);
  while (!h.stream(large).ended()) {
    ASSERT_TRUE(h.Step());
    ASSERT_FALSE(h.stream(small).ended() && !h.stream(running).ended());
  }
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, LeavesABlockForEachThatRuns) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 10;
  Harness h(options);
  h.Add(Prompt(8), 20);
  h.Step();                                           // holds 2, needs a third next
  const RequestId exact = h.Add(Prompt(32, 300), 1);  // 8 blocks: all that is free
  h.Step();
  EXPECT_TRUE(h.stream(exact).tokens.empty()) << "it would have been preempted at once";
  EXPECT_EQ(h.engine().num_preemptions(), 0u);
  h.Drain();
  EXPECT_EQ(h.engine().num_preemptions(), 0u);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, CachedPromptComputesItsTailOnly) {
  Harness h(SmallOptions());
  h.Add(Prompt(33), 1);
  h.Drain();
  const RequestId again = h.Add(Prompt(33), 1);
  const StepPlan* plan = h.Plan();
  EXPECT_EQ(plan->rows[0].start, 32);
  EXPECT_EQ(NumTokens(*plan), 1);
  EXPECT_EQ(plan->rows[0].num_blocks, 9) << "the whole table, the cached blocks too";
  h.Drain();
  EXPECT_EQ(h.stream(again).timings.num_cached_tokens, 32);
  EXPECT_EQ(h.stream(again).timings.num_computed_tokens, 1);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, RepliesBecomePrefixesOfTheNextTurn) {
  Harness h(SmallOptions());
  const RequestId first = h.Add(Prompt(10), 15);
  h.Drain();
  std::vector<TokenId> next = Prompt(10);
  const std::vector<TokenId>& reply = h.stream(first).tokens;
  next.insert(next.end(), reply.begin(), reply.end());
  next.push_back(5);
  const RequestId second = h.Add(next, 1);
  h.Drain();
  EXPECT_EQ(h.stream(second).timings.num_cached_tokens, 24) << "all of 24 computed positions";
  h.ExpectAllStreamsAsIfAlone();
}

// engine.planning.hold
TEST(Prefill, EqualPromptsInFlightAreComputedOnce) {
  Harness h(SmallOptions());
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(h.Add(Prompt(33), 3));
  h.Drain();
  EXPECT_EQ(h.stream(ids[0]).timings.num_computed_tokens, 33);
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(h.stream(ids[static_cast<size_t>(i)]).timings.num_computed_tokens, 1);
  }
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, EqualPromptsAreComputedOnceWhenPlannedAhead) {
  Harness h(SmallOptions());
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(h.Add(Prompt(33), 3));
  h.Plan();
  while (h.engine().num_in_flight() > 0) {
    h.Plan();
    h.Commit();
  }
  h.Drain();
  for (int i = 1; i < 3; ++i) {
    EXPECT_EQ(h.stream(ids[static_cast<size_t>(i)]).timings.num_computed_tokens, 1);
  }
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, HeldOneStartsWhereThePromptsPart) {
  Harness h(SmallOptions());
  h.Add(Prompt(60), 1);
  std::vector<TokenId> other = Prompt(8);
  other.resize(20, 700);
  const RequestId second = h.Add(other, 1);
  // Shorter, so it is first; whoever comes second waits for the 8 shared tokens only.
  h.Drain(10);
  EXPECT_EQ(h.stream(second).timings.num_computed_tokens, 20);
  EXPECT_EQ(h.stream(1).timings.num_cached_tokens, 8);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, HeldOneGoesOnWhenTheFirstIsCancelled) {
  Harness h(SmallOptions());
  const RequestId first = h.Add(Prompt(60), 5), second = h.Add(Prompt(60), 5);
  h.Step();
  EXPECT_EQ(h.Plan()->rows.size(), 1u) << "the second is held";
  h.Cancel(first);
  h.Commit();
  h.Drain();
  EXPECT_EQ(h.stream(second).timings.num_cached_tokens, 16) << "what the first had published";
  EXPECT_EQ(h.stream(second).timings.num_computed_tokens, 44);
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

TEST(Prefill, NobodyWaitsForBlocksThatWillNotBePublished) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 200;
  Harness h(options);
  const RequestId first = h.Add(Prompt(180), 1);
  h.Step();
  h.ClearCache();  // the first goes on, but what it computes now has lost its parents
  h.Step();
  h.Add(Prompt(120), 1);  // publishes the beginning again
  while (!h.stream(2).ended()) ASSERT_TRUE(h.Step());
  const RequestId third = h.Add(Prompt(180), 1);
  while (!h.stream(third).ended()) ASSERT_TRUE(h.Step());
  EXPECT_FALSE(h.stream(first).ended()) << "the third has less left and need not wait";
  EXPECT_EQ(h.stream(third).timings.num_cached_tokens, 120);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Prefill, UrgentFollowerPullsTheOneItWaitsFor) {
  Harness h(SmallOptions());
  const RequestId patient = h.Add(Prompt(60), 1);
  h.Step();
  Generate request;
  request.prompt = Prompt(60);
  request.max_tokens = 1;
  request.priority = 5;
  const RequestId urgent = h.Add(request);
  const RequestId other = h.Add(Prompt(40, 500), 1);  // shorter than the 44 that `patient` lacks
  while (!h.stream(urgent).ended()) ASSERT_TRUE(h.Step());
  EXPECT_TRUE(h.stream(patient).ended());
  EXPECT_FALSE(h.stream(other).ended());
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

}  // namespace
}  // namespace tandem::engine
