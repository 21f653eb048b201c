#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

TEST(Commit, TimeGoesToWhatTheStepsDidForTheSequence) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Prompt(20), 3);
  h.Advance(5 * kMillisecond);
  h.Step();  // 16 of the prompt
  h.Add(Prompt(2, 100), 1);
  h.Step();  // 2 + 4: first token
  h.Drain();
  const SequenceTimings& t = h.stream(id).timings;
  EXPECT_EQ(t.queue, 5 * kMillisecond);
  EXPECT_EQ(t.prefill, 2 * kMillisecond);
  EXPECT_EQ(t.decode, 2 * kMillisecond);
  EXPECT_EQ(t.waiting, 0);
  EXPECT_EQ(t.preempted, 0);
  EXPECT_EQ(t.num_computed_tokens, 20);
}

TEST(Commit, StepsThatComputeOthersOnlyAreWaiting) {
  Harness h(SmallOptions());
  const RequestId longer = h.Add(Prompt(40), 1);
  h.Step();
  h.Add(Prompt(16, 500), 1);  // shorter: takes the whole next step
  h.Step();
  h.Drain();
  EXPECT_EQ(h.stream(longer).timings.waiting, kMillisecond);
  EXPECT_EQ(h.stream(longer).timings.prefill, 3 * kMillisecond);
}

TEST(Commit, LastStepSaysWhatItTookAndHadInIt) {
  Harness h(SmallOptions());
  h.Add(Prompt(6), 10);
  h.Step();
  EXPECT_EQ(h.engine().last_step().step, 1u);
  EXPECT_EQ(h.engine().last_step().prefill_tokens, 6);
  EXPECT_EQ(h.engine().last_step().num_decodes, 0);
  h.Add(Prompt(40, 100), 1);
  h.Step();
  const StepTiming& step = h.engine().last_step();
  EXPECT_EQ(step.step, 2u);
  EXPECT_EQ(step.duration, kMillisecond);
  EXPECT_EQ(step.num_decodes, 1);
  EXPECT_EQ(step.prefill_tokens, 15);
  EXPECT_EQ(step.context_tokens, 7);
  EXPECT_EQ(step.prefill_attention, 15 * 15 / 2);
  h.Step();
  EXPECT_EQ(h.engine().last_step().prefill_attention, 15 * 15 + 15 * 15 / 2) << "after 15 of them";
}

TEST(Commit, LoadTellsTheStepsInFlightFromTheQueue) {
  Harness h(SmallOptions());
  h.Add(Prompt(6), 10);
  h.Step();
  EXPECT_EQ(h.engine().load(h.now()).in_flight.num_steps, 0);
  h.Add(Prompt(40, 100), 1);
  h.Plan();
  h.Plan();
  h.Advance(3 * kMillisecond);
  const Load& load = h.engine().load(h.now());
  EXPECT_EQ(load.in_flight.num_steps, 2);
  EXPECT_EQ(load.in_flight.elapsed, 3 * kMillisecond);
  EXPECT_EQ(load.in_flight.num_decodes, 2);
  EXPECT_EQ(load.in_flight.prefill_tokens, 30);
  EXPECT_EQ(load.in_flight.prefill_attention, 15 * 15 / 2 + 15 * 15 + 15 * 15 / 2);
  EXPECT_EQ(load.in_flight.context_tokens, 7 + 8);
  ASSERT_EQ(load.queue.size(), 1u);
  EXPECT_EQ(load.queue[0].remaining_tokens, 10);
  EXPECT_EQ(load.queued_tokens, 10);
  h.Commit();
  EXPECT_EQ(h.engine().load(h.now()).in_flight.num_steps, 1);
  EXPECT_EQ(h.engine().load(h.now()).in_flight.elapsed, 0);
  h.Drain();
}

TEST(Commit, LoadCountsWhatIsLeftToDo) {
  EngineOptions options = SmallOptions();
  options.max_seqs = 2;
  Harness h(options);
  h.Add(Prompt(6), 10);
  h.Step();
  h.Step();
  h.Add(Prompt(30, 100), 1);
  h.Step();  // 15 of its 30
  h.Add(Prompt(12, 500), 1);
  h.Advance(7 * kMillisecond);
  const Load& load = h.engine().load(h.now());
  EXPECT_EQ(load.num_running, 1);
  EXPECT_EQ(load.context_tokens, 8);
  EXPECT_EQ(load.num_waiting, 2);
  EXPECT_EQ(load.queued_tokens, 15 + 12);
  EXPECT_EQ(load.total_blocks, 64);
  EXPECT_EQ(load.free_blocks, 64 - 2 - 8);
  ASSERT_EQ(load.queue.size(), 2u);
  EXPECT_EQ(load.queue[0].remaining_tokens, 15);
  EXPECT_EQ(load.queue[0].prompt_tokens, 30);
  EXPECT_EQ(load.queue[1].remaining_tokens, 12);
  EXPECT_EQ(load.queue[1].age, 7 * kMillisecond);
}

TEST(Commit, QueueOfTheLoadIsBoundedItsTotalsAreNot) {
  Harness h(SmallOptions());
  for (int i = 0; i < 80; ++i) h.Add(Prompt(10, i * 11), 1);
  const Load& load = h.engine().load(h.now());
  EXPECT_EQ(load.queue.size(), static_cast<size_t>(kMaxQueueEntries));
  EXPECT_EQ(load.num_waiting, 80);
  EXPECT_EQ(load.queued_tokens, 800);
}

TEST(Commit, IdleStepsAreNumberedAndCommitted) {
  Harness h(SmallOptions());
  EXPECT_EQ(h.Plan(), nullptr);
  EXPECT_EQ(h.PlanIdle().step, 1u);
  h.Add(Prompt(5), 2);
  EXPECT_EQ(h.Plan()->step, 2u) << "a null plan takes no number";
  h.Commit();
  h.Commit();
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Commit, NothingIsPublishedBeforeTheStepThatComputesIt) {
  Harness h(SmallOptions());
  h.Add(Prompt(16), 1);
  h.Plan();
  h.RunOldest();
  EXPECT_EQ(h.num_cached_hashes(), 0u);
  h.Commit();
  EXPECT_EQ(h.num_cached_hashes(), 4u);
}

TEST(Commit, SnapshotAndLaterEventsGiveTheCache) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 20;
  Harness h(options);
  h.Add(Prompt(30), 5);
  h.Drain();
  h.StartReplica();
  for (int i = 0; i < 6; ++i) h.Add(Prompt(30, 100 * i), 5);
  h.Drain();
  h.ExpectReplicaEqualsCache();
  h.ClearCache();
  EXPECT_EQ(h.num_cached_hashes(), 0u);
  h.ExpectReplicaEqualsCache();
}

TEST(Commit, OutputMemoryIsReused) {
  EngineOptions options = SmallOptions();
  Engine engine(options);
  Generate request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 20;
  engine.Handle(std::move(request), 0);
  std::vector<Output> outputs;
  std::vector<RowResult> results(1);
  results[0].token = 7;
  const TokenId* memory = nullptr;
  for (int i = 0; i < 10; ++i) {
    ASSERT_NE(engine.Plan(i), nullptr);
    engine.Commit(results, i, i + 1);
    engine.TakeOutputs(outputs);
    ASSERT_EQ(outputs.size(), 1u);
    if (i == 2) memory = outputs[0].tokens.data();
    if (i == 4) {
      EXPECT_EQ(outputs[0].tokens.data(), memory) << "two sets of buffers alternate";
    }
  }
}

}  // namespace
}  // namespace tandem::engine
