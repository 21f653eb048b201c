#include "worker/watchdog.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include "common/mutex.h"
#include "tests/support/fork_rank.h"
#include "tests/support/group_in_a_folder.h"

namespace tandem::worker {
namespace {

using testing::ForkedRank;
using testing::kSmallLimits;
using testing::RankOptions;
using testing::ShardWith;
using testing::TakePlans;
using testing::TempFolder;

// Why the group was lost, once the watchdog says so.
class Verdict {
 public:
  WatchdogOptions Options(Nanos idle_limit) {
    WatchdogOptions options;
    options.idle_limit = idle_limit;
    options.tick = 5 * kMillisecond;
    options.on_lost = [this](const std::string& reason) {
      MutexLock lock(mutex_);
      reason_ = reason;
      changed_.NotifyAll();
    };
    return options;
  }
  std::function<void()> OnSignal() {
    return [this] {
      MutexLock lock(mutex_);
      ++signals_;
      changed_.NotifyAll();
    };
  }
  std::string Wait() {
    MutexLock lock(mutex_);
    while (reason_.empty()) changed_.Wait(mutex_);
    return reason_;
  }
  void WaitForSignal() {
    MutexLock lock(mutex_);
    while (signals_ == 0) changed_.Wait(mutex_);
  }
  std::string now() {
    MutexLock lock(mutex_);
    return reason_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::string reason_ TANDEM_GUARDED_BY(mutex_);
  int signals_ TANDEM_GUARDED_BY(mutex_) = 0;
};

struct Pair {
  TempFolder folder;
  const int port;  // 0: they share memory
  ForkedRank rank{[this] { return TakePlans(RankOptions(folder.path(), 1, 2, port)); }};
  std::unique_ptr<link::RankLink> leader;
  uint64_t step = 0;

  explicit Pair(int port = 0) : port(port) {
    leader = std::move(link::RankLink::Open(RankOptions(folder.path(), 0, 2, port))).value();
    TANDEM_CHECK(leader->WaitForRanks().ok());
    TANDEM_CHECK(leader->Agree(ShardWith(1), kSmallLimits).ok());
  }
  link::PlanRing& ring() { return leader->ring(); }
  void Publish(Nanos limit) {
    StepPlan plan;
    plan.step = ++step;
    TANDEM_CHECK(leader->Publish(plan, limit));
  }
  // Rank 0's part of a step; waits for rank 1's.
  void RunStep(Nanos limit) {
    Publish(limit);
    StepPlan own;
    TANDEM_CHECK(ring().WaitNext(0, own) == link::PlanRing::Next::kPlan);
    ring().Done(0);
    while (ring().num_done(1) != ring().num_published()) std::this_thread::yield();
  }
};

TEST(Watchdog, AStoppedRankIsNamedAndKilled) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  for (int i = 0; i < 10; ++i) pair.RunStep(60 * kSecond);
  pair.rank.Signal(SIGSTOP);
  const int pid = pair.rank.pid();
  pair.Publish(300 * kMillisecond);
  StepPlan own;
  ASSERT_EQ(pair.ring().WaitNext(0, own), link::PlanRing::Next::kPlan);
  EXPECT_NE(verdict.Wait().find(fmt::format("rank 1 (process {}) did not finish a step", pid)),
            std::string::npos)
      << verdict.now();
  EXPECT_EQ(pair.rank.Wait(), -SIGKILL);
}

// Nothing of it can be heard, as if the link were cut, and the connection knows nothing of it.
TEST(Watchdog, ARankOfAnotherHostThatIsSilentIsNamedAndCutOff) {
  Pair pair(testing::FreePort());
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  for (int i = 0; i < 10; ++i) pair.RunStep(60 * kSecond);
  pair.rank.Signal(SIGSTOP);
  pair.Publish(300 * kMillisecond);
  StepPlan own;
  ASSERT_EQ(pair.ring().WaitNext(0, own), link::PlanRing::Next::kPlan);
  pair.ring().Done(0);
  EXPECT_NE(verdict.Wait().find("rank 1 (127.0.0.1:"), std::string::npos) << verdict.now();
  EXPECT_NE(verdict.now().find("did not finish a step"), std::string::npos) << verdict.now();
  EXPECT_EQ(pair.leader->PollPeers(60 * kSecond, -1), 1);
}

TEST(Watchdog, ActsWhenItsShareOfALimitIsOver) {
  Pair pair;
  Verdict verdict;
  WatchdogOptions options = verdict.Options(60 * kSecond);
  options.share = 0.01;
  Watchdog watchdog(options, *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.RunStep(60 * kSecond);
  pair.rank.Signal(SIGSTOP);
  pair.Publish(50 * kSecond);
  const std::string reason = verdict.Wait();
  const std::string before = "did not finish a step within ";
  const size_t at = reason.find(before);
  ASSERT_NE(at, std::string::npos) << reason;
  const int waited_ms = std::stoi(reason.substr(at + before.size()));
  EXPECT_GE(waited_ms, 500);
  EXPECT_LT(waited_ms, 50'000);
}

TEST(Watchdog, AKilledRankIsNamed) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.RunStep(60 * kSecond);
  pair.rank.Signal(SIGKILL);
  EXPECT_NE(verdict.Wait().find("rank 1"), std::string::npos);
}

TEST(Watchdog, AnEngineThatPlansNothingIsNoticed) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(300 * kMillisecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.RunStep(60 * kSecond);
  EXPECT_NE(verdict.Wait().find("planned no step"), std::string::npos);
}

TEST(Watchdog, AnOrderlyShutdownIsNoLoss) {
  Pair pair;
  Verdict verdict;
  {
    Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
    watchdog.WatchSteps(verdict.OnSignal());
    pair.RunStep(60 * kSecond);
    pair.ring().Shutdown();
    EXPECT_EQ(pair.rank.Wait(), 0);
  }
  EXPECT_EQ(verdict.now(), "");
}

TEST(Watchdog, AShutdownWhoseLastStepHangsEnds) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.RunStep(60 * kSecond);
  pair.rank.Signal(SIGSTOP);
  pair.Publish(300 * kMillisecond);
  pair.ring().Shutdown();
  EXPECT_NE(verdict.Wait().find("did not finish a step"), std::string::npos) << verdict.now();
  EXPECT_TRUE(pair.ring().aborted());
}

TEST(Watchdog, ARankThatDiesInAShutdownBeforeItsLastStepIsALoss) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.RunStep(60 * kSecond);
  pair.rank.Signal(SIGSTOP);
  pair.Publish(60 * kSecond);
  pair.ring().Shutdown();
  pair.rank.Signal(SIGKILL);
  EXPECT_NE(verdict.Wait().find("rank 1"), std::string::npos) << verdict.now();
}

TEST(Watchdog, AProcessThatDoesNotEndAfterAShutdownIsEnded) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(300 * kMillisecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.RunStep(60 * kSecond);
  pair.ring().Shutdown();
  EXPECT_EQ(pair.rank.Wait(), 0);
  EXPECT_NE(verdict.Wait().find("rank 0"), std::string::npos) << verdict.now();
  EXPECT_NE(verdict.now().find("did not end within"), std::string::npos) << verdict.now();
}

// A group whose rank 1 has joined and does not come to its first step.
struct Loading {
  TempFolder folder;
  ForkedRank rank{[this] {
    auto link = link::RankLink::Open(RankOptions(folder.path(), 1, 2));
    while (link.ok()) {
      (*link)->roll_call().Beat(1);
      ::usleep(1000);
    }
    return 1;
  }};
  std::unique_ptr<link::RankLink> leader;

