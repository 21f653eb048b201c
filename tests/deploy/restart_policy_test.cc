#include "deploy/cli/restart_policy.h"

#include <gtest/gtest.h>

namespace tandem::cli {
namespace {

TEST(RestartPolicy, FirstFailureRestartsAtOnce) {
  EXPECT_EQ(RestartPolicy({}).PauseAfter(kSecond), 0);
}

TEST(RestartPolicy, PausesDoubleUpToTheBound) {
  RestartPolicy policy({});
  policy.PauseAfter(0);
  Nanos expected = 100 * kMillisecond;
  for (int i = 0; i < 9; ++i, expected *= 2) {
    EXPECT_EQ(policy.PauseAfter(0), expected < 30 * kSecond ? expected : 30 * kSecond);
  }
  for (int i = 0; i < 100; ++i) EXPECT_EQ(policy.PauseAfter(0), 30 * kSecond);
}

TEST(RestartPolicy, AHealthyRunForgetsWhatWas) {
  RestartPolicy policy({});
  for (int i = 0; i < 5; ++i) policy.PauseAfter(0);
  EXPECT_EQ(policy.num_failures(), 5);
  EXPECT_EQ(policy.PauseAfter(10 * kSecond), 0);
  EXPECT_EQ(policy.num_failures(), 1);
  EXPECT_EQ(policy.PauseAfter(10 * kSecond - 1), 100 * kMillisecond);
}

}  // namespace
}  // namespace tandem::cli
