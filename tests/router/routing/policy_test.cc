#include "router/routing/policy.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "router/routing/hot_blocks.h"

namespace tandem::routing {
namespace {

class PolicyTest : public testing::TestWithParam<std::string_view> {
 protected:
  PolicyTest() {
    // 5 ms a step, 0.1 ms a token.
    for (int i = 1; i < 400; ++i) {
      const double prefill = i % 3 * 100, decodes = i % 7 + 1;
      const double context = decodes * (i % 50);
      model_.Observe({.prefill_tokens = prefill, .decodes = decodes, .context_tokens = context},
                     static_cast<Nanos>(5e6 + 1e5 * prefill + 1e5 * decodes));
    }
    loads_.resize(8);
    infos_.resize(8);
    for (int g = 0; g < 8; ++g) {
      infos_[Index(g)].id = GroupId{g};
      infos_[Index(g)].name = "group" + std::to_string(g);
      infos_[Index(g)].max_step_tokens = 512;
      infos_[Index(g)].block_size = 16;
    }
  }
  static size_t Index(int g) { return static_cast<size_t>(g); }
  void SetQueue(int g, int tokens) {
    GroupLoad& load = loads_[Index(g)];
    load.num_waiting = tokens > 0;
    load.queued_tokens = tokens;
    load.queue.clear();
    if (tokens > 0) load.queue.push_back({tokens, tokens, 0, 0});
  }
  GroupView View(int g, int prompt, int cached = 0) const {
    GroupView view;
    view.state = {.info = &infos_[Index(g)],
                  .load = &loads_[Index(g)],
                  .reported_at = kNow,
                  .unreported = {},
                  .model = &model_,
                  .speed = 1};
    view.group = GroupId{g};
    view.name_hash = HashBytes(infos_[Index(g)].name).low;
    view.cached_tokens = cached;
    view.prediction = Predict(view.state, {.prompt_tokens = prompt, .cached_tokens = cached}, kNow);
    return view;
  }
  std::vector<GroupView> Views(int count, int prompt) const {
    std::vector<GroupView> views;
    for (int g = 0; g < count; ++g) views.push_back(View(g, prompt));
    return views;
  }
  static RouteQuery Query(int prompt, uint64_t session = 0) {
    return {.prompt_tokens = prompt,
            .block_size = 16,
            .chain = {},
            .session = session,
            .now = kNow,
            .num_groups = 8};
  }

