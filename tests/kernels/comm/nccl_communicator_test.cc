#include "kernels/comm/nccl_communicator.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "tests/support/spawn_ranks.h"

namespace tandem::kernels {
namespace {

using Element = NcclCommunicator::Element;
constexpr auto kLimit = std::chrono::seconds(60);

// One rank: a device with a stream and memory of `count` elements of two bytes or four.
class Rank {
 public:
  Rank(Communicator& link, size_t bytes) : link(link) {
    EXPECT_EQ(cudaSetDevice(link.rank()), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&memory, bytes), cudaSuccess);
    auto connected = NcclCommunicator::Connect(link, kLimit, [this] {
      if (before_abort) before_abort();
    });
    EXPECT_TRUE(connected.ok()) << Message(connected.status());
    if (connected.ok()) nccl = std::move(connected).value();
  }
  ~Rank() {
    nccl.reset();
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  }

  template <class T>
  void Put(const std::vector<T>& values, size_t at = 0) {
    EXPECT_EQ(cudaMemcpyAsync(static_cast<T*>(memory) + at, values.data(),
                              values.size() * sizeof(T), cudaMemcpyHostToDevice, stream),
              cudaSuccess);
  }
  template <class T>
  std::vector<T> Get(size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(
        cudaMemcpyAsync(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost, stream),
        cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return values;
  }

  Communicator& link;
  cudaStream_t stream = nullptr;
  void* memory = nullptr;
  std::function<void()> before_abort;
  std::unique_ptr<NcclCommunicator> nccl;
};

// `function` on n ranks with a GPU each; skips where there are fewer.
void OnRanks(int n, size_t bytes, const std::function<void(Rank&)>& function) {
  int devices = 0;
  ASSERT_EQ(cudaGetDeviceCount(&devices), cudaSuccess);
  if (devices < n) GTEST_SKIP() << n << " GPUs are needed, there are " << devices;
  testing::SpawnRanks(n, [&](Communicator& link) {
    Rank rank(link, bytes);
    if (rank.nccl != nullptr) function(rank);
  });
}

TEST(NcclCommunicator, SumsInPlace) {
  for (const int n : {1, 2, 4}) {
    for (const size_t count : {size_t{1}, size_t{127}, size_t{5000}}) {
      OnRanks(n, 4 * count, [&](Rank& rank) {
        std::vector<float> values(count);
        for (size_t i = 0; i < count; ++i) {
          values[i] = static_cast<float>(i % 17) * static_cast<float>(rank.link.rank() + 1);
        }
        rank.Put(values);
        rank.nccl->AllReduceSum(rank.memory, count, Element::kF32, rank.stream);
        const auto sums = rank.Get<float>(count);
        for (size_t i = 0; i < count; ++i) {
          ASSERT_EQ(sums[i], static_cast<float>(i % 17) * static_cast<float>(n * (n + 1) / 2));
        }
        EXPECT_TRUE(rank.nccl->Poll().ok());
      });
    }
  }
}

TEST(NcclCommunicator, SumsHalves) {
  OnRanks(2, 2 * 3, [](Rank& rank) {
    const std::vector<__nv_bfloat16> values(3, __float2bfloat16(1.5f));
    rank.Put(values);
    rank.nccl->AllReduceSum(rank.memory, 3, Element::kBf16, rank.stream);
    for (const __nv_bfloat16 sum : rank.Get<__nv_bfloat16>(3)) EXPECT_EQ(__bfloat162float(sum), 3);
  });
}

TEST(NcclCommunicator, GathersInRankOrderInPlace) {
  OnRanks(3, 4 * 6, [](Rank& rank) {
    const int r = rank.link.rank();
    rank.Put<float>({static_cast<float>(10 * r), static_cast<float>(10 * r + 1)},
                    2 * static_cast<size_t>(r));
    const void* own = static_cast<float*>(rank.memory) + 2 * r;
    rank.nccl->AllGather(own, rank.memory, 2, Element::kF32, rank.stream);
    EXPECT_EQ(rank.Get<float>(6), (std::vector<float>{0, 1, 10, 11, 20, 21}));
  });
}

TEST(NcclCommunicator, BroadcastsBytes) {
  OnRanks(2, 5, [](Rank& rank) {
    rank.Put(std::vector<char>(5, static_cast<char>('a' + rank.link.rank())));
    rank.nccl->Broadcast(rank.memory, 5, Element::kByte, 1, rank.stream);
    EXPECT_EQ(rank.Get<char>(5), std::vector<char>(5, 'b'));
  });
}

TEST(NcclCommunicator, AGraphCanHoldCollectives) {
  OnRanks(2, 4, [](Rank& rank) {
    rank.Put<float>({1});
    ASSERT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    ASSERT_EQ(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    rank.nccl->AllReduceSum(rank.memory, 1, Element::kF32, rank.stream);
    rank.nccl->AllReduceSum(rank.memory, 1, Element::kF32, rank.stream);
    ASSERT_EQ(cudaStreamEndCapture(rank.stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(exec, rank.stream), cudaSuccess);
    EXPECT_EQ(rank.Get<float>(1), std::vector<float>{64});
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  });
}

TEST(NcclCommunicator, AbortFreesTheStreamAndEndsTheGroup) {
  OnRanks(2, 4, [](Rank& rank) {
    if (rank.link.rank() == 1) {
      rank.nccl->Abort();
      rank.nccl->Abort();
    } else {
      rank.Put<float>({1});
      rank.nccl->AllReduceSum(rank.memory, 1, Element::kF32, rank.stream);
      std::thread aborter([&] { rank.nccl->Abort(); });
      EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
      aborter.join();
    }
    const Status status = rank.nccl->Poll();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_EQ(Message(status), fmt::format("NCCL: rank {} ended the group", rank.link.rank()));
    // Does nothing, and does not wait.
    rank.nccl->AllReduceSum(rank.memory, 1, Element::kF32, rank.stream);
    EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
  });
}

// As long as it is told, the stream waits for rank 1.
TEST(NcclCommunicator, WhatElseWaitsIsToldBeforeAnAbort) {
  OnRanks(2, 4, [](Rank& rank) {
    std::vector<cudaError_t> told;
    rank.before_abort = [&] { told.push_back(cudaStreamQuery(rank.stream)); };
    if (rank.link.rank() == 0) {
      rank.nccl->AllReduceSum(rank.memory, 1, Element::kF32, rank.stream);
      rank.nccl->Abort();
      EXPECT_EQ(told.empty() ? cudaSuccess : told.front(), cudaErrorNotReady);
      EXPECT_EQ(cudaStreamSynchronize(rank.stream), cudaSuccess);
    }
    rank.link.Barrier();
    rank.nccl->Abort();
    rank.before_abort = nullptr;
  });
}

// All ranks hear of the one that fails, in the same words.
TEST(NcclCommunicator, EveryRankHearsWhyTheyDoNotConnect) {
  int devices = 0;
  ASSERT_EQ(cudaGetDeviceCount(&devices), cudaSuccess);
  std::vector<Status> statuses(2);
  testing::SpawnRanks(2, [&](Communicator& link) {
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);  // both: NCCL refuses that
    statuses[link.rank()] = NcclCommunicator::Connect(link, kLimit).status();
  });
  EXPECT_EQ(statuses[0].code(), StatusCode::kUnavailable);
  EXPECT_EQ(statuses[0], statuses[1]);
  EXPECT_NE(Message(statuses[0]).find("NCCL does not connect the ranks; rank 0: "),
            std::string::npos)
      << Message(statuses[0]);
}

// A link on which one rank does not come to NCCL in time: it only plays its part in the talk.
TEST(NcclCommunicator, ConnectingHasALimit) {
  std::vector<Status> statuses(2);
  testing::SpawnRanks(2, [&](Communicator& link) {
    if (link.rank() == 0) {
      EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
      statuses[0] = NcclCommunicator::Connect(link, std::chrono::milliseconds(100)).status();
      return;
    }
    std::vector<std::byte> invitation(sizeof(int) + 128);
    link.Broadcast(invitation, 0);
    const std::string silent = "asleep";
    std::vector<std::byte> outcomes(400);
    const std::vector<size_t> sizes(2, 200);
    std::vector<std::byte> mine(200);
    std::memcpy(mine.data(), silent.data(), silent.size());
    link.AllGather(mine, sizes, outcomes);
  });
  EXPECT_EQ(statuses[0].code(), StatusCode::kUnavailable);
  EXPECT_NE(Message(statuses[0])
                .find("rank 0: NCCL: ncclCommInitRankConfig is not done after 100 ms; rank 1: "
                      "asleep"),
            std::string::npos)
      << Message(statuses[0]);
}

TEST(NcclCommunicator, ARankThatIsSilentIsNamed) {
  testing::SpawnRanks(2, [&](Communicator& link) {
    if (link.rank() == 1) return;
    EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
    const Status status = NcclCommunicator::Connect(link, std::chrono::milliseconds(200)).status();
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_EQ(Message(status), "rank 0 aborted the group; rank 1 had not come");
  });
}

}  // namespace
}  // namespace tandem::kernels
