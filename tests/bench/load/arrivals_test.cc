#include "bench/load/arrivals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace tandem::load {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

std::vector<double> Gaps(double rate, double burstiness, uint64_t seed, int count) {
  Arrivals arrivals(rate, burstiness, seed);
  std::vector<double> gaps;
  Nanos before = 0;
  for (int i = 0; i < count; ++i) {
    const Nanos at = arrivals.Next();
    EXPECT_GE(at, before);
    gaps.push_back(static_cast<double>(at - before) / 1e9);
    before = at;
  }
  return gaps;
}

struct Moments {
  double mean = 0, variance = 0;
};

Moments Of(const std::vector<double>& values) {
  Moments m;
  for (const double v : values) m.mean += v / static_cast<double>(values.size());
  for (const double v : values) {
    m.variance += (v - m.mean) * (v - m.mean) / static_cast<double>(values.size());
  }
  return m;
}

// A gap has mean 1/rate and variance mean^2/burstiness. Of 40,000 gaps the mean is within 5
// standard errors, the variance within 10 %: more than its error for the burstiest case.
TEST(Arrivals, GapsHaveTheMeanAndVarianceOfTheirGammaDistribution) {
  for (const double burstiness : {0.25, 1.0, 4.0}) {
    for (const uint64_t seed : {1u, 2u, 3u}) {
      const int count = 40'000;
      const Moments m = Of(Gaps(20, burstiness, seed, count));
      const double variance = 0.05 * 0.05 / burstiness;
      EXPECT_NEAR(m.mean, 0.05, 5 * std::sqrt(variance / count)) << burstiness << " seed " << seed;
      EXPECT_NEAR(m.variance / variance, 1, 0.1) << burstiness << " seed " << seed;
    }
  }
}

// Of an exponential distribution: 1 - e^-x of the gaps are below x means.
TEST(Arrivals, BurstinessOneIsAPoissonProcess) {
  const std::vector<double> gaps = Gaps(100, 1, 7, 40'000);
  for (const double means : {0.1, 0.5, 1.0, 3.0}) {
    int below = 0;
    for (const double gap : gaps) below += gap < means * 0.01 ? 1 : 0;
    EXPECT_NEAR(below / 40'000.0, 1 - std::exp(-means), 0.0125) << means;
  }
}

TEST(Arrivals, InfiniteBurstinessIsAFixedPace) {
  Arrivals arrivals(4, kInfinite, 1);
  for (int i = 1; i <= 8; ++i) EXPECT_EQ(arrivals.Next(), i * kSecond / 4);
}

TEST(Arrivals, InfiniteRateIsAllAtOnce) {
  for (const double gap : Gaps(kInfinite, 1, 1, 10)) EXPECT_EQ(gap, 0);
}

TEST(Arrivals, DependOnTheSeedAlone) {
  EXPECT_EQ(Gaps(3, 0.5, 9, 100), Gaps(3, 0.5, 9, 100));
  EXPECT_NE(Gaps(3, 0.5, 9, 100), Gaps(3, 0.5, 10, 100));
}

}  // namespace
}  // namespace tandem::load