  static constexpr Nanos kNow = kSecond;
  LatencyModel model_;
  std::vector<GroupInfo> infos_;
  std::vector<GroupLoad> loads_;
  Rng rng_{42};
};

TEST_P(PolicyTest, TakesTheOnlyGroup) {
  auto policy = MakePolicy(GetParam()).value();
  const std::vector<GroupView> views = {View(3, 100)};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(policy->Select(Query(100), views, rng_).index, 0u);
}

TEST_P(PolicyTest, SpreadsEqualRequestsOverIdleGroups) {
  auto policy = MakePolicy(GetParam()).value();
  const std::vector<GroupView> views = Views(4, 100);
  std::map<size_t, int> picks;
  for (int i = 0; i < 4000; ++i) ++picks[policy->Select(Query(100), views, rng_).index];
  for (size_t g = 0; g < 4; ++g) EXPECT_NEAR(picks[g], 1000, 150) << "group " << g;
}

INSTANTIATE_TEST_SUITE_P(All, PolicyTest, testing::ValuesIn(PolicyNames()),
                         [](const auto& info) { return std::string(info.param); });

using Policies = PolicyTest;

TEST_F(Policies, AnUnknownNameIsAnswered) {
  const auto made = MakePolicy("best");
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(Message(made.status()),
            "there is no policy 'best'; there are ttft, prefix, least_loaded, power_of_two, "
            "round_robin, session");
}

TEST_F(Policies, TtftPrefersTheGroupThatHoldsThePrompt) {
  auto policy = MakePolicy("ttft").value();
  std::vector<GroupView> views = Views(4, 1000);
  views[2] = View(2, 1000, 960);
  const Pick pick = policy->Select(Query(1000), views, rng_);
  EXPECT_EQ(pick.index, 2u);
  EXPECT_STREQ(pick.reason, "warmest");
}

TEST_F(Policies, TtftLeavesAWarmGroupWhenItsQueueCostsMore) {
  auto policy = MakePolicy("ttft").value();
  SetQueue(2, 3000);
  std::vector<GroupView> views = Views(4, 200);
  views[2] = View(2, 200, 160);
  const Pick pick = policy->Select(Query(200), views, rng_);
  EXPECT_NE(pick.index, 2u);
}

TEST_F(Policies, TtftCountsThoseWhoWouldWaitForIt) {
  auto policy = MakePolicy("ttft").value();
  // Neither group's queue is before our 500 tokens, but one has more that would wait.
  loads_[0].num_waiting = 4;
  loads_[0].queued_tokens = 4 * 1000;
  for (int i = 0; i < 4; ++i) loads_[0].queue.push_back({1000, 1000, 0, 0});
  loads_[1].num_waiting = 1;
  loads_[1].queued_tokens = 4000;
  loads_[1].queue = {{4000, 4000, 0, 0}};
  EXPECT_EQ(policy->Select(Query(500), Views(2, 500), rng_).index, 1u);
}

TEST_F(Policies, PrefixFollowsTheMatchUntilItsGroupIsMuchBusier) {
  auto policy = MakePolicy("prefix").value();
  SetQueue(1, 500);
  std::vector<GroupView> views = Views(4, 1000);
  views[1] = View(1, 1000, 960);
  EXPECT_EQ(policy->Select(Query(1000), views, rng_).index, 1u);
  SetQueue(1, 5000);
  views[1] = View(1, 1000, 960);
  const Pick pick = policy->Select(Query(1000), views, rng_);
  EXPECT_NE(pick.index, 1u);
  EXPECT_STREQ(pick.reason, "balance");
}

TEST_F(Policies, LeastLoadedTakesTheShortestQueue) {
  auto policy = MakePolicy("least_loaded").value();
  for (int g = 0; g < 4; ++g) SetQueue(g, 1000 - 100 * (g % 3));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(policy->Select(Query(10), Views(4, 10), rng_).index, 2u);
  }
}

TEST_F(Policies, PowerOfTwoNeverTakesTheBusiest) {
  auto policy = MakePolicy("power_of_two").value();
  SetQueue(1, 5000);
  for (int i = 0; i < 200; ++i) EXPECT_NE(policy->Select(Query(10), Views(4, 10), rng_).index, 1u);
}

TEST_F(Policies, RoundRobinGoesOnWhenGroupsComeAndGo) {
  auto policy = MakePolicy("round_robin").value();
  const std::vector<GroupView> all = Views(4, 10);
  EXPECT_EQ(policy->Select(Query(10), all, rng_).index, 0u);
  EXPECT_EQ(policy->Select(Query(10), all, rng_).index, 1u);
  const std::vector<GroupView> some = {View(1, 10), View(3, 10)};
  EXPECT_EQ(policy->Select(Query(10), some, rng_).index, 1u) << "group 3";
  EXPECT_EQ(policy->Select(Query(10), all, rng_).index, 0u);
}

TEST_F(Policies, ASessionStaysAndOnlyThoseOfALostGroupMove) {
  auto policy = MakePolicy("session").value();
  const std::vector<GroupView> all = Views(8, 10);
  std::vector<GroupView> fewer = all;
  fewer.erase(fewer.begin() + 3);
  int moved = 0;
  for (uint64_t session = 1; session <= 800; ++session) {
    const GroupId before = all[policy->Select(Query(10, session), all, rng_).index].group;
    EXPECT_EQ(all[policy->Select(Query(10, session), all, rng_).index].group, before);
    const GroupId after = fewer[policy->Select(Query(10, session), fewer, rng_).index].group;
    moved += after != before;
    EXPECT_EQ(after != before, before == GroupId{3});
  }
  EXPECT_NEAR(moved, 100, 40);
}

TEST_F(Policies, WithoutASessionThePromptsBeginningStandsForOne) {
  auto policy = MakePolicy("session").value();
  const std::vector<GroupView> all = Views(8, 10);
  std::vector<BlockHash> chain;
  for (uint64_t i = 1; i <= 20; ++i) chain.push_back({i * 7919, i});
  RouteQuery query = Query(330);
  query.chain = std::span(chain).first(6);
  const size_t first = policy->Select(query, all, rng_).index;
  query.chain = chain;  // the next turn
  EXPECT_EQ(policy->Select(query, all, rng_).index, first);
}

std::vector<BlockHash> Chain(uint64_t seed, size_t blocks) {
  std::vector<BlockHash> chain;
  std::mt19937_64 rng(seed);
  for (size_t i = 0; i < blocks; ++i) {
    const uint64_t low = rng(), high = rng();
    chain.push_back({low, high});
  }
  return chain;
}

TEST(HotBlocks, WhatManyAskForIsHotUntilEnoughGroupsHoldIt) {
  HotBlocks hot;
  const auto shared = Chain(1, 64);
  const std::vector<int32_t> nobody = {0, 0, 0, 0}, all = {64, 64, 64, 64};
  hot.Arrived(shared, 16, kSecond);
  hot.Count(nobody);
  EXPECT_EQ(hot.Heat(0), 0) << "seen once";
  for (int i = 0; i < 20; ++i) hot.Arrived(shared, 16, kSecond);
  hot.Count(nobody);
  // 20 before it and one holder to be, where a group gets a quarter of 21 requests.
  const double y = 8 * 20 / (21.0 / 4);
  EXPECT_NEAR(hot.Heat(0), y / (1 + y), 0.001);
  EXPECT_EQ(hot.Heat(64), 0) << "it holds all";
  hot.Count(all);
  EXPECT_NEAR(hot.Heat(0), y / 5 / (1 + y / 5), 0.001);
  hot.Arrived(shared, 16, 100 * kSecond);
  hot.Count(nobody);
  EXPECT_LT(hot.Heat(0), 0.05) << "long ago";
}

TEST(HotBlocks, WhatBringsAGroupLittleOfItsLoadIsNotWorthACopy) {
  HotBlocks hot;
  const auto shared = Chain(1, 64);
  const std::vector<int32_t> one_of_four = {64, 0, 0, 0};
  const auto heat_at = [&](uint64_t others) {  // for each request that shares
    for (uint64_t i = 0; i < 20; ++i) {
      for (uint64_t other = 0; other < others; ++other) {
        hot.Arrived(Chain(1000 + i * others + other, 64), 16, kSecond);
      }
      hot.Arrived(shared, 16, kSecond);
    }
    hot.Count(one_of_four);
    return hot.Heat(0);
  };
  EXPECT_GT(heat_at(0), 0.9);
  EXPECT_LT(heat_at(200), 0.2);
}

TEST(HotBlocks, OnlyTheSharedBeginningIsHot) {
  HotBlocks hot;
  auto chain = Chain(1, 64);
  for (uint64_t i = 0; i < 20; ++i) {
    const auto tail = Chain(100 + i, 32);
    std::copy(tail.begin(), tail.end(), chain.begin() + 32);
    hot.Arrived(chain, 16, kSecond);
  }
  const std::vector<int32_t> depths = {0, 32};
  hot.Count(depths);
  const double y = 8 * 19 / 2.0 / 10;
  EXPECT_NEAR(hot.Heat(0), 0.5 * y / (1 + y), 0.001) << "one group holds the shared half";
  EXPECT_EQ(hot.Heat(32), 0);
}

}  // namespace
}  // namespace tandem::routing
