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

TEST(LatencyModel, TheFirstStepSetsTheScale) {
  LatencyModel cpu, gpu;
  EXPECT_FALSE(cpu.calibrated());
  const StepFeatures step{.prefill_tokens = 200, .attention = AttentionWork(0, 200), .decodes = 3};
  cpu.Observe(step, 500 * kMillisecond);
  gpu.Observe(step, 8 * kMillisecond);
  EXPECT_NEAR(cpu.Seconds(step), 0.5, 0.005);
  EXPECT_NEAR(gpu.Seconds(step), 0.008, 0.0001);
  EXPECT_NEAR(cpu.Seconds({.prefill_tokens = 400}) / gpu.Seconds({.prefill_tokens = 400}), 62.5,
              0.1);
  const LatencyModel like = LatencyModel::Like(cpu);
  EXPECT_FALSE(like.calibrated());
  EXPECT_EQ(like.Seconds(step), cpu.Seconds(step));
}

TEST(LatencyModel, LearnsWhatAttentionCosts) {
  std::mt19937_64 rng(4);
  LatencyModel model;
  const auto truth = [](const StepFeatures& f) {
    return static_cast<Nanos>(5.5e6 + 27e3 * f.prefill_tokens + 1.3 * f.attention +
                              10e3 * f.decodes + 44 * f.context_tokens);
  };
  for (int i = 0; i < 2000; ++i) {
    StepFeatures f;
    f.decodes = static_cast<double>(rng() % 40);
    f.context_tokens = f.decodes * static_cast<double>(rng() % 20000);
    if (rng() % 2 == 0) {
      f.prefill_tokens = static_cast<double>(1 + rng() % 2048);
      f.attention = AttentionWork(static_cast<double>(rng() % 60000), f.prefill_tokens);
    }
    const double noise = 0.95 + 0.1 * static_cast<double>(rng() % 1000) / 1000;
    model.Observe(f, static_cast<Nanos>(noise * static_cast<double>(truth(f))));
  }
  for (const StepFeatures& f :
       {StepFeatures{.prefill_tokens = 2048, .attention = AttentionWork(0, 2048)},
        StepFeatures{.prefill_tokens = 2048, .attention = AttentionWork(100000, 2048)},
        StepFeatures{.decodes = 30, .context_tokens = 300000}}) {
    EXPECT_NEAR(model.Seconds(f) / static_cast<double>(truth(f)) * kSecond, 1, 0.1);
  }
}

TEST(GroupSpeed, IsShrunkToOneAndFindsTheFactor) {
  GroupSpeed speed;
  EXPECT_EQ(speed.factor(), 1);
  speed.Observe(0.01, 0.016);
  EXPECT_LT(speed.factor(), 1.05) << "one step says little";
  for (int i = 0; i < 2000; ++i) speed.Observe(0.01, 0.016);
  EXPECT_NEAR(speed.factor(), 1.6, 0.02);
}

// Of four equal groups and one slower, with one model: the factor finds the slow one, and the model
// stays that of the others.
TEST(GroupSpeed, TellsASlowGroupFromTheOthers) {
  std::mt19937_64 rng(5);
  LatencyModel model;
  GroupSpeed speeds[5];
  for (int i = 0; i < 10000; ++i) {
    const auto g = static_cast<size_t>(i % 5);
    const StepFeatures f = RandomStep(rng);
    const Nanos took = Truth(f, g == 4 ? 1.6 : 1);
    if (i > 100) speeds[g].Observe(model.Seconds(f), static_cast<double>(took) / kSecond);
    model.Observe(f, static_cast<Nanos>(static_cast<double>(took) / speeds[g].factor()));
  }
  EXPECT_NEAR(speeds[4].factor() / speeds[0].factor(), 1.6, 0.05);
  const StepFeatures f{.prefill_tokens = 128, .decodes = 4, .context_tokens = 2000};
  EXPECT_NEAR(speeds[0].factor() * model.Seconds(f) * kSecond / static_cast<double>(Truth(f)), 1,
              0.05);
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
