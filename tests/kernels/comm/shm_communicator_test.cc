#include "kernels/comm/shm_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "kernels/comm/local_communicator.h"
#include "tests/support/spawn_ranks.h"

namespace tandem::kernels {
namespace {

using tandem::testing::CommRegion;
using ::testing::AnyOf;

TEST(ShmCommunicator, OneRankAloneIsItsOwnSum) {
  tandem::testing::SpawnRanks(
      1,
      [](Communicator& comm) {
        const std::vector<float> before(5000, 0.1f);
        std::vector<float> v = before;
        comm.AllReduceSum(v);
        comm.Barrier();
        EXPECT_EQ(v, before);
        EXPECT_TRUE(comm.Poll().ok());
      },
      1024);
}

TEST(ShmCommunicator, AbortFreesWaitingRanksAndStays) {
  CommRegion region(3, 1024);
  std::vector<std::unique_ptr<ShmCommunicator>> comms;
  for (int r = 0; r < 3; ++r) comms.push_back(*ShmCommunicator::Attach(region.span(), r, 3));
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&comm = *comms[r]] {
      std::vector<float> v(10);
      comm.AllReduceSum(v);  // rank 2 never comes
      EXPECT_EQ(comm.Poll().code(), StatusCode::kUnavailable);
    });
  }
  comms[2]->Abort();
  for (auto& thread : threads) thread.join();
  comms[2]->Abort();
  comms[0]->Barrier();
  // A rank that had to wait for the other of the two names it.
  const std::string said = "rank 2 aborted the group";
  const auto message = [&](int rank) { return std::string(Message(comms[rank]->Poll())); };
  EXPECT_THAT(message(0), AnyOf(said, said + "; rank 1 had not come"));
  EXPECT_THAT(message(1), AnyOf(said, said + "; rank 0 had not come"));
  EXPECT_EQ(message(2), said);
}

// Rank 0 waits for rank 1, which never comes, until somebody aborts. An abort before it waits names
// nobody; then again, a little later.
TEST(ShmCommunicator, TheRankThatDidNotComeIsNamed) {
  std::string message = "rank 0 aborted the group";
  for (int yields = 0; message == "rank 0 aborted the group"; yields = 2 * yields + 1) {
    CommRegion region(2, 1024);
    const auto waiting = *ShmCommunicator::Attach(region.span(), 0, 2);
    std::thread thread([&] {
      waiting->Barrier();
      message = Message(waiting->Poll());
    });
    for (int i = 0; i < yields; ++i) std::this_thread::yield();
    waiting->Abort();
    thread.join();
  }
  EXPECT_EQ(message, "rank 0 aborted the group; rank 1 had not come");
}

TEST(ShmCommunicator, AttachRefusesAnotherGroupsMemory) {
  CommRegion region(2, 1024);
  EXPECT_EQ(ShmCommunicator::Attach(region.span(), 0, 3).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_FALSE(ShmCommunicator::Attach(region.span(), 2, 2).ok());
  EXPECT_FALSE(ShmCommunicator::Attach(region.span().first(512), 0, 2).ok());
  alignas(128) std::byte zeros[4096] = {};
  EXPECT_FALSE(ShmCommunicator::Attach(zeros, 0, 1).ok());
}

TEST(LocalCommunicator, CopiesAndRemembersAbort) {
  LocalCommunicator comm;
  const std::vector<std::byte> in(4, std::byte{7});
  std::vector<std::byte> out(4);
  const std::vector<size_t> sizes = {4};
  comm.AllGather(in, sizes, out);
  EXPECT_EQ(in, out);
  EXPECT_TRUE(comm.Poll().ok());
  comm.Abort();
  EXPECT_FALSE(comm.Poll().ok());
}

// Real processes: each does `rounds` all-reduces, then `then`; exits with 0 if all was right.
class ShmProcesses : public ::testing::Test {
 protected:
  static constexpr int kRanks = 3;

  void SetUp() override {
    bytes_ = ShmCommunicator::RequiredBytes(kRanks, 4096);
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    region_ = {static_cast<std::byte*>(memory), bytes_};
    ShmCommunicator::Format(region_, kRanks, 4096);
  }
  void TearDown() override { munmap(region_.data(), bytes_); }

  pid_t Fork(int rank, int rounds) {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    auto comm = std::move(ShmCommunicator::Attach(region_, rank, kRanks)).value();
    for (int i = 0; i < rounds && comm->Poll().ok(); ++i) {
      std::vector<float> v(100, static_cast<float>(i + rank));
      comm->AllReduceSum(v);
      if (comm->Poll().ok() && v[99] != 3.0f * i + 3) _exit(2);
    }
    _exit(comm->Poll().ok() ? 0 : 1);
  }
  static int Wait(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  size_t bytes_ = 0;
  std::span<std::byte> region_;
};

TEST_F(ShmProcesses, SumTogether) {
  std::vector<pid_t> pids;
  for (int r = 0; r < kRanks; ++r) pids.push_back(Fork(r, 2000));
  for (const pid_t pid : pids) EXPECT_EQ(Wait(pid), 0);
}

TEST_F(ShmProcesses, AbortFreesTheOthersWhenOneIsKilled) {
  std::vector<pid_t> pids;
  for (int r = 0; r < kRanks; ++r) pids.push_back(Fork(r, 1 << 30));
  kill(pids[1], SIGKILL);
  EXPECT_EQ(Wait(pids[1]), 128 + SIGKILL);
  auto watchdog = std::move(ShmCommunicator::Attach(region_, 1, kRanks)).value();
  watchdog->Abort();  // as the watchdog of any process would
  EXPECT_EQ(Wait(pids[0]), 1);
  EXPECT_EQ(Wait(pids[2]), 1);
}

}  // namespace
}  // namespace tandem::kernels
