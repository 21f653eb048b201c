#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/harness.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

TEST(Admission, RefusesWhatItCannotServe) {
  struct Case {
    const char* name;
    std::vector<TokenId> prompt;
    int max_tokens;
    std::vector<TokenId> forced;
    const char* error;
    ErrorKind kind = ErrorKind::kInvalid;
  };
  const Case cases[] = {
      {"empty", {}, 1, {}, "the prompt is empty"},
      {"longer than the context", Prompt(300), 1, {}, "300 tokens does not fit"},
      {"no room for a reply", Prompt(200), 1, {}, "at most 199"},
      {"no tokens wanted", Prompt(3), 0, {}, "max_tokens is 0"},
      {"past the vocabulary", {1, 1000}, 1, {}, "outside the vocabulary", ErrorKind::kInternal},
      {"would be read as kLastSampled",
       {1, kLastSampled},
       1,
       {},
       "outside the vocabulary",
       ErrorKind::kInternal},
      {"forced past the vocabulary",
       {1},
       1,
       {1000},
       "outside the vocabulary",
       ErrorKind::kInternal},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    Harness h(SmallOptions());
    Generate request;
    request.prompt = c.prompt;
    request.max_tokens = c.max_tokens;
    request.forced = c.forced;
    const Stream& stream = h.stream(h.Add(request));
    EXPECT_EQ(stream.finish, FinishReason::kError);
    EXPECT_THAT(stream.error, HasSubstr(c.error));
    EXPECT_EQ(stream.error_kind, c.kind);
    EXPECT_EQ(h.Plan(), nullptr);
  }
}

TEST(Admission, RefusesBiasesThatNoSlotHolds) {
  const auto error = [](Generate request) {
    Harness h(SmallOptions());
    request.prompt = Prompt(3);
    request.max_tokens = 5;
    const Stream& stream = h.stream(h.Add(std::move(request)));
    EXPECT_EQ(stream.error_kind, stream.ended() ? ErrorKind::kInvalid : ErrorKind::kInternal);
    return stream.error;
  };
  Generate request;
  request.biases.assign(kMaxTokenBiases, {7, 1});
  EXPECT_EQ(error(request), "");
  request.stop_ids = {5};
  EXPECT_EQ(error(request), "");
  request.min_tokens = 1;
  EXPECT_THAT(error(request), HasSubstr("385 tokens are biased"));
  request.biases = {{1000, 1}};
  EXPECT_THAT(error(request), HasSubstr("outside the vocabulary"));
  request.biases.clear();
  request.min_tokens = 6;
  EXPECT_THAT(error(request), HasSubstr("min_tokens is 6"));
}

TEST(Admission, PenaltiesNeedADeviceThatComputesThem) {
  for (float SamplingSpec::*penalty :
       {&SamplingSpec::repetition_penalty, &SamplingSpec::presence_penalty,
        &SamplingSpec::frequency_penalty}) {
    Generate request;
    request.prompt = Prompt(3);
    request.max_tokens = 1;
    request.sampling.*penalty = 1.5f;
    EngineOptions options = SmallOptions();
    Harness able(options);
    EXPECT_EQ(able.stream(able.Add(request)).finish, FinishReason::kNone);
    options.penalties = false;
    Harness unable(options);
    const Stream& stream = unable.stream(unable.Add(request));
    EXPECT_EQ(stream.finish, FinishReason::kError);
    EXPECT_EQ(stream.error_kind, ErrorKind::kInvalid);
    EXPECT_THAT(stream.error, HasSubstr("penalties are not computed"));
    EXPECT_EQ(unable.stream(unable.Add(Prompt(3), 1)).finish, FinishReason::kNone);
  }
}

TEST(Admission, ContextIsNoLargerThanThePool) {
  EngineOptions options = SmallOptions();
  options.num_blocks = 5;  // 20 tokens
  EXPECT_EQ(Engine::ContextOf(options), 20);
  EXPECT_EQ(Engine::LimitsOf(options).max_blocks_per_seq, 5);
  Harness h(options);
  EXPECT_EQ(h.stream(h.Add(Prompt(20), 1)).finish, FinishReason::kError);
  const RequestId fits = h.Add(Prompt(15), 100);
  h.Drain();
  EXPECT_EQ(h.stream(fits).finish, FinishReason::kLength);
  EXPECT_EQ(h.stream(fits).tokens.size(), 5u) << "clamped to the context";
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Admission, LongestPromptGetsItsOneToken) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Prompt(199), 10);
  h.Drain();
  EXPECT_EQ(h.stream(id).tokens.size(), 1u);
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Admission, QueueIsBounded) {
  EngineOptions options = SmallOptions();
  options.max_queued = 2;
  Harness h(options);
  const RequestId first = h.Add(Prompt(4), 1), second = h.Add(Prompt(4), 1);
  const RequestId third = h.Add(Prompt(4), 1);
  EXPECT_EQ(h.stream(third).finish, FinishReason::kError);
  EXPECT_EQ(h.stream(third).error_kind, ErrorKind::kBusy);
  EXPECT_THAT(h.stream(third).error, HasSubstr("2 sequences are waiting"));
  h.Drain();
  EXPECT_EQ(h.stream(first).finish, FinishReason::kLength);
  EXPECT_EQ(h.stream(second).finish, FinishReason::kLength);
}

TEST(Admission, DuplicateOfALivingKeyIsDroppedNotAnswered) {
  Harness h(SmallOptions());
  const RequestId id = h.Add(Prompt(5), 3);
  h.engine().Handle(Generate(h.stream(id).request), h.now());
  EXPECT_EQ(h.engine().num_duplicates(), 1u);
  EXPECT_EQ(h.engine().num_sequences(), 1);
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
}

TEST(Admission, SequencesOfOneRequestAreApart) {
  Harness h(SmallOptions());
  Generate request;
  request.prompt = Prompt(9);
  request.max_tokens = 4;
  const RequestId id = h.Add(request);
  request.key = h.stream(id).request.key;
  request.key.attempt = 1;
  h.engine().Handle(Generate(request), h.now());
  request.key.index = 1;
  h.engine().Handle(Generate(request), h.now());
  EXPECT_EQ(h.engine().num_sequences(), 3);
  EXPECT_EQ(h.engine().num_duplicates(), 0u);
}

TEST(Admission, LostRouterTakesItsSequencesAlong) {
  Harness h(SmallOptions());
  std::vector<RequestId> ids;
  for (int i = 0; i < 6; ++i) {
    Generate request;
    request.key.router = 1 + static_cast<Nonce>(i % 2);
    request.prompt = Prompt(6, 10 * i);
    request.max_tokens = 5;
    ids.push_back(h.Add(request));
  }
  h.Plan();  // some run, some wait
  h.LoseRouter(2);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(h.stream(ids[i]).finish, i % 2 ? FinishReason::kCancelled : FinishReason::kNone);
  }
  h.Drain();
  h.ExpectAllStreamsAsIfAlone();
  h.ExpectEverythingFreed();
}

}  // namespace
}  // namespace tandem::engine
