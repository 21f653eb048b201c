#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

Generate Request(int limit, int max_tokens = 50) {
  Generate request;
  request.prompt = Prompt(6);
  request.max_tokens = max_tokens;
  SetFakeGrammar(request, 3, limit);
  return request;
}

TEST(Filter, AReplyEndsWithItsGrammar) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Request(7));
  h.Drain();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kStop);
  EXPECT_EQ(h.stream(id).tokens.size(), 7u);
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

TEST(Filter, NoPlanIsMadeWhileItsTokenIsUnknown) {
  Harness h(SmallOptions());
  h.Add(Request(7));
  h.Add(Prompt(5, 300), 20);
  ASSERT_NE(h.Plan(), nullptr);  // both prompts, and the first tokens
  EXPECT_EQ(h.Plan(), nullptr);
  h.Commit();
  const StepPlan* const plan = h.Plan();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->num_decodes, 2) << "both go on in each step";
  EXPECT_EQ(plan->masks.size(), static_cast<size_t>(MaskWords(1000)));
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Filter, ChunksOfItsPromptAreStillPlannedAhead) {
  Harness h(SmallOptions());
  Generate request = Request(3);
  request.prompt = Prompt(40);
  h.Add(std::move(request));
  ASSERT_NE(h.Plan(), nullptr);
  const StepPlan* const second = h.Plan();
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(second->masks.empty()) << "it does not sample yet";
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Filter, OnlyItsControlStopsMayCome) {
  EngineOptions options = SmallOptions();
  options.vocab_size = 3;
  int by_token = 0, by_grammar = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Harness h(options);
    Generate request;
    request.prompt = {1, 2};
    request.max_tokens = 50;
    SetFakeGrammar(request, seed, 6);
    request.stop_ids = {0};
    const RequestId id = h.Add(request);
    h.Drain();
    h.ExpectAllStreamsAsIfAlone();
    EXPECT_EQ(h.stream(id).finish, FinishReason::kStop);
    ++(h.stream(id).tokens.back() == 0 ? by_token : by_grammar);
  }
  EXPECT_GT(by_token, 0);
  EXPECT_GT(by_grammar, 0);
}

TEST(Filter, WhatIsForcedMustBeOfTheGrammar) {
  Harness h(SmallOptions());
  Generate request = Request(10);
  request.forced = {0};
  const RequestId id = h.Add(std::move(request));
  h.Drain();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kError);
  EXPECT_THAT(h.stream(id).error, HasSubstr("left its grammar"));
  h.ExpectEverythingFreed();
}

TEST(Filter, AGrammarOfNothingAndOneWithoutAFilterAreRefused) {
  Harness h(SmallOptions());
  const RequestId nothing = h.Add(Request(0));
  EXPECT_EQ(h.stream(nothing).finish, FinishReason::kError);
  EXPECT_EQ(h.stream(nothing).error_kind, ErrorKind::kGrammar);
  Engine engine(SmallOptions());
  Generate request = Request(3);
  request.key = {1, 1, 0, 0};
  engine.Handle(std::move(request), 1);
  std::vector<Output> outputs;
  engine.TakeOutputs(outputs);
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_THAT(outputs[0].error, HasSubstr("not available"));
}

// Its place in the grammar is not its KV's: it goes on where it was.
TEST(Filter, APreemptedReplyGoesOn) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 14;
  Harness h(options);
  for (int i = 0; i < 4; ++i) {
    Generate request = Request(30);
    request.prompt = Prompt(9, 100 * i);
    h.Add(std::move(request));
  }
  h.Drain();
  EXPECT_GT(h.engine().num_preemptions(), 0u);
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

TEST(Filter, OthersGoOnWhileAMaskIsPending) {
  Harness h(SmallOptions());
  h.SetSlowFilters(true);
  for (uint64_t seed = 0; seed < 3; ++seed) {
    Generate request = Request(12);
    SetFakeGrammar(request, seed, 12);
    h.Add(std::move(request));
  }
  const RequestId plain = h.Add(Prompt(5, 300), 12);
  int behind = 0;
  while (!h.stream(plain).ended()) {
    ASSERT_TRUE(h.Step()) << "the one without a grammar is in every step";
    behind += h.engine().num_masks_pending() > 0;
  }
  EXPECT_GT(behind, 0);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

// Preempted between a token and its mask; cancelled there.
TEST(Filter, WhatWaitsForAMaskCanBePreemptedAndCancelled) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 14;
  Harness h(options);
  h.SetSlowFilters(true);
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) {
    Generate request = Request(30);
    SetFakeGrammar(request, static_cast<uint64_t>(i), 30);
    request.prompt = Prompt(9, 100 * i);
    ids.push_back(h.Add(std::move(request)));
  }
  for (int i = 0; i < 400 && h.engine().num_sequences() > 2; ++i) {
    h.Step();
    if (h.engine().num_masks_pending() > 0 && i > 20 && !h.stream(ids[3]).ended()) {
      h.Cancel(ids[3]);
    }
  }
  h.Drain();
  EXPECT_EQ(h.stream(ids[3]).finish, FinishReason::kCancelled);
  EXPECT_GT(h.engine().num_preemptions(), 0u);
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
  EXPECT_EQ(h.engine().num_masks_pending(), 0);
}

// Else the mask and what holds it back would leave nothing.
TEST(Filter, AStopThatIsTextMayComeBeforeMinTokens) {
  EngineOptions options = SmallOptions();
  options.vocab_size = 2;  // token 1 is all that there is
  Harness h(options);
  Generate request;
  request.prompt = {1};
  request.max_tokens = 20;
  request.min_tokens = 3;
  request.stop_ids = {1};
  SetFakeGrammar(request, 1, 10);
  const RequestId id = h.Add(std::move(request));
  h.Drain();
  EXPECT_EQ(h.stream(id).finish, FinishReason::kStop);
  EXPECT_EQ(h.stream(id).tokens.size(), 4u);
}

TEST(Filter, RejectedOnesEndOnce) {
  Engine engine(SmallOptions());
  engine.Reject({1, 9, 2, 0}, FinishReason::kCancelled, "", ErrorKind::kInternal);
  std::vector<Output> outputs;
  engine.TakeOutputs(outputs);
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].key, (SequenceKey{1, 9, 2, 0}));
  EXPECT_EQ(outputs[0].finish, FinishReason::kCancelled);
  EXPECT_TRUE(outputs[0].tokens.empty());
  EXPECT_EQ(engine.num_sequences(), 0);
}

}  // namespace
}  // namespace tandem::engine
