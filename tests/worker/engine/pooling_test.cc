// Sequences that end with an embedding of their prompt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

Generate Pool(std::vector<TokenId> prompt, Pooling pooling) {
  Generate request;
  request.prompt = std::move(prompt);
  request.pooling = pooling;
  return request;
}

TEST(Pooling, EndsWithThePromptAndItsEmbedding) {
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    Harness h(SmallOptions());
    const RequestId id = h.Add(Pool(Prompt(40), pooling));  // three steps of at most 16
    for (int step = 0; step < 2; ++step) {
      ASSERT_TRUE(h.Step());
      EXPECT_FALSE(h.stream(id).ended());
    }
    ASSERT_TRUE(h.Step());
    EXPECT_EQ(h.stream(id).finish, FinishReason::kStop);
    EXPECT_EQ(h.stream(id).timings.num_computed_tokens, 40);
    EXPECT_FALSE(h.Step());
    h.ExpectAllStreamsAsIfAlone();
    h.ExpectEverythingFreed();
  }
}

TEST(Pooling, TheLastStateSharesTheCacheBothWays) {
  Harness h(SmallOptions());
  h.Add(Pool(Prompt(32), Pooling::kLast));
  h.Drain();
  EXPECT_EQ(h.num_cached_hashes(), 8u);
  const RequestId again = h.Add(Pool(Prompt(32), Pooling::kLast));
  const RequestId reply = h.Add(Prompt(33), 1);
  h.Drain();
  EXPECT_EQ(h.stream(again).timings.num_cached_tokens, 28);  // the last token is computed
  EXPECT_EQ(h.stream(reply).timings.num_cached_tokens, 32);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Pooling, TheMeanComputesEveryTokenAndPublishesNone) {
  Harness h(SmallOptions());
  const RequestId mean = h.Add(Pool(Prompt(32), Pooling::kMean));
  h.Drain();
  EXPECT_EQ(h.num_cached_hashes(), 0u);
  h.Add(Prompt(32), 1);
  h.Drain();
  const RequestId again = h.Add(Pool(Prompt(32), Pooling::kMean));
  h.Drain();
  EXPECT_EQ(h.stream(again).timings.num_computed_tokens, 32);
  EXPECT_EQ(h.stream(again).embedding, h.stream(mean).embedding);
}

// Whoever has the same beginning neither waits for a mean, which publishes nothing, nor is waited
// for by it.
TEST(Pooling, NobodyIsHeldForAMean) {
  Harness h(SmallOptions());
  const RequestId mean = h.Add(Pool(Prompt(20), Pooling::kMean));
  ASSERT_TRUE(h.Step());
  const RequestId reply = h.Add(Prompt(8), 1);
  const RequestId second = h.Add(Pool(Prompt(8), Pooling::kMean));
  const StepPlan* plan = h.Plan();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows.size(), 3u);
  h.Commit();
  h.Drain();
  for (const RequestId id : {mean, reply, second}) EXPECT_TRUE(h.stream(id).ended());
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Pooling, APromptMayFillTheContext) {
  Harness h(SmallOptions());
  const RequestId full = h.Add(Pool(Prompt(200), Pooling::kMean));
  const RequestId longer = h.Add(Pool(Prompt(201), Pooling::kLast));
  EXPECT_EQ(h.stream(longer).error_kind, ErrorKind::kInvalid);
  EXPECT_THAT(h.stream(longer).error, HasSubstr("at most 200 do"));
  h.Drain();
  EXPECT_EQ(h.stream(full).finish, FinishReason::kStop);
  h.ExpectAllStreamsAsIfAlone();
}

// The decode's blocks run out while the prompt beside it, token by token, is half computed.
TEST(Pooling, OneThatGaveItsBlocksAwayStartsAnew) {
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    EngineOptions options = SmallOptions();
    options.num_blocks = 10;
    options.max_context = 40;
    options.max_seqs = options.max_step_tokens = 2;
    Harness h(options);
    const RequestId reply = h.Add(Prompt(4), 30);
    ASSERT_TRUE(h.Step() && h.Step());
    Generate request = Pool(Prompt(24, 500), pooling);
    request.priority = -1;
    const RequestId pooled = h.Add(std::move(request));
    h.Drain();
    EXPECT_EQ(h.stream(reply).timings.num_preemptions, 0);
    EXPECT_EQ(h.stream(pooled).timings.num_preemptions, 1);
    EXPECT_GT(h.stream(pooled).timings.num_computed_tokens, 24);
    h.ExpectAllStreamsAsIfAlone();
    h.ExpectEverythingFreed();
  }
}

TEST(Pooling, IsRefusedWhereRanksDoNotComputeIt) {
  EngineOptions options = SmallOptions();
  options.embeddings = false;
  Harness h(options);
  const RequestId id = h.Add(Pool(Prompt(3), Pooling::kLast));
  EXPECT_EQ(h.stream(id).error_kind, ErrorKind::kInvalid);
  EXPECT_THAT(h.stream(id).error, HasSubstr("embeddings are not computed"));
}

TEST(Pooling, AModelWithoutAHeadGivesNoTokens) {
  EngineOptions options = SmallOptions();
  options.tokens = false;
  Harness h(options);
  const RequestId tokens = h.Add(Prompt(3), 1);
  EXPECT_EQ(h.stream(tokens).error_kind, ErrorKind::kInvalid);
  EXPECT_THAT(h.stream(tokens).error, HasSubstr("no output matrix"));
  const RequestId embedding = h.Add(Pool(Prompt(3), Pooling::kLast));
  h.Drain();
  EXPECT_EQ(h.stream(embedding).finish, FinishReason::kStop);
}

TEST(Pooling, OneThatIsCancelledOrLateGivesNone) {
  Harness h(SmallOptions());
  Generate late = Pool(Prompt(40), Pooling::kMean);
  late.deadline_in = kMillisecond;
  const RequestId expired = h.Add(std::move(late));
  const RequestId cancelled = h.Add(Pool(Prompt(40, 100), Pooling::kLast));
  ASSERT_TRUE(h.Step());
  h.Cancel(cancelled);
  h.Advance(2 * kMillisecond);
  h.Drain();
  EXPECT_EQ(h.stream(expired).finish, FinishReason::kDeadline);
  EXPECT_EQ(h.stream(cancelled).finish, FinishReason::kCancelled);
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

}  // namespace
}  // namespace tandem::engine
