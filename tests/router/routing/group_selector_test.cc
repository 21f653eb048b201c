#include "router/routing/group_selector.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>

namespace tandem::routing {
namespace {

class GroupSelector : public testing::Test {
 protected:
  GroupSelector() {
    busy_.num_running = 8;
    busy_.num_waiting = 2;
    busy_.queued_tokens = 3000;
    for (int i = 0; i < 400; ++i) {
      const double prefill = i % 3 == 0 ? 64 : 0, decodes = i % 5 + 1;
      model_.Observe({prefill, decodes, decodes * (i % 200)},
                     static_cast<Nanos>(5e6 + 2e5 * prefill + 5e5 * decodes));
    }
  }
  Candidate Make(int id, const GroupLoad& load, int cached = 0) const {
    return {.group = GroupId{id},
            .load = &load,
            .reported_at = 1,
            .outstanding = {},
            .model = &model_,
            .max_step_tokens = 256,
            .cached_tokens = cached};
  }
  LatencyModel model_;
  GroupLoad idle_, busy_;
  Rng rng_{42};
};

TEST_F(GroupSelector, NoCandidateIsAnswerNotAnError) {
  const Choice choice = SelectGroup({}, 100, 0, rng_);
  EXPECT_FALSE(choice.group.valid());
  EXPECT_STREQ(choice.reason, "no_group");
}

TEST_F(GroupSelector, PrefersTheGroupThatHoldsThePrompt) {
  const std::array c = {Make(0, idle_), Make(1, idle_, 960), Make(2, idle_)};
  const Choice choice = SelectGroup(c, 1000, kSecond, rng_);
  EXPECT_EQ(choice.group, GroupId{1});
  EXPECT_EQ(choice.cached_tokens, 960);
  EXPECT_STREQ(choice.reason, "warmest");
}

TEST_F(GroupSelector, LeavesAWarmGroupWhenItsQueueCostsMore) {
  const std::array c = {Make(0, idle_), Make(1, busy_, 160)};
  const Choice choice = SelectGroup(c, 200, kSecond, rng_);
  EXPECT_EQ(choice.group, GroupId{0});
  EXPECT_STREQ(choice.reason, "fastest");
}

TEST_F(GroupSelector, CountsWhatWasSentAndIsNotReportedYet) {
  std::array c = {Make(0, idle_), Make(1, idle_)};
  c[0].outstanding = {.num_attempts = 3, .num_unreported = 3, .unreported_tokens = 1500};
  EXPECT_EQ(SelectGroup(c, 100, kSecond, rng_).group, GroupId{1});
}

TEST_F(GroupSelector, TiesAreDrawnNotOrdered) {
  const std::array c = {Make(0, idle_), Make(1, idle_), Make(2, idle_)};
  std::map<int, int> picks;
  for (int i = 0; i < 3000; ++i) {
    const Choice choice = SelectGroup(c, 100, kSecond, rng_);
    EXPECT_STREQ(choice.reason, "tie");
    ++picks[choice.group.value];
  }
  for (int g = 0; g < 3; ++g) EXPECT_NEAR(picks[g], 1000, 150) << "group " << g;
}

TEST_F(GroupSelector, PredictsMoreForLongerPromptsAndQueues) {
  const Nanos now = kSecond;
  EXPECT_LT(PredictTtft(Make(0, idle_), 100, now), PredictTtft(Make(0, idle_), 1000, now));
  EXPECT_LT(PredictTtft(Make(0, idle_), 100, now), PredictTtft(Make(0, busy_), 100, now));
  EXPECT_LT(PredictTtft(Make(0, idle_, 900), 1000, now), PredictTtft(Make(0, idle_), 1000, now));
}

TEST_F(GroupSelector, AnOldReportsRunningStepIsOver) {
  EXPECT_GT(PredictTtft(Make(0, busy_), 100, 2), PredictTtft(Make(0, busy_), 100, 10 * kSecond));
}

}  // namespace
}  // namespace tandem::routing
