#include <gtest/gtest.h>
#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/memory.h"
#include "tests/cuda_emulation/runtime_test_support.h"

namespace tandem::emulation {
namespace {

constexpr ncclDataType_t kF32 = ncclFloat32;

// One rank: its device, a stream and a communicator.
class Rank {
 public:
  Rank(const ncclUniqueId& id, int rank, int size, bool blocking = true) : rank_(rank) {
    EXPECT_CUDA(cudaSetDevice(rank));
    EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking ? 1 : 0;
    const ncclResult_t result = ncclCommInitRankConfig(&comm_, size, id, rank, &config);
    EXPECT_EQ(result, blocking ? ncclSuccess : ncclInProgress);
  }
  ~Rank() { EXPECT_CUDA(cudaStreamDestroy(stream_)); }

  int rank() const { return rank_; }
  ncclComm_t comm() const { return comm_; }
  cudaStream_t stream() const { return stream_; }

  // Device memory of `values`, never freed.
  float* Put(const std::vector<float>& values) const {
    auto* device = DeviceArray<float>(values.size());
    EXPECT_CUDA(cudaMemcpyAsync(device, values.data(), values.size() * sizeof(float),
                                cudaMemcpyHostToDevice, stream_));
    return device;
  }
  std::vector<float> Get(const float* device, size_t count) const {
    std::vector<float> values(count);
    EXPECT_CUDA(cudaMemcpyAsync(values.data(), device, count * sizeof(float),
                                cudaMemcpyDeviceToHost, stream_));
    return values;
  }

