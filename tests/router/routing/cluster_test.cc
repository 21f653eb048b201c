// The dispatcher before a few groups that run, in virtual time (group_model.h).
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "tests/router/routing/group_model.h"

namespace tandem::routing {
namespace {

using testing::Arrival;
using testing::Cluster;
using testing::Outcome;
using testing::UniquePrompt;

TEST(Cluster, PredictionsComeTrueInASteadyCluster) {
  Cluster cluster({}, {}, "ttft", 3);
  std::mt19937_64 rng(3);
  std::vector<Arrival> arrivals;
  for (int i = 0; i < 1000; ++i) {
    const int length = static_cast<int>(50 + rng() % 1500);
    arrivals.push_back({.at = i * 20 * kMillisecond,
                        .client = 1,
                        .prompt = UniquePrompt(length, rng()),
                        .max_tokens = 20});
  }
  const std::vector<Outcome> outcomes = cluster.Run(arrivals);
  for (const Outcome& o : outcomes) ASSERT_GE(o.ended, 0);
  const PredictionError& error = cluster.dispatcher().prediction_error();
  EXPECT_GE(error.count(), 990) << "all but those that were sent before the first report";
  EXPECT_NEAR(error.Quantile(0.5), 1, 0.1);
  EXPECT_LT(error.Quantile(0.95), 1.5);
  EXPECT_GT(error.Quantile(0.05), 0.6);
}

// The requests of those who do not flood.
struct Others {
  int num_clients = 0;
  Nanos interval = 0;             // between two requests of any of them
  int shortest = 0, longest = 0;  // prompts
};

// Time to first token of each client's requests that came within the flood, or would have.
std::map<uint64_t, std::vector<Nanos>> TtftsDuringFlood(bool flood, const Others& others,
                                                        uint64_t seed) {
  constexpr Nanos kBegin = 5 * kSecond, kEnd = 15 * kSecond;
  DispatcherOptions options;
  options.max_queued = 100'000;
  Cluster cluster({}, options, "ttft", seed);
  std::mt19937_64 rng(seed);
  std::uniform_int_distribution<int> length(others.shortest, others.longest);
  std::vector<Arrival> arrivals;
  for (Nanos at = 0; at < 17 * kSecond; at += others.interval) {
    arrivals.push_back({.at = at,
                        .client = 1 + rng() % static_cast<uint64_t>(others.num_clients),
                        .prompt = UniquePrompt(length(rng), rng()),
                        .max_tokens = 10});
  }
  // Three times all that the groups could do.
  for (Nanos at = kBegin; flood && at < kEnd; at += 4 * kMillisecond) {
    arrivals.push_back(
        {.at = at, .client = 99, .prompt = UniquePrompt(800, rng()), .max_tokens = 10});
  }
  const std::vector<Outcome> outcomes = cluster.Run(arrivals);
  cluster.dispatcher().CheckInvariants();
  EXPECT_EQ(cluster.dispatcher().ledger().num_in_flight(), 0);
  std::map<uint64_t, std::vector<Nanos>> ttfts;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_GE(outcomes[i].ended, 0) << i;
    const Nanos at = arrivals[i].at;
    const uint64_t who = arrivals[i].client == 99 ? 99 : 0;  // the others together
    if (at >= kBegin && at < kEnd) ttfts[who].push_back(outcomes[i].ttft);
  }
  return ttfts;
}

// A client that floods waits for itself; the others' requests come through as before. At 70 % of
// what the groups do, with long prompts and with shorter ones, and at 35 %, with short ones too.
TEST(Cluster, AFloodOfOneClientDoesNotDelayOthers) {
  for (const Others& others :
       {Others{10, 44 * kMillisecond, 200, 4000}, Others{10, 22 * kMillisecond, 100, 2000},
        Others{1, 88 * kMillisecond, 200, 4000}, Others{10, 11 * kMillisecond, 50, 500}}) {
    const auto before = TtftsDuringFlood(false, others, 5);
    const auto during = TtftsDuringFlood(true, others, 5);
    const Nanos was = testing::Quantile(before.at(0), 0.95);
    const Nanos is = testing::Quantile(during.at(0), 0.95);
    const Nanos flood = testing::Quantile(during.at(99), 0.5);
    std::printf(
        "%d clients, %d to %d tokens: p95 %.0f ms, %.0f ms with the flood, whose p50 is "
        "%.1f s\n",
        others.num_clients, others.shortest, others.longest,
        static_cast<double>(was) / kMillisecond, static_cast<double>(is) / kMillisecond,
        static_cast<double>(flood) / kSecond);
    EXPECT_LE(static_cast<double>(is), 1.5 * static_cast<double>(was))
        << others.num_clients << " clients: p95 " << was / kMillisecond << " ms, then "
        << is / kMillisecond << " ms";
    EXPECT_GT(flood, 3 * kSecond) << "the flood does wait";
  }
}

TEST(Cluster, NothingIsLostWhenGroupsAre) {
  Cluster cluster({}, {}, "ttft", 6);
  std::mt19937_64 rng(6);
  std::vector<Arrival> arrivals;
  for (int i = 0; i < 500; ++i) {
    arrivals.push_back({.at = i * 30 * kMillisecond,
                        .client = rng() % 3,
                        .prompt = UniquePrompt(static_cast<int>(50 + rng() % 1000), rng() % 50),
                        .max_tokens = 20});
  }
  cluster.LoseAt(3 * kSecond, GroupId{1});
  cluster.LoseAt(6 * kSecond, GroupId{2});
  for (const Outcome& o : cluster.Run(arrivals)) EXPECT_GE(o.ended, 0);
  EXPECT_EQ(cluster.dispatcher().ledger().num_in_flight(), 0);
  cluster.dispatcher().CheckInvariants();
}

}  // namespace
}  // namespace tandem::routing
