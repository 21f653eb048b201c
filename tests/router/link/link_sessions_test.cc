// How sessions between a group and its routers begin, are lost, refused and found again.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "tests/router/link/link_options.h"

namespace tandem {
namespace {

using testing::FakeLeader;
using testing::LeaderOptionsFor;
using testing::OpenRouter;
using testing::RecordingListener;
using testing::Request;
using testing::RouterOptions;
using testing::StepWith;
using testing::WaitForRefusals;
using testing::WaitForSessions;

TEST(Link, ALostRouterIsToldToTheEngineAndARestartedOneIsFound) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  const std::string endpoint = router->endpoint();
  auto options = LeaderOptionsFor(endpoint);
  options.router_silence = 500 * kMillisecond;
  FakeLeader leader(options);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  router->Send(listener.ups[0].id, Request(1));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.inbound.size() == 1; }));
  const SequenceKey key = std::get<engine::Generate>(leader.inbound[0]).key;
  router.reset();
  // What the engine goes on to say must not reach the router that comes later.
  for (int i = 0; i < 100; ++i) leader.link().SendStep(StepWith(key, i, 1));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.Count<engine::RouterLost>() == 1; }));
  EXPECT_EQ(std::get<engine::RouterLost>(leader.inbound[1]).router, key.router);

  RecordingListener after;
  auto again = OpenRouter(after, RouterOptions(endpoint));
  ASSERT_TRUE(after.WaitUntil([&] { return after.ups.size() == 1; }));
  EXPECT_NE(again->nonce(), key.router);
  again->Send(after.ups[0].id, Request(1));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.Count<engine::Generate>() == 2; }));
  leader.link().SendStep(
      StepWith(std::get<engine::Generate>(leader.inbound.back()).key, 0, 1, /*last=*/true));
  ASSERT_TRUE(after.WaitUntil([&] { return !after.tokens.empty(); }));
  EXPECT_EQ(after.tokens.size(), 1u);
  EXPECT_EQ(again->stats().unknown_sequence, 0u);
}

TEST(Link, ARouterRestartedUnseenSendsReset) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  const std::string endpoint = router->endpoint();
  FakeLeader leader(LeaderOptionsFor(endpoint));  // would wait a minute before calling it lost
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(leader, 1);
  router.reset();
  RecordingListener after;
  auto again = OpenRouter(after, RouterOptions(endpoint));
  // A leader reports again and again: those that the old socket took with it are lost, the first
  // that comes through a new one is of a session the new router does not know.
  ASSERT_TRUE(leader.DrainUntil([&] {
    leader.link().SendStep(testing::EmptyStep());
    return leader.Count<engine::RouterLost>() == 1;
  }));
  ASSERT_TRUE(after.WaitUntil([&] { return after.ups.size() == 1; }));
  EXPECT_GT(again->stats().wrong_session, 0u);
}

TEST(Link, RefusesAnotherModelUntilItFits) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  auto options = LeaderOptionsFor(router->endpoint());
  options.self.fingerprint = "another";
  FakeLeader leader(options);
  WaitForRefusals(*router, 2);  // it asks again
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.ups.empty(); }));
  const std::string endpoint = router->endpoint();
  router.reset();
  auto fitting = RouterOptions(endpoint);
  fitting.models = {{"tiny", "another"}};
  auto again = OpenRouter(listener, fitting);
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
}

TEST(Link, TakesTheGroupsOfEachModelAndNoOther) {
  RecordingListener listener;
  auto options = RouterOptions();
  options.models = {{"tiny", "fp"}, {"other", "fp2"}};
  auto router = OpenRouter(listener, options);
  auto unknown = LeaderOptionsFor(router->endpoint(), "g2");
  unknown.self.model = "third";
  FakeLeader third(unknown);
  const auto patience = std::chrono::steady_clock::now() + testing::kPatience;
  while (router->stats().hellos_refused == 0 && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  EXPECT_GE(router->stats().hellos_refused, 1u);
  FakeLeader tiny(LeaderOptionsFor(router->endpoint(), "g0"));
  auto other_options = LeaderOptionsFor(router->endpoint(), "g1");
  other_options.self.model = "other";
  other_options.self.fingerprint = "fp2";
  FakeLeader other(other_options);
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 2; }));
}

