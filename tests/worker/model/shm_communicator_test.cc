#include "kernels/comm/shm_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>

#include "kernels/comm/local_communicator.h"
#include "tests/support/spawn_ranks.h"

namespace tandem::kernels {
namespace {

using tandem::testing::CommRegion;
using tandem::testing::SpawnRanks;
using ::testing::HasSubstr;

// What rank r contributes: numbers whose float sum depends on the order of adding.
std::vector<float> Contribution(int rank, size_t n) {
  std::mt19937 rng(1000 + rank);
  std::uniform_real_distribution<float> value(-1, 1);
  std::vector<float> v(n);
  for (float& x : v) x = value(rng) * (rank % 2 == 0 ? 1e4f : 1e-3f);
  return v;
}

std::vector<float> SumInRankOrder(int size, size_t n) {
  std::vector<float> sum = Contribution(0, n);
  for (int r = 1; r < size; ++r) {
    const std::vector<float> v = Contribution(r, n);
    for (size_t i = 0; i < n; ++i) sum[i] += v[i];
  }
  return sum;
}

// Sizes below and above the slot (4 KB here) and the switch to summing in parts.
TEST(ShmCommunicator, SumsInRankOrderAtAnySize) {
  for (const int size : {1, 2, 3, 4}) {
    for (const size_t slot : {4096, 256 << 10}) {
      for (const size_t n : {1, 3, 576, 1024, 1025, 5000, 40000}) {
        const std::vector<float> expected = SumInRankOrder(size, n);
        SpawnRanks(
            size,
            [&](Communicator& comm) {
              for (int repeat = 0; repeat < 3; ++repeat) {
                std::vector<float> v = Contribution(comm.rank(), n);
                comm.AllReduceSum(v);
                EXPECT_EQ(v, expected) << size << " ranks, " << n << " floats";
              }
              EXPECT_TRUE(comm.Poll().ok());
            },
            slot);
      }
    }
  }
}

TEST(ShmCommunicator, GathersUnequalPartsInRankOrder) {
  const std::vector<size_t> sizes = {5, 0, 10'001};
  SpawnRanks(
      3,
      [&](Communicator& comm) {
        const std::vector<std::byte> in(sizes[comm.rank()], std::byte(comm.rank() + 1));
        std::vector<std::byte> out(10'006), expected(10'006, std::byte{3});
        std::fill_n(expected.begin(), 5, std::byte{1});
        for (int repeat = 0; repeat < 5; ++repeat) {
          std::fill(out.begin(), out.end(), std::byte{0});
          comm.AllGather(in, sizes, out);
          EXPECT_EQ(out, expected);
        }
        EXPECT_TRUE(comm.Poll().ok());
      },
      1024);
}

TEST(ShmCommunicator, BroadcastsFromAnyRoot) {
  SpawnRanks(
      3,
      [&](Communicator& comm) {
        for (int root = 0; root < 3; ++root) {
          std::vector<std::byte> data(3000, std::byte(comm.rank()));
          comm.Broadcast(data, root);
          EXPECT_EQ(data, std::vector<std::byte>(3000, std::byte(root)));
        }
      },
      1024);
}

TEST(ShmCommunicator, BarrierHoldsUntilAllAreThere) {
  std::atomic<int> arrived{0};
  SpawnRanks(4, [&](Communicator& comm) {
    for (int round = 1; round <= 200; ++round) {
      arrived.fetch_add(1);
      comm.Barrier();
      EXPECT_GE(arrived.load(), 4 * round);
      comm.Barrier();
    }
  });
}

// Random mixes of all collectives; any slot taken too early would show as a wrong sum.
TEST(ShmCommunicator, MixedCollectivesStayInStep) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  SpawnRanks(
      3,
      [&](Communicator& comm) {
        std::mt19937 rng(seed);
        for (int i = 0; i < 2000; ++i) {
          const unsigned op = rng() % 3;
          const size_t n = 1 + rng() % 700;
          if (op == 0) {
            std::vector<float> v(n, static_cast<float>(i + comm.rank()));
            comm.AllReduceSum(v);
            ASSERT_EQ(v, std::vector<float>(n, 3.0f * i + 3)) << i;
          } else if (op == 1) {
            const std::vector<int> in(n, i * 3 + comm.rank());
            std::vector<int> out(3 * n);
            const std::vector<size_t> sizes(3, n * sizeof(int));
            comm.AllGather(std::as_bytes(std::span(in)), sizes,
                           std::as_writable_bytes(std::span(out)));
            for (int r = 0; r < 3; ++r) ASSERT_EQ(out[r * n], i * 3 + r) << i;
          } else {
            comm.Barrier();
          }
        }
        EXPECT_TRUE(comm.Poll().ok());
      },
      1024);
}

TEST(ShmCommunicator, DifferentOperationsEndTheGroupWithAMessage) {
  SpawnRanks(2, [&](Communicator& comm) {
    std::vector<float> v(4);
    if (comm.rank() == 0) {
      comm.AllReduceSum(v);
    } else {
      comm.Barrier();
    }
    const Status status = comm.Poll();
    EXPECT_EQ(status.code(), StatusCode::kInternal);
    EXPECT_THAT(std::string(Message(status)), HasSubstr("collectives"));
    comm.AllReduceSum(v);  // returns at once
    EXPECT_EQ(comm.Poll(), status);
  });
}

TEST(ShmCommunicator, DifferentSizesEndTheGroupWithAMessage) {
  SpawnRanks(3, [&](Communicator& comm) {
    std::vector<float> v(comm.rank() == 2 ? 8 : 4);
    comm.AllReduceSum(v);
    EXPECT_FALSE(comm.Poll().ok());
  });
  SpawnRanks(2, [&](Communicator& comm) {
    // The same bytes in all, but not the same parts.
    const std::vector<size_t> said =
        comm.rank() == 0 ? std::vector<size_t>{4, 8} : std::vector<size_t>{8, 4};
    const std::vector<std::byte> in(said[comm.rank()]);
    std::vector<std::byte> out(12);
    comm.AllGather(in, said, out);
    EXPECT_FALSE(comm.Poll().ok());
  });
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
  for (auto& comm : comms) {
    EXPECT_EQ(std::string(Message(comm->Poll())), "rank 2 aborted the group");
  }
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
