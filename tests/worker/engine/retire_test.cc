#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

RequestId AddWithDeadline(Harness& h, int prompt, Nanos deadline_in) {
  Generate request;
  request.prompt = Prompt(prompt);
  request.max_tokens = 5;
  request.deadline_in = deadline_in;
  return h.Add(request);
}

TEST(Retire, DeadlineBeforeTheFirstTokenEndsIt) {
  Harness h(SmallOptions());
  const RequestId id = AddWithDeadline(h, 40, 2 * kMillisecond);  // needs 3 steps of 16
  while (h.Step()) {
  }
  EXPECT_EQ(h.stream(id).finish, FinishReason::kDeadline);
  EXPECT_TRUE(h.stream(id).tokens.empty());
  h.ExpectEverythingFreed();
}

TEST(Retire, DeadlineAfterTheFirstTokenHasNoEffect) {
  Harness h(SmallOptions());
  const RequestId id = AddWithDeadline(h, 10, 2 * kMillisecond);
  h.Drain();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kLength);
  EXPECT_EQ(h.stream(id).tokens.size(), 5u);
}

TEST(Retire, FirstTokenInFlightIsLetThrough) {
  Harness h(SmallOptions());
  const RequestId id = AddWithDeadline(h, 10, 2 * kMillisecond);
  h.Plan();
  h.Advance(5 * kMillisecond);
  h.Plan();
  h.Commit();
  EXPECT_EQ(h.stream(id).tokens.size(), 1u);
  h.Drain();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kLength);
}

TEST(Retire, DeadlineInTheQueueEndsIt) {
  EngineOptions options = SmallOptions();
  options.max_seqs = 1;
  Harness h(options);
  h.Add(Prompt(8, 100), 30);
  const RequestId late = AddWithDeadline(h, 10, 3 * kMillisecond);
  for (int i = 0; i < 6; ++i) h.Step();
  EXPECT_EQ(h.stream(late).finish, FinishReason::kDeadline);
  EXPECT_EQ(h.stream(late).timings.queue, 3 * kMillisecond);
  h.Drain();
  h.ExpectEverythingFreed();
}

TEST(Retire, CancelOfAnIdleSequenceFreesAtOnce) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Prompt(10), 50);
  h.Step();
  h.Step();
  EXPECT_LT(h.engine().load(h.now()).free_blocks, 64);
  h.Cancel(id);
  EXPECT_EQ(h.stream(id).finish, FinishReason::kCancelled);
  h.ExpectEverythingFreed();
  h.Cancel(id);  // lost a race: no effect
}

// engine.ownership.in_flight
TEST(Retire, CancelledSlotAndBlocksAreNotReusedWhileAPlanNamesThem) {
  EngineOptions options = SmallOptions();
  options.max_seqs = 1;
  options.num_blocks = 6;
  Harness h(options);
  const RequestId first = h.Add(Prompt(10), 10);
  h.Step();
  h.Plan();
  h.Cancel(first);
  EXPECT_EQ(h.stream(first).finish, FinishReason::kCancelled) << "its client is told at once";
  EXPECT_LT(h.engine().load(h.now()).free_blocks, 6);
  const RequestId second = h.Add(Prompt(10, 500), 2);
  EXPECT_EQ(h.Plan(), nullptr) << "no slot yet";
  h.Commit();
  EXPECT_EQ(h.engine().load(h.now()).free_blocks, 6);
  ASSERT_NE(h.Plan(), nullptr);
  h.Drain();
  EXPECT_EQ(h.stream(second).tokens, h.Alone(h.stream(second).request).tokens);
  h.ExpectEverythingFreed();
}

// engine.planning.overrun
TEST(Retire, OverrunPastAStopIdIsDroppedAndItsKvNotPublished) {
  EngineOptions options = SmallOptions();
  options.max_seqs = 1;
  Harness h(options);
  Generate request;
  request.prompt = Prompt(6);
  request.max_tokens = 20;
  request.forced = {50, 51, 52};
  request.stop_ids = {51};
  const RequestId id = h.Add(request);
  h.Plan();                           // prompt
  const StepPlan* decode = h.Plan();  // 50 at position 6
  ASSERT_NE(decode, nullptr);
  EXPECT_EQ(decode->tokens[0], kLastSampled);
  h.Commit();
  h.Plan();    // the overrun: 51 at position 7, which fills block 1
  h.Commit();  // 51 is sampled
  EXPECT_EQ(h.stream(id).finish, FinishReason::kStop);
  EXPECT_EQ(h.stream(id).tokens, (std::vector<TokenId>{50, 51}));
  EXPECT_LT(h.engine().load(h.now()).free_blocks, 64) << "finished is not: may be freed";
  h.Add(Prompt(4, 500), 1);
  EXPECT_EQ(h.Plan(), nullptr) << "the only slot is still named by the plan in flight";
  h.Commit();
  EXPECT_EQ(h.num_cached_hashes(), 1u) << "positions 0 to 3 only";
  h.Drain();
  h.ExpectEverythingFreed();
}

}  // namespace
}  // namespace tandem::engine
