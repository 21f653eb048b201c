#include "router/routing/latency_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace tandem::routing {
namespace {

Nanos Truth(const StepFeatures& f, double speed = 1) {
  return static_cast<Nanos>(
      speed * (4e6 + 2e5 * f.prefill_tokens + 8e5 * f.decodes + 150 * f.context_tokens));
}

StepFeatures RandomStep(std::mt19937_64& rng) {
  StepFeatures f;
  f.prefill_tokens = rng() % 3 == 0 ? static_cast<double>(rng() % 256) : 0;
  f.decodes = static_cast<double>(rng() % 16 + (f.prefill_tokens == 0 ? 1 : 0));
  f.context_tokens = f.decodes * static_cast<double>(rng() % 1500);
  return f;
}

TEST(LatencyModel, LearnsTheStepTime) {
  std::mt19937_64 rng(1);
  LatencyModel model;
  for (int i = 0; i < 500; ++i) {
    const StepFeatures f = RandomStep(rng);
    model.Observe(f, Truth(f));
  }
  for (int i = 0; i < 100; ++i) {
    const StepFeatures f = RandomStep(rng);
    EXPECT_NEAR(static_cast<double>(model.Predict(f)), static_cast<double>(Truth(f)),
                0.02 * static_cast<double>(Truth(f)));
  }
  EXPECT_NEAR(static_cast<double>(model.per_prefill_token()), 2e5, 1e4);
}

TEST(LatencyModel, FollowsAChangeOfSpeed) {
  std::mt19937_64 rng(2);
  LatencyModel model;
  for (int i = 0; i < 12000; ++i) {
    const StepFeatures f = RandomStep(rng);
    model.Observe(f, Truth(f, i < 2000 ? 1 : 2));
  }
  const StepFeatures f{.prefill_tokens = 128, .decodes = 4, .context_tokens = 2000};
  EXPECT_NEAR(static_cast<double>(model.Predict(f)), static_cast<double>(Truth(f, 2)),
              0.1 * static_cast<double>(Truth(f, 2)));
}

TEST(LatencyModel, OneKindOfStepForLongDoesNotBreakTheOthers) {
  std::mt19937_64 rng(3);
  LatencyModel model;
  for (int i = 0; i < 300; ++i) {
    const StepFeatures f = RandomStep(rng);
    model.Observe(f, Truth(f));
  }
  // One decode at a fixed length, with noise: directions that are not excited must not drift off.
  const StepFeatures single{.prefill_tokens = 0, .decodes = 1, .context_tokens = 100};
  for (int i = 0; i < 100000; ++i) {
    model.Observe(single, Truth(single) + static_cast<Nanos>(rng() % 100000) - 50000);
  }
  const StepFeatures f{.prefill_tokens = 200, .decodes = 0, .context_tokens = 0};
  const double ratio = static_cast<double>(model.Predict(f)) / static_cast<double>(Truth(f));
  EXPECT_TRUE(std::isfinite(ratio));
  EXPECT_GT(ratio, 0.5);
  EXPECT_LT(ratio, 2);
}

// What one client with one prompt shows: base, decode and prefill cannot be told apart, but what
// was seen must still be predicted.
TEST(LatencyModel, PredictsWhatItSawEvenWhereTheFitIsNotUnique) {
  LatencyModel model;
  const StepFeatures prefill{.prefill_tokens = 98, .decodes = 0, .context_tokens = 0};
  model.Observe({.prefill_tokens = 114, .decodes = 0, .context_tokens = 0}, 522 * kMillisecond);
  for (int i = 0; i < 200; ++i) {
    for (int d = 0; d < 3; ++d) {
      model.Observe({.prefill_tokens = 0, .decodes = 1, .context_tokens = 115.0 + d},
                    (d == 1 ? 11 : 7) * kMillisecond);
    }
    model.Observe(prefill, (i % 2 == 0 ? 280 : 260) * kMillisecond);
    if (i < 5) continue;
    EXPECT_NEAR(static_cast<double>(model.Predict(prefill)) / kMillisecond, 275, 40) << i;
    EXPECT_GE(model.base(), 0);
  }
}

TEST(LatencyModel, IgnoresStepsOfNoWorkAndImpossibleDurations) {
  LatencyModel model;
  const Nanos before = model.base();
  model.Observe({}, kSecond);
  model.Observe({.prefill_tokens = 5}, 0);
  model.Observe({.prefill_tokens = 5}, -kSecond);
  EXPECT_EQ(model.num_observed(), 0);
  EXPECT_EQ(model.base(), before);
}

TEST(LatencyModel, NeverPredictsLessThanNothing) {
  LatencyModel model;
  for (int i = 1; i < 200; ++i) {  // more work, less time: nonsense in, no negative out
    model.Observe({.prefill_tokens = static_cast<double>(i)}, kSecond / i);
  }
  EXPECT_GE(model.Predict({.prefill_tokens = 10000}), 0);
  EXPECT_GE(model.per_prefill_token(), 0);
}

}  // namespace
}  // namespace tandem::routing
