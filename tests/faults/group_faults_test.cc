// The worker program itself, two ranks of it over a tiny model, before a router made of the real
// link: what happens when a process is killed, stopped or told to stop.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "common/clock.h"
#include "tests/support/fork_rank.h"
#include "tests/support/link_pair.h"
#include "tests/support/tiny_model.h"

namespace tandem {
namespace {

using testing::RecordingListener;
using testing::TempFolder;

constexpr int kGroupLost = 75;

// A process of tandem-worker. Its log goes to this test's stderr.
class Worker {
 public:
  Worker(const std::string& config, int rank) {
    const std::string number = std::to_string(rank);
    pid_ = ::fork();
    TANDEM_CHECK(pid_ >= 0) << "fork";
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::execl(TANDEM_WORKER, TANDEM_WORKER, "--config", config.c_str(), "--group", "g0", "--rank",
            number.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ~Worker() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Worker(Worker&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  void Signal(int signal) { ::kill(pid_, signal); }
  // Exit code, or -signal.
  int Wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  int pid_ = -1;
};

class GroupFaults : public ::testing::Test {
 protected:
  GroupFaults() {
    link::GroupLinkOptions options;
    options.endpoint = "tcp://127.0.0.1:*";
    router_ = std::make_unique<testing::RunningLink>(options, listener_);
    testing::WriteTinyModel(folder_.path() + "/tiny.gguf", {.max_context = 2048});
    config_ = folder_.path() + "/cluster.yaml";
    std::ofstream(config_) << "model:\n  name: tiny\n  path: tiny.gguf\n"
                           << "groups:\n  - name: g0\n    tp: 2\n    kv_memory: 8MiB\n"
                           << "    max_seqs: 8\n    min_watchdog: 2s\n"
                           << "    activation_dtype: f32\n    kv_cache_dtype: f32\n"
                           << "links:\n  routers: ['" << router_->endpoint() << "']\n"
                           << "  runtime_dir: " << folder_.path() << "/run\n";
    for (int rank = 0; rank < 2; ++rank) workers_.emplace_back(config_, rank);
    TANDEM_CHECK(listener_.WaitUntil([&] { return !listener_.ups.empty(); })) << "no group";
    group_ = listener_.ups[0].id;
  }

  void Generate(RequestId request, int max_tokens) {
    routing::GenerateRequest generate;
    generate.request = request;
    generate.prompt = {10, 20, 30, 40};
    generate.max_tokens = max_tokens;
    router_->Send(group_, generate);
  }
  bool HasTokens(RequestId request) {
    return listener_.WaitUntil([&] {
      for (const auto& [group, sequence] : listener_.tokens) {
        if (sequence.request == request && !sequence.tokens.empty()) return true;
      }
      return false;
    });
  }
  // Waits for the loss; its reason.
  std::string Loss() {
    TANDEM_CHECK(listener_.WaitUntil([&] { return !listener_.losses.empty(); })) << "no loss";
    return listener_.losses[0].second;
  }

  TempFolder folder_;
  RecordingListener listener_;
  std::unique_ptr<testing::RunningLink> router_;
  std::string config_;
  std::vector<Worker> workers_;
  GroupId group_;
};

TEST_F(GroupFaults, GeneratesAndEndsOrderlyWhenARankIsToldToStop) {
  Generate(1, 20);
  ASSERT_TRUE(listener_.WaitUntil([&] {
    return !listener_.tokens.empty() &&
           listener_.tokens.back().second.finish == routing::FinishReason::kLength;
  }));
  size_t count = 0;
  for (const auto& [group, sequence] : listener_.tokens) count += sequence.tokens.size();
  EXPECT_EQ(count, 20u);
  workers_[1].Signal(SIGTERM);
  EXPECT_EQ(Loss(), "the group was told to stop");
  EXPECT_EQ(listener_.draining.size(), 1u);
  for (Worker& worker : workers_) EXPECT_EQ(worker.Wait(), 0);
}

TEST_F(GroupFaults, CancelledSequencesAreFreed) {
  constexpr size_t kSequences = 8;
  for (RequestId i = 1; i <= kSequences; ++i) Generate(i, 1500);
  ASSERT_TRUE(HasTokens(1));
  for (RequestId i = 1; i <= kSequences; ++i) router_->Cancel(group_, i, 0, 0);
  size_t cancelled = 0;
  ASSERT_TRUE(listener_.WaitUntil([&] {
    size_t ended = cancelled = 0;
    for (const auto& [group, sequence] : listener_.tokens) {
      ended += sequence.finish != routing::FinishReason::kNone ? 1 : 0;
      cancelled += sequence.finish == routing::FinishReason::kCancelled ? 1 : 0;
    }
    return ended == kSequences;
  }));
  EXPECT_GT(cancelled, 0u);  // a quick machine may have finished some
  EXPECT_TRUE(listener_.WaitUntil([&] {
    const routing::GroupLoad& load = listener_.last_load;
    return load.num_running == 0 && load.free_blocks == load.total_blocks;
  }));
}

TEST_F(GroupFaults, AKilledRankIsToldAtOnceAndAllExitAlike) {
  Generate(1, 1500);
  ASSERT_TRUE(HasTokens(1));
  const Nanos start = MonotonicNow();
  workers_[1].Signal(SIGKILL);
  EXPECT_NE(Loss().find("rank 1"), std::string::npos) << Loss();
  EXPECT_LT(MonotonicNow() - start, 2 * kSecond);
  EXPECT_EQ(workers_[0].Wait(), kGroupLost);
  EXPECT_EQ(workers_[1].Wait(), -SIGKILL);
}

TEST_F(GroupFaults, AKilledLeaderIsNoticedAndItsRanksExit) {
  Generate(1, 1500);
  ASSERT_TRUE(HasTokens(1));
  const Nanos start = MonotonicNow();
  workers_[0].Signal(SIGKILL);
  Loss();
  EXPECT_LT(MonotonicNow() - start, 2 * kSecond);
  EXPECT_EQ(workers_[1].Wait(), kGroupLost);
}

TEST_F(GroupFaults, AStoppedRankIsNamedWithinTheWatchdogsLimit) {
  Generate(1, 1500);
  ASSERT_TRUE(HasTokens(1));
  const Nanos start = MonotonicNow();
  workers_[1].Signal(SIGSTOP);
  EXPECT_NE(Loss().find("rank 1"), std::string::npos) << Loss();
  EXPECT_LT(MonotonicNow() - start, 10 * kSecond);  // the limit is 2 s
  EXPECT_EQ(workers_[0].Wait(), kGroupLost);
  EXPECT_EQ(workers_[1].Wait(), -SIGKILL);
}

TEST_F(GroupFaults, AStoppedLeaderIsKilledByItsRanks) {
  const Nanos start = MonotonicNow();
  workers_[0].Signal(SIGSTOP);  // idle: its no-op steps stop
  Loss();
  EXPECT_LT(MonotonicNow() - start, 10 * kSecond);
  EXPECT_EQ(workers_[1].Wait(), kGroupLost);
  EXPECT_EQ(workers_[0].Wait(), -SIGKILL);
}

TEST_F(GroupFaults, ASecondProcessForARankIsRefusedAndTheGroupGoesOn) {
  Worker second(config_, 1);
  EXPECT_EQ(second.Wait(), kGroupLost);
  Generate(1, 5);
  EXPECT_TRUE(HasTokens(1));
  EXPECT_TRUE(listener_.losses.empty());
}

TEST_F(GroupFaults, AGroupThatComesBackIsANewOne) {
  workers_[1].Signal(SIGKILL);
  Loss();
  EXPECT_EQ(workers_[0].Wait(), kGroupLost);
  workers_.clear();
  for (int rank = 0; rank < 2; ++rank) workers_.emplace_back(config_, rank);
  ASSERT_TRUE(listener_.WaitUntil([&] { return listener_.ups.size() == 2; }));
  EXPECT_NE(listener_.ups[1].incarnation, listener_.ups[0].incarnation);
  group_ = listener_.ups[1].id;
  Generate(2, 5);
  EXPECT_TRUE(HasTokens(2));
}

}  // namespace
}  // namespace tandem
