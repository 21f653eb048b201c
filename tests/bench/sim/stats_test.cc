#include "bench/sim/stats.h"

#include <gtest/gtest.h>

namespace tandem::simulator {
namespace {

TEST(StatsTest, PercentilesAreValuesThatOccurred) {
  std::vector<float> values;
  for (int i = 100; i >= 1; --i) values.push_back(static_cast<float>(i));
  const Summary summary = Summarize(values);
  EXPECT_EQ(summary.count, 100);
  EXPECT_DOUBLE_EQ(summary.mean, 50.5);
  EXPECT_DOUBLE_EQ(summary.p50, 50);
  EXPECT_DOUBLE_EQ(summary.p95, 95);
  EXPECT_DOUBLE_EQ(summary.p99, 99);
  std::vector<float> one = {7}, none;
  EXPECT_DOUBLE_EQ(Summarize(one).p99, 7);
  EXPECT_EQ(Summarize(none).count, 0);
}

TEST(StatsTest, WindowsHoldTheBusyShares) {
  LoadWindows windows(2, kSecond);
  windows.Add(0, kSecond / 2, kSecond / 2);
  windows.Add(1, 2 * kSecond + 1, kSecond / 4);
  const auto shares = windows.Shares();
  ASSERT_EQ(shares.size(), 3U);
  EXPECT_DOUBLE_EQ(shares[0].mean, 0.25);
  EXPECT_DOUBLE_EQ(shares[0].max, 0.5);
  EXPECT_DOUBLE_EQ(shares[1].max, 0);
  EXPECT_DOUBLE_EQ(shares[2].mean, 0.125);
}

Outcome Finished(Nanos first, Nanos last, int32_t tokens) {
  Outcome outcome;
  outcome.first_token = first;
  outcome.last_token = last;
  outcome.predicted_ttft = first * 2;
  outcome.prompt_tokens = 100;
  outcome.cached_tokens = 48;
  outcome.output_tokens = tokens;
  outcome.end = Outcome::End::kFinished;
  return outcome;
}

TEST(StatsTest, EvaluatesARun) {
  RawResult raw;
  raw.duration = 10 * kSecond;
  raw.busy = {kSecond, 3 * kSecond};
  raw.outcomes.push_back(Finished(kSecond, 2 * kSecond, 11));      // 1 s, 100 ms a token
  raw.outcomes.push_back(Finished(kSecond, 2 * kSecond, 6));       // 200 ms a token
  raw.outcomes.push_back(Finished(5 * kSecond, 6 * kSecond, 11));  // 5 s
  raw.outcomes.emplace_back().end = Outcome::End::kRejected;
  raw.outcomes.emplace_back().end = Outcome::End::kFailed;
  const PolicyResult result = Evaluate("p", raw, {.ttft = 3 * kSecond, .itl = 100 * kMillisecond});
  EXPECT_EQ(result.requests, 5);
  EXPECT_EQ(result.finished, 3);
  EXPECT_EQ(result.rejected, 1);
  EXPECT_EQ(result.failed, 1);
  EXPECT_DOUBLE_EQ(result.goodput, 0.1);  // one in ten seconds
  EXPECT_DOUBLE_EQ(result.hit_rate, 0.48);
  EXPECT_DOUBLE_EQ(result.imbalance, 1.5);
  EXPECT_DOUBLE_EQ(result.utilization, 0.2);
  EXPECT_DOUBLE_EQ(result.ttft.p95, 5000);
  EXPECT_DOUBLE_EQ(result.e2e.p50, 2000);
  EXPECT_DOUBLE_EQ(result.prediction_p50, 2);
  EXPECT_EQ(result.ttft_cdf_ms.front(), 1000);
  EXPECT_EQ(result.ttft_cdf_ms.back(), 5000);
}

TEST(StatsTest, EvaluatesARunInWhichNothingFinished) {
  RawResult raw;
  raw.outcomes.emplace_back().end = Outcome::End::kRejected;
  raw.busy = {0};
  const PolicyResult result = Evaluate("p", raw, {});
  EXPECT_EQ(result.requests, 1);
  EXPECT_EQ(result.goodput, 0);
  EXPECT_EQ(result.imbalance, 0);
}

}  // namespace
}  // namespace tandem::simulator
