#include "bench/load/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "bench/load/workload.h"

namespace tandem::load {
namespace {

using testing::ElementsAre;

std::vector<Ticket> TakeAll(Driver& driver, Nanos now) {
  std::vector<Ticket> tickets;
  while (const auto ticket = driver.Next(now)) tickets.push_back(*ticket);
  return tickets;
}

std::vector<int64_t> Conversations(const std::vector<Ticket>& tickets) {
  std::vector<int64_t> ids;
  for (const Ticket& ticket : tickets) ids.push_back(ticket.conversation);
  return ids;
}

TEST(Driver, ClosedLoopKeepsItsConcurrency) {
  DriverOptions options;
  options.concurrency = 3;
  options.num_requests = 5;
  Driver driver(options, kEndless, {});
  std::vector<Ticket> out = TakeAll(driver, 10);
  EXPECT_THAT(Conversations(out), ElementsAre(0, 1, 2));
  EXPECT_EQ(out[0].intended, 10);
  EXPECT_EQ(driver.NextAt(), Driver::kNever);
  driver.Done(out[1], false, 20);
  EXPECT_THAT(Conversations(TakeAll(driver, 25)), ElementsAre(3));
  driver.Done(out[0], false, 30);
  driver.Done(out[2], false, 30);
  EXPECT_THAT(Conversations(TakeAll(driver, 30)), ElementsAre(4));  // the fifth and last
  EXPECT_FALSE(driver.finished());
  driver.Done({3, 0, 25}, false, 40);
  driver.Done({4, 0, 30}, false, 40);
  EXPECT_TRUE(driver.finished());
}

TEST(Driver, ClosedLoopEndsWithItsDuration) {
  DriverOptions options;
  options.duration = 100;
  Driver driver(options, kEndless, {});
  const std::vector<Ticket> out = TakeAll(driver, 99);
  ASSERT_EQ(out.size(), 1u);
  driver.Done(out[0], false, 100);
  EXPECT_TRUE(TakeAll(driver, 100).empty());
  EXPECT_TRUE(driver.finished());
}

TEST(Driver, ATurnFollowsTheReplyAndHoldsItsPlace) {
  DriverOptions options;
  options.concurrency = 1;
  Driver driver(options, 2, {});
  const std::vector<Ticket> first = TakeAll(driver, 0);
  ASSERT_EQ(first.size(), 1u);
  driver.Done(first[0], true, 7);
  EXPECT_EQ(driver.NextAt(), 7);
  const std::vector<Ticket> second = TakeAll(driver, 9);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].conversation, 0);
  EXPECT_EQ(second[0].turn, 1);
  EXPECT_EQ(second[0].intended, 7);
  driver.Done(second[0], false, 12);
  EXPECT_THAT(Conversations(TakeAll(driver, 12)), ElementsAre(1));
}

TEST(Driver, OpenLoopNeverWaitsForAnswers) {
  DriverOptions options;
  options.mode = Mode::kOpen;
  options.rate = 10;
  options.burstiness = std::numeric_limits<double>::infinity();
  options.num_requests = 5;
  Driver driver(options, kEndless, {});
  EXPECT_TRUE(TakeAll(driver, 0).empty());
  EXPECT_EQ(driver.NextAt(), kSecond / 10);
  const std::vector<Ticket> out = TakeAll(driver, kSecond);  // late: all that were due
  ASSERT_EQ(out.size(), 5u);
  for (size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out[i].intended, static_cast<Nanos>(i + 1) * kSecond / 10);
  }
}

TEST(Driver, WhatWaitsForAPlaceStaysDueSinceItsTime) {
  DriverOptions options;
  options.mode = Mode::kReplay;
  options.max_outstanding = 1;
  options.rate_scale = 2;
  Driver driver(options, 3, {0, 20, 40});
  const std::vector<Ticket> first = TakeAll(driver, 1000);
  EXPECT_THAT(Conversations(first), ElementsAre(0));
  EXPECT_EQ(driver.NextAt(), Driver::kNever);
  driver.Done(first[0], false, 2000);
  const std::vector<Ticket> second = TakeAll(driver, 2000);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].intended, 10);  // 20 at twice the speed
  driver.Done(second[0], false, 2001);
  EXPECT_EQ(TakeAll(driver, 2001)[0].intended, 20);
  driver.Done({2, 0, 20}, false, 2002);
  EXPECT_TRUE(driver.finished());
}

TEST(Driver, OpenLoopEndsWithItsDuration) {
  DriverOptions options;
  options.mode = Mode::kReplay;
  options.duration = 30;
  Driver driver(options, 3, {0, 29, 30});
  EXPECT_EQ(TakeAll(driver, 1000).size(), 2u);
  driver.Done({0, 0, 0}, true, 30);  // its next turn would be due too late
  EXPECT_FALSE(driver.finished());
  driver.Done({1, 0, 29}, false, 31);
  EXPECT_TRUE(driver.finished());
}

TEST(Driver, StopLeavesOnlyWhatIsOut) {
  DriverOptions options;
  options.concurrency = 2;
  Driver driver(options, kEndless, {});
  TakeAll(driver, 0);
  driver.Done({0, 0, 0}, true, 1);
  driver.Stop();
  EXPECT_TRUE(TakeAll(driver, 2).empty());
  EXPECT_EQ(driver.NextAt(), Driver::kNever);
  EXPECT_FALSE(driver.finished());
  driver.Done({1, 0, 0}, true, 3);
  EXPECT_TRUE(driver.finished());
}

// Random ends in random order: no turn twice, none before its reply, all of them in the end.
TEST(Driver, EveryTurnGoesOutOnceInOrder) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
    constexpr int kConversations = 40, kTurns = 3;
    DriverOptions options;
    options.mode = static_cast<Mode>(seed % 3);
    options.concurrency = 1 + below(8);
    if (options.mode != Mode::kClosed) options.max_outstanding = 1 + below(8);
    options.rate = 1e8;
    options.seed = seed;
    std::vector<Nanos> times(kConversations);
    for (Nanos& time : times) time = below(500);
    std::sort(times.begin(), times.end());
    Driver driver(options, kConversations,
                  options.mode == Mode::kReplay ? times : std::vector<Nanos>());
    std::vector<Ticket> out;
    std::vector<int64_t> next_turn(kConversations);
    Nanos now = 0;
    while (!driver.finished()) {
      for (const Ticket& ticket : TakeAll(driver, now)) {
        EXPECT_LE(ticket.intended, now);
        EXPECT_EQ(ticket.turn, next_turn[static_cast<size_t>(ticket.conversation)]++);
        out.push_back(ticket);
      }
      const auto most =
          options.mode == Mode::kClosed ? options.concurrency : options.max_outstanding;
      ASSERT_LE(static_cast<int64_t>(out.size()), most);
      ASSERT_EQ(static_cast<int64_t>(out.size()), driver.num_outstanding());
      if (out.empty()) {
        ASSERT_NE(driver.NextAt(), Driver::kNever);
        now = std::max(now, driver.NextAt());
        continue;
      }
      const size_t one = static_cast<size_t>(below(static_cast<int>(out.size())));
      now += below(20);
      driver.Done(out[one], out[one].turn + 1 < kTurns, now);
      out.erase(out.begin() + static_cast<ptrdiff_t>(one));
    }
    for (const int64_t turns : next_turn) EXPECT_EQ(turns, kTurns);
    EXPECT_EQ(driver.num_issued(), kConversations * kTurns);
  }
}

}  // namespace
}  // namespace tandem::load
