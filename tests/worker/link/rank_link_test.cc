#include "worker/link/rank_link.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "tests/support/fork_rank.h"
#include "tests/support/group_in_a_folder.h"

namespace tandem::link {
namespace {

using testing::ForkedRank;
using testing::kSmallLimits;
using testing::RankOptions;
using testing::ShardWith;
using testing::TakePlans;
using testing::TempFolder;

// Ranks in a folder of the test's own, that share memory or talk over TCP. A process whose group is
// on TCP has a thread from Open on, so all forking comes first.
class Ranks : public ::testing::TestWithParam<bool> {
 protected:
  bool tcp() const { return GetParam(); }
  RankLinkOptions Options(int rank, int tp) const {
    return RankOptions(folder_.path(), rank, tp, port_);
  }
  std::unique_ptr<RankLink> OpenLeader(int tp) const {
    auto leader = RankLink::Open(Options(0, tp));
    TANDEM_CHECK(leader.ok()) << Message(leader.status());
    return std::move(leader).value();
  }
  void CompleteWithAnother(int signal);

  TempFolder folder_;
  const int port_ = tcp() ? testing::FreePort() : 0;
};

INSTANTIATE_TEST_SUITE_P(, Ranks, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "Tcp" : "Unix"; });

// Waits for `peer` to be seen gone.
::testing::AssertionResult SeenGone(RankLink& leader, int peer) {
  const int gone = leader.PollPeers(60 * kSecond, -1);
  if (gone == peer) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "saw " << gone;
}

TEST_P(Ranks, RanksMeetAndTakeTheSamePlansInOrder) {
  std::vector<ForkedRank> ranks;
  for (int r = 1; r < 3; ++r) {
    ranks.emplace_back([&] { return TakePlans(Options(r, 3)); });
  }
  auto leader = OpenLeader(3);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  if (!tcp()) {
    EXPECT_EQ(leader->name_of(1), fmt::format("process {}", ranks[0].pid()));
  }
  const auto blocks = leader->Agree(ShardWith(200), kSmallLimits);
  ASSERT_TRUE(blocks.ok()) << Message(blocks.status());
  EXPECT_EQ(*blocks, 101);

  PlanRing& ring = leader->ring();
  for (uint64_t step = 1; step <= 1000; ++step) {
    StepPlan plan;
    plan.step = step;
    const std::vector<TokenId> tokens(step % 17, static_cast<TokenId>(step));
    std::vector<PlanRow> rows(step % 5);
    for (PlanRow& row : rows) row.slot = static_cast<int32_t>(tokens.size());
    plan.rows = rows;
    plan.tokens = tokens;
    ASSERT_TRUE(leader->Publish(plan, kSecond));
    StepPlan own;
    ASSERT_EQ(ring.WaitNext(0, own), PlanRing::Next::kPlan);
    ring.Done(0);
  }
  ring.Shutdown();
  for (ForkedRank& rank : ranks) EXPECT_EQ(rank.Wait(), 0);
}

TEST_P(Ranks, ARankThatDoesNotFitIsRefusedAndTheOthersGoOn) {
  auto wrong_build = Options(1, 2);
  wrong_build.build = "test-2";
  auto wrong_tp = Options(1, 3);
  auto wrong_settings = Options(1, 2);
  wrong_settings.settings = "int8/bf16";
  std::vector<ForkedRank> refused;
  for (const auto& options : {wrong_build, wrong_tp, wrong_settings}) {
    refused.emplace_back([&] { return TakePlans(options); });
  }
  int go[2];
  ASSERT_EQ(::pipe(go), 0);
  ForkedRank fits([&] {
    char byte;
    return ::read(go[0], &byte, 1) == 1 ? TakePlans(Options(1, 2)) : 9;
  });
  auto leader = OpenLeader(2);
  std::thread waits([&] { EXPECT_TRUE(leader->WaitForRanks().ok()); });
  for (ForkedRank& rank : refused) EXPECT_EQ(rank.Wait(), 2);
  EXPECT_EQ(::write(go[1], "x", 1), 1);
  waits.join();
  ::close(go[0]);
  ::close(go[1]);
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  leader->ring().Shutdown();
  EXPECT_EQ(fits.Wait(), 0);
}

TEST_P(Ranks, ShardsOfDifferentModelsAreRefused) {
  ForkedRank rank([&] { return TakePlans(Options(1, 2)); });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  const auto agreed = leader->Agree({"another", "reference", 1}, kSmallLimits);
  ASSERT_EQ(agreed.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(agreed.status()).find("rank 1 has loaded another model"),
            std::string_view::npos);
  EXPECT_EQ(rank.Wait(), 2);
}

TEST_P(Ranks, AKilledRankIsSeenAtOnce) {
  ForkedRank rank([&] { return TakePlans(Options(1, 2)); });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  EXPECT_EQ(leader->PollPeers(0, -1), -1);
  rank.Signal(SIGKILL);
  EXPECT_TRUE(SeenGone(*leader, 1));
  EXPECT_TRUE(leader->LivePeers().empty());
  EXPECT_EQ(rank.Wait(), -SIGKILL);
}

TEST_P(Ranks, ARankThatDiesWhileLoadingEndsTheAgreement) {
  ForkedRank rank([&] {
    auto link = RankLink::Open(Options(1, 2));
    return link.ok() ? 9 : 1;  // joined, and gone
  });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  EXPECT_EQ(rank.Wait(), 9);
  EXPECT_EQ(leader->Agree(ShardWith(1), kSmallLimits).status().code(), StatusCode::kUnavailable);
}

// Joins and says so through a pipe, then does `rest`.
ForkedRank JoinedRank(const RankLinkOptions& options, int joined,
                      const std::function<int()>& rest) {
  return ForkedRank([&] {
    auto link = RankLink::Open(options);
    if (!link.ok()) return 1;
    (void)!::write(joined, "x", 1);
    return rest();
  });
}

// A group of three whose rank 1 joins and then is no longer what it was; another rank 1 and rank 2
// complete it. A process of another machine is not killed, only cut off.
void Ranks::CompleteWithAnother(int signal) {
  int joined[2], go[2], again[2];
  for (int* ends : {joined, go, again}) ASSERT_EQ(::pipe(ends), 0);
  ForkedRank first = JoinedRank(Options(1, 3), joined[1], [] {
    for (;;) ::pause();
    return 0;
  });
  ForkedRank another([&] {
    char byte;
    if (::read(go[0], &byte, 1) != 1) return 9;
    auto link = RankLink::Open(Options(1, 3));
    while (link.status().code() == StatusCode::kUnavailable) {  // the first is still there
      link = RankLink::Open(Options(1, 3));
    }
    if (!link.ok() || ::write(again[1], "x", 1) != 1) return 9;
    return TakePlans(**link);
  });
  ForkedRank last([&] {
    char byte;
    return ::read(again[0], &byte, 1) == 1 ? TakePlans(Options(2, 3)) : 9;
  });
  auto options = Options(0, 3);
  options.silence_limit = 300 * kMillisecond;
  auto leader = RankLink::Open(options);
  ASSERT_TRUE(leader.ok()) << Message(leader.status());
  std::thread waits([&] { EXPECT_TRUE((*leader)->WaitForRanks().ok()); });
  char byte;
  EXPECT_EQ(::read(joined[0], &byte, 1), 1);
  first.Signal(signal);
  if (!tcp() || signal == SIGKILL) {
    EXPECT_EQ(first.Wait(), -SIGKILL);
  }
  EXPECT_EQ(::write(go[1], "x", 1), 1);
  waits.join();
  EXPECT_TRUE((*leader)->Agree(ShardWith(1), kSmallLimits).ok());
  (*leader)->ring().Shutdown();
  EXPECT_EQ(another.Wait(), 0);
  EXPECT_EQ(last.Wait(), 0);
  for (int* ends : {joined, go, again}) {
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_P(Ranks, ARankThatDiesBeforeTheGroupIsCompleteIsReplaced) { CompleteWithAnother(SIGKILL); }
TEST_P(Ranks, ARankThatStandsStillBeforeTheGroupIsCompleteIsReplaced) {
  CompleteWithAnother(SIGSTOP);
}

TEST_P(Ranks, AddressesReachEveryRank) {
  const auto exchange = [](RankLink& link) {
    const auto all = link.ExchangeAddresses(std::string(1 + link.rank(), 'a'));
    return all.ok() && *all == std::vector<std::string>{"a", "aa", "aaa"};
  };
  std::vector<ForkedRank> ranks;
  for (int r = 1; r < 3; ++r) {
    ranks.emplace_back([&, r] {
      auto link = RankLink::Open(Options(r, 3));
      return link.ok() && exchange(**link) ? 0 : 1;
    });
  }
  auto leader = OpenLeader(3);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  EXPECT_TRUE(exchange(*leader));
  for (ForkedRank& rank : ranks) EXPECT_EQ(rank.Wait(), 0);
  EXPECT_EQ(leader->address(), tcp() ? "127.0.0.1" : "");
}

// The watchdog does not take a rank that waits for one that stands still while it loads.
TEST_P(Ranks, WhoeverMeetsWaitsForAllAndSaysSo) {
  int go[2];
  ASSERT_EQ(::pipe(go), 0);
  ForkedRank rank([&] {
    auto link = RankLink::Open(Options(1, 2));
    char any;
    return link.ok() && ::read(go[0], &any, 1) == 1 && (*link)->Meet().ok() ? 0 : 1;
  });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  EXPECT_FALSE(leader->waits_for_ranks());
  std::thread other([&] {
    while (!leader->waits_for_ranks()) std::this_thread::yield();
    EXPECT_EQ(::write(go[1], "x", 1), 1);
  });
  EXPECT_TRUE(leader->Meet().ok());
  other.join();
  EXPECT_FALSE(leader->waits_for_ranks());
  EXPECT_EQ(rank.Wait(), 0);
  ::close(go[0]);
  ::close(go[1]);
}

TEST_P(Ranks, ARankThatDiesEndsTheMeeting) {
  ForkedRank rank([&] {
    auto link = RankLink::Open(Options(1, 2));
    return link.ok() ? 9 : 1;  // joined, and gone
  });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  EXPECT_EQ(leader->Meet().code(), StatusCode::kUnavailable);
  EXPECT_EQ(rank.Wait(), 9);
}

TEST_P(Ranks, ADrainThatARankAsksForReachesTheLeader) {
  ForkedRank rank([&] {
    auto link = RankLink::Open(Options(1, 2));
    if (!link.ok() || !(*link)->Agree(ShardWith(1), {}).ok()) return 1;
    (*link)->ring().RequestDrain();
    StepPlan plan;
    return (*link)->ring().WaitNext(1, plan) == PlanRing::Next::kShutdown ? 0 : 1;
  });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  while (!leader->ring().drain_requested()) std::this_thread::yield();
  leader->ring().Shutdown();
  EXPECT_EQ(rank.Wait(), 0);
}

// Takes plans until there are no more; `on_plan` is called with each.
PlanRing::Next TakeAll(PlanRing& ring, int rank, const std::function<void()>& on_plan) {
  StepPlan plan;
  for (;;) {
    const PlanRing::Next next = ring.WaitNext(rank, plan);
    if (next != PlanRing::Next::kPlan) return next;
    on_plan();
    ring.Done(rank);
  }
}

TEST_P(Ranks, AnAbortOfAnyRankReachesAll) {
  std::vector<ForkedRank> ranks;
  for (int r = 1; r < 3; ++r) {
    ranks.emplace_back([&, r] {
      auto link = RankLink::Open(Options(r, 3));
      if (!link.ok() || !(*link)->Agree(ShardWith(1), {}).ok()) return 1;
      PlanRing& ring = (*link)->ring();
      const auto end = TakeAll(ring, r, [&] {
        if (r == 2) ring.Abort();
      });
      return end == PlanRing::Next::kAborted ? 0 : 2;
    });
  }
  auto leader = OpenLeader(3);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  ASSERT_TRUE(leader->Publish(StepPlan{}, kSecond));
  EXPECT_EQ(TakeAll(leader->ring(), 0, [] {}), PlanRing::Next::kAborted);
  for (ForkedRank& rank : ranks) EXPECT_EQ(rank.Wait(), 0);
}

TEST_P(Ranks, ASecondProcessForARankIsRefusedAndMayTryAgain) {
  ForkedRank rank([&] { return TakePlans(Options(1, 2)); });
  int go[2];
  ASSERT_EQ(::pipe(go), 0);
  ForkedRank second([&] {
    char byte;
    if (::read(go[0], &byte, 1) != 1) return 9;
    const auto link = RankLink::Open(Options(1, 2));
    const bool clear = Message(link.status()).find("rank 1 is there already") != std::string::npos;
    return link.status().code() == StatusCode::kUnavailable && clear ? 7 : 8;
  });
  auto leader = OpenLeader(2);
  ASSERT_TRUE(leader->WaitForRanks().ok());
  EXPECT_EQ(::write(go[1], "x", 1), 1);
  std::atomic<bool> stop{false};
  std::thread watches([&] {
    while (!stop) EXPECT_EQ(leader->PollPeers(5 * kMillisecond, -1), -1);
  });
  EXPECT_EQ(second.Wait(), 7);
  stop = true;
  watches.join();
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  leader->ring().Shutdown();
  EXPECT_EQ(rank.Wait(), 0);
  ::close(go[0]);
  ::close(go[1]);
}

TEST_P(Ranks, ALeaderThatDoesNotAnswerIsNotWaitedForForever) {
  ForkedRank rank([&] {
    auto options = Options(1, 2);
    options.answer_limit = 300 * kMillisecond;
    return RankLink::Open(options).status().code() == StatusCode::kUnavailable ? 7 : 8;
  });
  auto leader = OpenLeader(2);
  EXPECT_EQ(rank.Wait(), 7);
}

TEST_P(Ranks, ALeaderReplacesWhatADeadOneLeftButNotALivingOne) {
  const std::string socket = folder_.path() + "/run/g0.sock";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  ForkedRank first([&] {
    auto leader = RankLink::Open(Options(0, 1));
    (void)!::write(ready[1], "x", 1);
    for (;;) ::pause();
    return 0;
  });
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  const auto second = RankLink::Open(Options(0, 1));
  ASSERT_EQ(second.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(Message(second.status()).find("has a leader on this machine already"),
            std::string_view::npos);
  first.Signal(SIGKILL);
  first.Wait();
  EXPECT_TRUE(std::filesystem::exists(socket));
  {
    const auto third = RankLink::Open(Options(0, 1));
    EXPECT_TRUE(third.ok()) << Message(third.status());
  }
  EXPECT_FALSE(std::filesystem::exists(socket));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_P(Ranks, WaitingEndsWhenToldTo) {
  const UniqueFd stop(::eventfd(1, EFD_CLOEXEC));
  auto options = Options(1, 2);
  options.stop_fd = stop.get();
  EXPECT_EQ(RankLink::Open(options).status().code(), StatusCode::kCancelled);
  options.rank = 0;
  auto leader = RankLink::Open(options);
  ASSERT_TRUE(leader.ok());
  EXPECT_EQ((*leader)->WaitForRanks().code(), StatusCode::kCancelled);
}

TEST(RankLink, AFolderThatOthersCanWriteIsRefused) {
  TempFolder folder;
  auto options = RankOptions(folder.path(), 0, 1);
  std::filesystem::create_directory(options.runtime_dir);
  std::filesystem::permissions(options.runtime_dir, std::filesystem::perms::all);
  EXPECT_EQ(RankLink::Open(options).status().code(), StatusCode::kInvalidArgument);
  options.runtime_dir = folder.path() + "/" + std::string(120, 'x');
  EXPECT_EQ(RankLink::Open(options).status().code(), StatusCode::kInvalidArgument);
}

TEST(PlanRing, AbortWakesWhoeverWaits) {
  TempFolder folder;
  auto leader = std::move(RankLink::Open(RankOptions(folder.path(), 0, 1))).value();
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  PlanRing& ring = leader->ring();
  std::thread model([&] {
    StepPlan plan;
    EXPECT_EQ(ring.WaitNext(0, plan), PlanRing::Next::kAborted);
  });
  ring.Abort();
  model.join();
  // Nobody takes the plans, so a slot would be used again.
  EXPECT_FALSE(ring.Publish(StepPlan{}, kSecond));
}

TEST(PlanRing, PublishWaitsForTheSlowestRank) {
  TempFolder folder;
  auto leader = std::move(RankLink::Open(RankOptions(folder.path(), 0, 1))).value();
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  PlanRing& ring = leader->ring();
  std::thread engine([&] {
    for (uint64_t step = 1; step <= 100; ++step) {
      StepPlan plan;
      plan.step = step;
      ASSERT_TRUE(ring.Publish(plan, kSecond));
    }
    ring.Shutdown();
  });
  uint64_t taken = 0;
  StepPlan plan;
  while (ring.WaitNext(0, plan) == PlanRing::Next::kPlan) {
    EXPECT_EQ(plan.step, ++taken);
    EXPECT_LE(ring.num_published() - ring.num_done(0), uint32_t{PlanRing::kSlots});
    ring.Done(0);
  }
  EXPECT_EQ(taken, 100u);  // those published before the shutdown are run
  engine.join();
}

}  // namespace
}  // namespace tandem::link
