// Against numbers worked out by hand from the definitions in docs/bench.md.
#include "bench/load/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tandem::load {
namespace {

using testing::ElementsAre;
using testing::Pair;

constexpr Nanos kT0 = 1000 * kSecond;  // where a run may begin on the monotonic clock

// Times in milliseconds from kT0.
Record Stream(double intended, double first, std::vector<double> gaps, double last,
              int64_t output_tokens, int64_t prompt_tokens) {
  const auto time = [](double ms) { return static_cast<Nanos>(ms * 1e6); };
  Record record;
  record.outcome = Outcome::kOk;
  record.intended = kT0 + time(intended);
  record.sent = record.intended + time(2);
  record.first = kT0 + time(first);
  record.first_text = record.first + time(1);
  for (const double gap : gaps) record.gaps.push_back(time(gap));
  record.last = kT0 + time(last);
  record.ended = record.last;
  record.completion_tokens = output_tokens;
  record.prompt_tokens = prompt_tokens;
  return record;
}

Record Failed(Outcome outcome, int status, const char* error) {
  Record record;
  record.outcome = outcome;
  record.http_status = status;
  record.error = error;
  record.intended = record.sent = record.ended = kT0;
  return record;
}

// Three requests in 4 s:
//   A  due 0,    first 100,  gaps 10 30 20, last 160,  4 tokens: TTFT 100, TPOT 20, E2EL 160
//   B  due 500,  first 800,  no gap,        last 800,  1 token:  TTFT 300, no TPOT, E2EL 300
//   C  due 1000, first 1200, gaps 50 150,   last 1410, 8 tokens: TTFT 200, TPOT 30, E2EL 410
std::deque<Record> Three() {
  return {Stream(0, 100, {10, 30, 20}, 160, 4, 100), Stream(500, 800, {}, 800, 1, 50),
          Stream(1000, 1200, {50, 150}, 1410, 8, 10)};
}

TEST(Metrics, AreWhatTheirDefinitionsSay) {
  const std::vector<double> percentiles = {50, 90, 99.5};
  const Metrics m = ComputeMetrics(Three(), 4 * kSecond, percentiles, {});
  EXPECT_EQ(m.completed, 3);
  EXPECT_EQ(m.failed, 0);
  EXPECT_EQ(m.total_input_tokens, 160);
  EXPECT_EQ(m.total_output_tokens, 13);
  EXPECT_DOUBLE_EQ(m.duration_s, 4);
  EXPECT_DOUBLE_EQ(m.request_throughput, 0.75);
  EXPECT_DOUBLE_EQ(m.output_throughput, 3.25);
  EXPECT_DOUBLE_EQ(m.total_token_throughput, 43.25);
  EXPECT_FALSE(m.request_goodput.has_value());

  // TTFT 100 200 300: p90 is at rank 1.8, 200 + 0.8 * 100; p99.5 at rank 1.99.
  EXPECT_DOUBLE_EQ(m.ttft.mean, 200);
  EXPECT_DOUBLE_EQ(m.ttft.median, 200);
  EXPECT_DOUBLE_EQ(m.ttft.std, std::sqrt(20000.0 / 3));
  EXPECT_DOUBLE_EQ(m.ttft.percentiles[0], 200);
  EXPECT_DOUBLE_EQ(m.ttft.percentiles[1], 280);
  EXPECT_DOUBLE_EQ(m.ttft.percentiles[2], 299);
  // TPOT: (160 - 100) / 3 and (1410 - 1200) / 7; B has one token and none.
  EXPECT_DOUBLE_EQ(m.tpot.mean, 25);
  EXPECT_DOUBLE_EQ(m.tpot.std, 5);
  // ITL 10 20 30 50 150: every gap of every request counts alike; p90 at rank 3.6.
  EXPECT_DOUBLE_EQ(m.itl.mean, 52);
  EXPECT_DOUBLE_EQ(m.itl.median, 30);
  EXPECT_DOUBLE_EQ(m.itl.percentiles[1], 110);
  EXPECT_DOUBLE_EQ(m.e2el.mean, 290);
  EXPECT_DOUBLE_EQ(m.e2el.median, 300);
  EXPECT_DOUBLE_EQ(m.ttft_text.mean, 201);
  EXPECT_DOUBLE_EQ(m.send_delay.mean, 2);
}

// Seconds counted from A's: in the first A's four chunks and B's one, in the second C's three. A
// and B are under way in the first, C in the second (and B is over by then).
TEST(Metrics, PeaksAreThoseOfTheFullestSecond) {
  const Metrics m = ComputeMetrics(Three(), 4 * kSecond, {}, {});
  EXPECT_EQ(m.max_output_tokens_per_s, 5);
  EXPECT_EQ(m.max_concurrent_requests, 2);
}

TEST(Metrics, GoodputCountsThoseThatMeetAllOfTheSlo) {
  const auto goodput = [](const Slo& slo) {
    return ComputeMetrics(Three(), 4 * kSecond, {}, slo).request_goodput.value_or(-1) * 4;
  };
  EXPECT_DOUBLE_EQ(goodput({.ttft_ms = 200}), 2);  // A, C: at the bound is within
  EXPECT_DOUBLE_EQ(goodput({.tpot_ms = 20}), 2);   // A, and B whose single token counts as 0
  EXPECT_DOUBLE_EQ(goodput({.itl_ms = 100}), 2);   // C's longest gap is 150
  EXPECT_DOUBLE_EQ(goodput({.e2el_ms = 300}), 2);
  EXPECT_DOUBLE_EQ(goodput({.ttft_ms = 250, .tpot_ms = 25, .itl_ms = 30, .e2el_ms = 500}), 1);
  EXPECT_DOUBLE_EQ(goodput({.ttft_ms = 1}), 0);
}

TEST(Metrics, FailedRequestsAreCountedByKindAndNowhereElse) {
  std::deque<Record> records = Three();
  records.push_back(Failed(Outcome::kHttpStatus, 429, "status 429: slow down"));
  records.push_back(Failed(Outcome::kHttpStatus, 500, "status 500: x"));
  records.push_back(Failed(Outcome::kHttpStatus, 429, "status 429: again"));
  records.push_back(Failed(Outcome::kTimeout, 0, "late"));
  records.back().prompt_tokens = 7;
  const Metrics m = ComputeMetrics(records, 4 * kSecond, {}, {});
  EXPECT_EQ(m.completed, 3);
  EXPECT_EQ(m.failed, 4);
  EXPECT_EQ(m.total_input_tokens, 160);
  EXPECT_DOUBLE_EQ(m.ttft.mean, 200);
  EXPECT_THAT(m.errors, ElementsAre(Pair("http_status", 3), Pair("timeout", 1)));
  EXPECT_THAT(m.http_errors, ElementsAre(Pair(429, 2), Pair(500, 1)));
  EXPECT_EQ(m.an_error.at("http_status"), "status 429: slow down");
}

TEST(Metrics, OfNothingAreZero) {
  const std::vector<double> percentiles = {99};
  const Metrics m = ComputeMetrics({}, 0, percentiles, {.ttft_ms = 1});
  EXPECT_EQ(m.completed, 0);
  EXPECT_EQ(m.ttft.mean, 0);
  EXPECT_THAT(m.ttft.percentiles, ElementsAre(0));
  EXPECT_EQ(m.request_throughput, 0);
  EXPECT_EQ(m.request_goodput, 0);
  EXPECT_EQ(m.max_concurrent_requests, 0);
}

TEST(Metrics, WithoutUsageTokensAreCountedAsWellAsCanBe) {
  Record record = Stream(0, 10, {}, 10, -1, -1);
  record.num_text_chunks = 6;
  record.intended_prompt_tokens = 33;
  const Metrics m = ComputeMetrics({record}, kSecond, {}, {});
  EXPECT_EQ(m.total_input_tokens, 33);
  EXPECT_EQ(m.total_output_tokens, 6);
}

}  // namespace
}  // namespace tandem::load
