#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

// 10 blocks of 4 tokens: two sequences of 4 + 20 tokens do not fit together.
EngineOptions TightOptions() {
  EngineOptions options = SmallOptions();
  options.num_blocks = 10;
  options.max_context = 40;
  return options;
}

RequestId AddWithPriority(Harness& h, TokenId first, int32_t priority) {
  Generate request;
  request.prompt = Prompt(4, first);
  request.max_tokens = 24;
  request.priority = priority;
  return h.Add(request);
}

TEST(Preempt, YoungestGoesAndNothingIsLost) {
  Harness h(TightOptions());
  const RequestId old = AddWithPriority(h, 1, 0), young = AddWithPriority(h, 500, 0);
  h.Drain();
  EXPECT_EQ(h.stream(old).timings.num_preemptions, 0);
  EXPECT_GE(h.stream(young).timings.num_preemptions, 1);
  EXPECT_GT(h.stream(young).timings.preempted, 0);
  EXPECT_EQ(h.stream(young).timings.waiting, 0) << "out of blocks is not: others were computed";
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

TEST(Preempt, LowerPriorityGoesBeforeYounger) {
  Harness h(TightOptions());
  const RequestId old = AddWithPriority(h, 1, -1), young = AddWithPriority(h, 500, 0);
  h.Drain();
  EXPECT_GE(h.stream(old).timings.num_preemptions, 1);
  EXPECT_EQ(h.stream(young).timings.num_preemptions, 0);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Preempt, GeneratedTokensAreRecomputedNotSampledAgain) {
  Harness h(TightOptions());
  AddWithPriority(h, 1, 0);
  const RequestId young = AddWithPriority(h, 500, 0);
  bool resumed = false;
  while (const StepPlan* plan = h.Plan()) {
    for (const PlanRow& row : plan->rows) {
      const bool restart = (row.flags & kRowStart) && plan->step > 2;
      if (!restart) continue;
      resumed = true;
      const int computed = row.start + row.num_tokens;
      EXPECT_EQ(static_cast<size_t>(computed), 4 + h.stream(young).tokens.size())
          << "prompt and all that it has generated";
    }
    h.Commit();
  }
  EXPECT_TRUE(resumed);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Preempt, ResumesFromCacheWhatWasNotOverwritten) {
  Harness h(TightOptions());
  const RequestId old = AddWithPriority(h, 1, 0), young = AddWithPriority(h, 500, 0);
  while (h.engine().num_preemptions() == 0) ASSERT_TRUE(h.Step());
  h.Cancel(old);  // before it has needed more than the blocks of its next token
  const StepPlan* plan = h.Plan();
  ASSERT_NE(plan, nullptr);
  ASSERT_EQ(plan->rows.size(), 1u);
  EXPECT_EQ(plan->rows[0].flags, kRowStart | kRowSample);
  EXPECT_GT(plan->rows[0].start, 0) << "its blocks were still cached";
  h.Drain();
  EXPECT_LT(h.stream(young).timings.num_computed_tokens, 4 + 24);
  h.ExpectAllStreamsAsIfAlone();
}

// engine.ownership.in_flight: the one that needs the block waits for the step to commit.
TEST(Preempt, VictimInFlightKeepsItsBlocksUntilTheCommit) {
  Harness h(TightOptions());
  AddWithPriority(h, 1, 0);
  AddWithPriority(h, 500, 0);
  h.Plan();
  while (h.Plan() != nullptr) {
    ASSERT_EQ(h.engine().num_preemptions(), 0u);
    h.Commit();
  }
  // Both needed a block at once. The older one has asked for the younger one's, which are given
  // back when the step in flight commits; neither has a row meanwhile.
  EXPECT_EQ(h.engine().num_preemptions(), 1u);
  EXPECT_EQ(h.engine().load(h.now()).free_blocks, 0);
  h.Commit();
  EXPECT_EQ(h.engine().load(h.now()).free_blocks, 5);
  const StepPlan* plan = h.Plan();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows.size(), 1u);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

TEST(Preempt, OneThatFillsThePoolAloneIsNeverStuck) {
  Harness h(TightOptions());
  Generate request;
  request.prompt = Prompt(12);
  request.max_tokens = 28;  // the whole pool
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) {
    request.prompt[0] = 900 + i;
    ids.push_back(h.Add(request));
  }
  h.Drain();
  for (const RequestId id : ids) EXPECT_EQ(h.stream(id).tokens.size(), 28u);
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

}  // namespace
}  // namespace tandem::engine