 private:
  const int rank_;
  cudaStream_t stream_ = nullptr;
  ncclComm_t comm_ = nullptr;
};

using RankFunction = std::function<void(int rank, const ncclUniqueId& id)>;

ncclUniqueId NewId() {
  ncclUniqueId id;
  EXPECT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  return id;
}

void RunThreads(int size, const RankFunction& function) {
  const ncclUniqueId id = NewId();
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) threads.emplace_back([&, r] { function(r, id); });
  for (std::thread& thread : threads) thread.join();
}

void RunProcesses(int size, const RankFunction& function) {
  const ncclUniqueId id = NewId();
  std::vector<pid_t> children;
  for (int r = 0; r < size; ++r) {
    const pid_t child = fork();
    if (child == 0) {
      function(r, id);
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

class NcclTest : public RuntimeTest {};

// Every operation once, with values that tell ranks apart.
void AllOperations(int index, const ncclUniqueId& id, int size) {
  const Rank rank(id, index, size);
  const auto own = static_cast<float>(index + 1);
  float* sum = rank.Put({own, 10 * own, 0.5f});
  ASSERT_EQ(ncclAllReduce(sum, sum, 3, kF32, ncclSum, rank.comm(), rank.stream()), ncclSuccess);
  const float all = static_cast<float>(size * (size + 1)) / 2;
  EXPECT_EQ(rank.Get(sum, 3), (std::vector<float>{all, 10 * all, 0.5f * static_cast<float>(size)}));

  float* gathered = rank.Put(std::vector<float>(size));
  ASSERT_EQ(ncclAllGather(rank.Put({own}), gathered, 1, kF32, rank.comm(), rank.stream()),
            ncclSuccess);
  std::vector<float> expected;
  for (int r = 0; r < size; ++r) expected.push_back(static_cast<float>(r + 1));
  EXPECT_EQ(rank.Get(gathered, size), expected);

  float* data = rank.Put({own});
  const int root = size - 1;
  ASSERT_EQ(ncclBroadcast(data, data, 1, kF32, root, rank.comm(), rank.stream()), ncclSuccess);
  EXPECT_EQ(rank.Get(data, 1)[0], static_cast<float>(size));

  float* out = rank.Put({0});
  ASSERT_EQ(ncclGroupStart(), ncclSuccess);
  ASSERT_EQ(ncclSend(rank.Put({own}), 1, kF32, (index + 1) % size, rank.comm(), rank.stream()),
            ncclSuccess);
  ASSERT_EQ(ncclRecv(out, 1, kF32, (index + size - 1) % size, rank.comm(), rank.stream()),
            ncclSuccess);
  ASSERT_EQ(ncclGroupEnd(), ncclSuccess);
  EXPECT_EQ(rank.Get(out, 1)[0], static_cast<float>((index + size - 1) % size + 1));
  EXPECT_EQ(ncclCommDestroy(rank.comm()), ncclSuccess);
}

TEST_F(NcclTest, OperationsBetweenThreads) {
  for (const int size : {1, 2, 3}) {
    RunThreads(size, [&](int r, const ncclUniqueId& id) { AllOperations(r, id, size); });
  }
}

TEST_F(NcclTest, OperationsBetweenForkedProcesses) {
  for (const int size : {2, 4}) {
    RunProcesses(size, [&](int r, const ncclUniqueId& id) { AllOperations(r, id, size); });
  }
}

TEST_F(NcclTest, SumsInRankOrderRoundedOnce) {
  // In float32, 1 + 2^-24 is 1: the order of the ranks is what decides.
  const float tiny = 0x1p-24f;
  RunThreads(3, [&](int r, const ncclUniqueId& id) {
    const Rank rank(id, r, 3);
    float* sum = rank.Put({r == 0 ? 1.0f : tiny, r == 2 ? 1.0f : tiny});
    EXPECT_EQ(ncclAllReduce(sum, sum, 2, kF32, ncclSum, rank.comm(), rank.stream()), ncclSuccess);
    EXPECT_EQ(rank.Get(sum, 2), (std::vector<float>{1.0f, 1.0f + 2 * tiny}));
  });
}

TEST_F(NcclTest, CapturedCollectivesRunInTheOrderOfTheCapture) {
  RunThreads(2, [](int r, const ncclUniqueId& id) {
    const Rank rank(id, r, 2);
    float* a = rank.Put({1});
    float* b = rank.Put({0});
    cudaStream_t other = nullptr;
    cudaEvent_t fork = nullptr;
    cudaEvent_t join = nullptr;
    ASSERT_CUDA(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    ASSERT_CUDA(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    ASSERT_CUDA(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    ASSERT_CUDA(cudaStreamBeginCapture(rank.stream(), cudaStreamCaptureModeThreadLocal));
    ASSERT_CUDA(cudaEventRecord(fork, rank.stream()));
    ASSERT_CUDA(cudaStreamWaitEvent(other, fork, 0));
    // Concurrent branches, but of one communicator, whose calls keep their order.
    ASSERT_EQ(ncclAllReduce(a, a, 1, kF32, ncclSum, rank.comm(), rank.stream()), ncclSuccess);
    ASSERT_EQ(ncclAllReduce(a, b, 1, kF32, ncclSum, rank.comm(), other), ncclSuccess);
    ASSERT_CUDA(cudaEventRecord(join, other));
    ASSERT_CUDA(cudaStreamWaitEvent(rank.stream(), join, 0));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    ASSERT_CUDA(cudaStreamEndCapture(rank.stream(), &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 3; ++i) {
      ASSERT_CUDA(cudaGraphLaunch(exec, rank.stream()));
      ASSERT_CUDA(cudaStreamSynchronize(rank.stream()));
    }
    EXPECT_EQ(rank.Get(a, 1)[0], 8);
    EXPECT_EQ(rank.Get(b, 1)[0], 16);
  });
}

TEST_F(NcclTest, NonBlockingRanksMustAskBeforeTheyGoOn) {
  RunThreads(2, [](int r, const ncclUniqueId& id) {
    const Rank rank(id, r, 2, false);
    ncclResult_t state = ncclInProgress;
    float* data = rank.Put({1});
    EXPECT_EQ(ncclAllReduce(data, data, 1, kF32, ncclSum, rank.comm(), rank.stream()),
              ncclInvalidArgument);  // not joined yet
    while (state == ncclInProgress) {
      ASSERT_EQ(ncclCommGetAsyncError(rank.comm(), &state), ncclSuccess);
    }
    ASSERT_EQ(state, ncclSuccess);
    int in_progress = 0;
    for (int i = 0; i < 20; ++i) {
      const ncclResult_t result =
          ncclAllReduce(data, data, 1, kF32, ncclSum, rank.comm(), rank.stream());
      if (result == ncclSuccess) continue;
      ASSERT_EQ(result, ncclInProgress);
      ++in_progress;
      EXPECT_EQ(ncclAllReduce(data, data, 1, kF32, ncclSum, rank.comm(), rank.stream()),
                ncclInvalidArgument);
      ASSERT_EQ(ncclCommGetAsyncError(rank.comm(), &state), ncclSuccess);
      ASSERT_EQ(state, ncclSuccess);
    }
    EXPECT_GT(in_progress, 2);
    EXPECT_EQ(rank.Get(data, 1)[0], 1 << 20);
  });
}

TEST_F(NcclTest, AbortFreesAStreamWhosePeerIsGone) {
  RunThreads(2, [](int r, const ncclUniqueId& id) {
    const Rank rank(id, r, 2);
    if (r == 1) return;  // takes no part
    float* data = rank.Put({1});
    ASSERT_EQ(ncclAllReduce(data, data, 1, kF32, ncclSum, rank.comm(), rank.stream()), ncclSuccess);
    std::thread aborter([&] { EXPECT_EQ(ncclCommAbort(rank.comm()), ncclSuccess); });
    EXPECT_CUDA(cudaStreamSynchronize(rank.stream()));
    aborter.join();
  });
}

TEST_F(NcclTest, TwoRanksOnOneDeviceAreRefused) {
  const ncclUniqueId id = NewId();
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      ncclComm_t comm = nullptr;
      refused += ncclCommInitRank(&comm, 2, id, r) == ncclInvalidUsage;
      EXPECT_NE(std::strstr(ncclGetLastError(comm), "Duplicate GPU"), nullptr);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused, 2);
}

TEST_F(NcclTest, HostMemoryAndStrangersAreRefused) {
  RunThreads(1, [](int r, const ncclUniqueId& id) {
    const Rank rank(id, r, 1);
    float host = 0;
    float* device = rank.Put({1});
    EXPECT_EQ(ncclAllReduce(&host, device, 1, kF32, ncclSum, rank.comm(), rank.stream()),
              ncclInvalidArgument);
    EXPECT_EQ(ncclAllReduce(device, device, 2, kF32, ncclSum, rank.comm(), rank.stream()),
              ncclInvalidArgument);
    EXPECT_EQ(ncclBroadcast(device, device, 1, kF32, 1, rank.comm(), rank.stream()),
              ncclInvalidArgument);
  });
  ncclUniqueId wrong = {};
  ncclComm_t comm = nullptr;
  EXPECT_EQ(ncclCommInitRank(&comm, 1, wrong, 0), ncclSystemError);
}

// Runs both ranks in a process of its own, which is expected to die of what the second does.
void TwoRanks(int collective_seconds, const std::function<void(const Rank&, float*)>& function) {
  Options options = GetOptions();
  options.collective_seconds = collective_seconds;
  SetOptions(options);
  RunThreads(2, [&](int r, const ncclUniqueId& id) {
    const Rank rank(id, r, 2);
    float* data = rank.Put({1, 2, 3, 4});
    function(rank, data);
    static_cast<void>(cudaStreamSynchronize(rank.stream()));
  });
}

using NcclDeathTest = NcclTest;

TEST_F(NcclDeathTest, DifferentCountsAreReportedWithBothSides) {
  EXPECT_DEATH(TwoRanks(60,
                        [](const Rank& rank, float* data) {
                          ncclAllReduce(data, data, 3 + rank.rank(), kF32, ncclSum, rank.comm(),
                                        rank.stream());
                        }),
               "NCCL: collective 1 differs between ranks: rank . is in all-reduce of . fp32, rank "
               ". in all-reduce of . fp32");
}

TEST_F(NcclDeathTest, DifferentOperationsAreReported) {
  EXPECT_DEATH(TwoRanks(60,
                        [](const Rank& rank, float* data) {
                          if (rank.rank() == 0) {
                            ncclBroadcast(data, data, 1, kF32, 0, rank.comm(), rank.stream());
                          } else {
                            ncclAllReduce(data, data, 1, ncclBfloat16, ncclSum, rank.comm(),
                                          rank.stream());
                          }
                        }),
               "rank . is in (broadcast of 1 fp32 from rank 0|all-reduce of 1 bf16), rank . in "
               "(broadcast of 1 fp32 from rank 0|all-reduce of 1 bf16)");
}

TEST_F(NcclDeathTest, AReceiverThatExpectsMoreIsReported) {
  EXPECT_DEATH(TwoRanks(60,
                        [](const Rank& rank, float* data) {
                          if (rank.rank() == 0) {
                            ncclSend(data, 3, kF32, 1, rank.comm(), rank.stream());
                          } else {
                            ncclRecv(data, 4, kF32, 0, rank.comm(), rank.stream());
                          }
                        }),
               "NCCL: rank 1 is in recv of 4 fp32 from rank 0, which is in send of 3 fp32");
}

TEST_F(NcclDeathTest, ASilentRankIsNamed) {
  EXPECT_DEATH(TwoRanks(1,
                        [](const Rank& rank, float* data) {
                          ncclAllReduce(data, data, 1, kF32, ncclSum, rank.comm(), rank.stream());
                          if (rank.rank() == 1) return;
                          ncclAllReduce(data, data, 4, kF32, ncclSum, rank.comm(), rank.stream());
                        }),
               "NCCL: rank 0 waits 1 s in all-reduce of 4 fp32 for rank 1, which began 1");
}

TEST_F(NcclDeathTest, FreedMemoryIsReported) {
  EXPECT_DEATH(TwoRanks(60,
                        [](const Rank& rank, float* data) {
                          static_cast<void>(cudaStreamSynchronize(rank.stream()));
                          // Without cudaFree, which would have waited.
                          ncclAllReduce(data, data, 4, kF32, ncclSum, rank.comm(), rank.stream());
                          FreeMemory(MemoryKind::kDevice, data);
                        }),
               "NCCL: rank .: the memory of all-reduce of 4 fp32 is freed or too small");
}

TEST_F(NcclDeathTest, DestroyedCommunicatorsAreReported) {
  EXPECT_DEATH(TwoRanks(60,
                        [](const Rank& rank, float* data) {
                          ncclCommDestroy(rank.comm());
                          ncclAllReduce(data, data, 4, kF32, ncclSum, rank.comm(), rank.stream());
                        }),
               "NCCL: use of a communicator that was destroyed");
}

}  // namespace
}  // namespace tandem::emulation