TEST(Link, ARouterThatDoesNotReadLosesItsSessionAndNoOther) {
  RecordingListener slow, quick;
  std::atomic<bool> held{true};
  slow.on_step = [&] {
    while (held) std::this_thread::yield();
  };
  auto options = RouterOptions();
  options.credits = 4;
  auto slow_router = OpenRouter(slow, options);
  auto quick_router = OpenRouter(quick);
  auto leader_options = LeaderOptionsFor(slow_router->endpoint());
  leader_options.endpoints.push_back(quick_router->endpoint());
  leader_options.max_backlog_items = 50;
  FakeLeader leader(leader_options);
  ASSERT_TRUE(slow.WaitUntil([&] { return slow.ups.size() == 1; }));
  ASSERT_TRUE(quick.WaitUntil([&] { return quick.ups.size() == 1; }));
  WaitForSessions(leader, 2);
  slow_router->Send(slow.ups[0].id, Request(1));
  quick_router->Send(quick.ups[0].id, Request(1));
  ASSERT_TRUE(leader.DrainUntil([&] { return leader.Count<engine::Generate>() == 2; }));
  int sent = 0;
  while (leader.Count<engine::RouterLost>() == 0 && sent < 100'000) {
    for (const Nonce nonce : {slow_router->nonce(), quick_router->nonce()}) {
      leader.link().SendStep(StepWith({nonce, 1, 0, 0}, sent, 1));
    }
    ++sent;
    // Never further ahead of the quick router than it reads.
    ASSERT_TRUE(quick.WaitUntil([&] { return std::ssize(quick.tokens) == sent; }));
    leader.link().Drain(leader.inbound);
  }
  ASSERT_EQ(leader.Count<engine::RouterLost>(), 1);
  EXPECT_EQ(std::get<engine::RouterLost>(leader.inbound.back()).router, slow_router->nonce());
  EXPECT_GT(leader.link().stats().coalesced, 0u);
  EXPECT_TRUE(quick.losses.empty());
  held = false;
  // It comes back as a new session.
  EXPECT_TRUE(slow.WaitUntil([&] { return slow.ups.size() == 2 && slow.losses.size() == 1; }));
}

TEST(Link, ALivingGroupKeepsItsNameAndADeadOneGivesItAtOnce) {
  RecordingListener listener;
  auto options = RouterOptions();
  options.ping_interval = 60 * kSecond;  // so that it is the newcomer who finds out
  auto router = OpenRouter(listener, options);
  auto first = std::make_unique<FakeLeader>(LeaderOptionsFor(router->endpoint(), "g0", 1));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  WaitForSessions(*first, 1);
  FakeLeader bystander(LeaderOptionsFor(router->endpoint(), "g1", 5));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 2; }));
  WaitForSessions(bystander, 1);
  FakeLeader second(LeaderOptionsFor(router->endpoint(), "g0", 2));
  WaitForRefusals(*router, 3);  // it asks again
  // The first one was not disturbed.
  router->Send(listener.ups[0].id, Request(1));
  ASSERT_TRUE(first->DrainUntil([&] { return first->inbound.size() == 1; }));
  EXPECT_EQ(first->link().stats().sessions_failed, 0u);
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 2; }));

  first.reset();
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 3; }));
  ASSERT_EQ(listener.losses.size(), 1u);
  EXPECT_EQ(listener.losses[0].first, listener.ups[0].id);
  EXPECT_EQ(listener.ups[2].incarnation, 2u);
  EXPECT_NE(listener.ups[2].id, listener.ups[0].id);
}

TEST(Link, ASilentGroupGivesItsNameAway) {
  RecordingListener listener;
  auto options = RouterOptions();
  options.ping_interval = 60 * kSecond;
  options.silence_slack = 100 * kMillisecond;
  auto router = OpenRouter(listener, options);
  auto leader_options = LeaderOptionsFor(router->endpoint(), "g0", 1);
  leader_options.self.watchdog = 100 * kMillisecond;
  leader_options.hello_interval = 600 * kSecond;  // it does not come back in turn
  FakeLeader first(leader_options);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  FakeLeader second(LeaderOptionsFor(router->endpoint(), "g0", 2));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 2; }));
  EXPECT_EQ(listener.ups[1].incarnation, 2u);
  EXPECT_NE(listener.losses[0].second.find("no step was reported"), std::string::npos);
}

TEST(Link, AGroupThatDialsOneRouterTwiceHasOneSession) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  auto options = LeaderOptionsFor(router->endpoint());
  options.endpoints.push_back(router->endpoint());
  FakeLeader leader(options);
  WaitForRefusals(*router, 3);
  EXPECT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
  EXPECT_TRUE(listener.losses.empty());
}

TEST(Link, ALeaderThatGoesIsNoticedAndGoodbyeSaysWhy) {
  RecordingListener listener;
  auto router = OpenRouter(listener);
  {
    FakeLeader leader(LeaderOptionsFor(router->endpoint()));
    ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 1; }));
    WaitForSessions(leader, 1);
  }
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 1; }));
  EXPECT_NE(listener.losses[0].second.find("closed"), std::string::npos);

  FakeLeader leader(LeaderOptionsFor(router->endpoint(), "g0", 2));
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.ups.size() == 2; }));
  WaitForSessions(leader, 1);
  leader.link().StartDraining();
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.draining.size() == 1; }));
  leader.link().Goodbye("rank 1 has ended", kSecond);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 2; }));
  EXPECT_EQ(listener.losses[1].second, "rank 1 has ended");
}

TEST(Link, SilenceBeyondItsOwnWordLosesAGroup) {
  RecordingListener listener;
  auto options = RouterOptions();
  options.silence_slack = 100 * kMillisecond;
  auto router = OpenRouter(listener, options);
  auto leader_options = LeaderOptionsFor(router->endpoint());
  leader_options.self.watchdog = 100 * kMillisecond;
  FakeLeader leader(leader_options);
  ASSERT_TRUE(listener.WaitUntil([&] { return listener.losses.size() == 1; }));
  EXPECT_NE(listener.losses[0].second.find("no step was reported"), std::string::npos);
}

}  // namespace
}  // namespace tandem
