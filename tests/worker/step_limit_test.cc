#include "worker/step_limit.h"

#include <gtest/gtest.h>

namespace tandem::worker {
namespace {

constexpr Nanos kFloor = 5 * kSecond;

TEST(StepLimit, IsGenerousToAFirstChunkOnly) {
  EXPECT_EQ(StepLimit(kFloor).For(1), kFloor);
  EXPECT_EQ(StepLimit(kFloor).For(256), 4 * kFloor);
}

TEST(StepLimit, DecodesDoNotStretchTheLimitOfAChunk) {
  StepLimit limit(kFloor);
  limit.Observe(256, 200 * kMillisecond);
  for (int i = 0; i < 1000; ++i) limit.Observe(1, 20 * kMillisecond);
  EXPECT_EQ(limit.For(256), kFloor);
  EXPECT_EQ(limit.For(1), kFloor);
}

TEST(StepLimit, SlowStepsGetTenTimesWhatTheyTake) {
  StepLimit limit(kFloor);
  limit.Observe(256, 2 * kSecond);
  EXPECT_GE(limit.For(256), 20 * kSecond);
  limit.Observe(1, kSecond);
  EXPECT_EQ(limit.For(1), 10 * kSecond);
}

TEST(StepLimit, AFirstChunkIsBoundedByWhatDecodesTake) {
  StepLimit limit(kFloor);
  limit.Observe(1, 4 * kMillisecond);
  EXPECT_GT(limit.For(256), kFloor);
  EXPECT_LT(limit.For(256), 4 * kFloor);
  limit.Observe(1, 40 * kSecond);
  EXPECT_EQ(limit.For(256), 4 * kFloor);
}

}  // namespace
}  // namespace tandem::worker