  Loading() {
    leader = std::move(link::RankLink::Open(RankOptions(folder.path(), 0, 2))).value();
    TANDEM_CHECK(leader->WaitForRanks().ok());
  }
};

TEST(Watchdog, ARankStoppedWhileLoadingIsNamedAndKilled) {
  Loading group;
  Verdict verdict;
  WatchdogOptions options = verdict.Options(60 * kSecond);
  options.silence_limit = 300 * kMillisecond;
  Watchdog watchdog(options, *group.leader);
  const int pid = group.rank.pid();
  group.rank.Signal(SIGSTOP);
  EXPECT_NE(verdict.Wait().find(fmt::format("rank 1 (process {}) stands still", pid)),
            std::string::npos)
      << verdict.now();
  EXPECT_EQ(group.rank.Wait(), -SIGKILL);
}

TEST(Watchdog, ARankKilledWhileLoadingIsNamed) {
  Loading group;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *group.leader);
  group.rank.Signal(SIGKILL);
  EXPECT_NE(verdict.Wait().find("rank 1"), std::string::npos);
}

TEST(Watchdog, AProcessThatDoesNothingWhileLoadingIsEnded) {
  Loading group;
  Verdict verdict;
  WatchdogOptions options = verdict.Options(60 * kSecond);
  options.stall_limit = 300 * kMillisecond;
  Watchdog watchdog(options, *group.leader);
  EXPECT_NE(verdict.Wait().find("rank 0"), std::string::npos);
  EXPECT_NE(verdict.now().find("did nothing for"), std::string::npos) << verdict.now();
}

TEST(Watchdog, ASignalWhileLoadingDoesNotWaitForItsEnd) {
  Loading group;
  Verdict verdict;
  WatchdogOptions options = verdict.Options(60 * kSecond);
  const link::UniqueFd signals(::eventfd(0, EFD_CLOEXEC));
  options.signal_fd = signals.get();
  options.on_stopped_loading = verdict.OnSignal();
  Watchdog watchdog(options, *group.leader);
  ASSERT_EQ(::eventfd_write(signals.get(), 1), 0);
  verdict.WaitForSignal();
  EXPECT_EQ(verdict.now(), "");
}

TEST(Watchdog, ADrainAskedForByAnyRankReachesTheLeader) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  pair.ring().RequestDrain();
  verdict.WaitForSignal();
}

TEST(Watchdog, AReportEndsTheGroupWithItsReason) {
  Pair pair;
  Verdict verdict;
  Watchdog watchdog(verdict.Options(60 * kSecond), *pair.leader);
  watchdog.WatchSteps(verdict.OnSignal());
  watchdog.Report("collectives differ");
  EXPECT_EQ(verdict.Wait(), "collectives differ");
}

}  // namespace
}  // namespace tandem::worker
