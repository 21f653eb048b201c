// All-reduce over peer memory by 1 to 8 ranks: bitwise equal to a plain sum in rank order, call
// after call on the same exchange memory.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "tests/kernels/cuda/device_test_support.h"
#include "tests/kernels/cuda/rank_test_support.h"
#include "tests/kernels/kernel_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

using kernels::testing::Random;

constexpr float kEps = 1e-5f;

struct Call {
  int64_t rows, cols;
  AllReduceAlgorithm algorithm;
};
constexpr auto kOneShot = AllReduceAlgorithm::kOneShot;
constexpr auto kTwoShot = AllReduceAlgorithm::kTwoShot;

// What each rank contributes to call number `call`.
std::vector<float> Partial(ActivationType type, int64_t count, int call, int rank) {
  Random random(1000 * call + rank);
  return Rounded(type, random.Normals(count));
}

std::vector<uint16_t> Sum(ActivationType type, int64_t count, int call, int ranks) {
  std::vector<float> sum(count);
  for (int rank = 0; rank < ranks; ++rank) {
    const std::vector<float> partial = Partial(type, count, call, rank);
    for (int64_t i = 0; i < count; ++i) sum[i] += partial[i];
  }
  std::vector<uint16_t> bits;
  for (float value : sum) bits.push_back(ToActivation(type, value));
  return bits;
}

// All calls, one after the other without a stop between them.
void RunCalls(const Ranks& ranks, ActivationType type, const std::vector<Call>& calls) {
  ranks.Run([&](const PeerBuffers& peers) {
    const Stream stream;
    std::vector<std::unique_ptr<DeviceMatrix>> partials;
    for (size_t i = 0; i < calls.size(); ++i) {
      const int64_t count = calls[i].rows * calls[i].cols;
      partials.push_back(std::make_unique<DeviceMatrix>(
          stream, type, calls[i].rows, calls[i].cols,
          Partial(type, count, static_cast<int>(i), peers.rank), i % 2 * 8));
    }
    ranks.Meet();
    for (size_t i = 0; i < calls.size(); ++i) {
      AllReduce(partials[i]->view(), calls[i].algorithm, peers, stream);
    }
    for (size_t i = 0; i < calls.size(); ++i) {
      const int64_t count = calls[i].rows * calls[i].cols;
      EXPECT_EQ(partials[i]->ReadBits(), Sum(type, count, static_cast<int>(i), peers.size))
          << "call " << i << " of rank " << peers.rank << " of " << peers.size;
    }
  });
}

class CudaAllReduce : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const std::string why_not = WhyNoRanks(GetParam());
    if (!why_not.empty()) GTEST_SKIP() << why_not;
  }
};

TEST_P(CudaAllReduce, SumsInRankOrder) {
  const Ranks ranks(GetParam(), 1 << 15);
  for (ActivationType type : kTypes) {
    RunCalls(ranks, type,
             {{1, 8, kOneShot},
              {1, 8, kTwoShot},
              {3, 264, kTwoShot},
              {3, 264, kOneShot},
              {2, 4096, kOneShot},
              {2, 4096, kTwoShot},
              {0, 64, kOneShot},
              {5, 1032, kTwoShot}});
  }
}

// More than a grid of 32 blocks holds at once.
TEST(CudaAllReduceLarge, TakesSeveralRounds) {
  if (const std::string why_not = WhyNoRanks(2); !why_not.empty()) GTEST_SKIP() << why_not;
  if (kSanitized) GTEST_SKIP() << "more stacks than a sanitizer leaves maps for";
  const Ranks ranks(2, 150 * 1024);  // more ranks would need more stacks than a process may map
  RunCalls(ranks, ActivationType::kBf16,
           {{80, 1024, kOneShot}, {1, 1024, kOneShot}, {150, 1024, kTwoShot}, {2, 64, kTwoShot}});
}

// Grids of all sizes in turn: a call finds the flags and the copy of the exchange memory that the
// one before left, whichever blocks that had.
TEST_P(CudaAllReduce, ManyCallsOnOneMemory) {
  const Ranks ranks(GetParam(), 1 << 15);
  Random random(7);
  std::vector<Call> calls;
  for (int i = 0; i < (kSanitized ? 12 : 40); ++i) {
    calls.push_back(
        {random.Int(1, 24), 8 * random.Int(1, 170), random.Int(0, 1) == 0 ? kOneShot : kTwoShot});
  }
  RunCalls(ranks, ActivationType::kF16, calls);
}

// Counters near their end go on.
TEST_P(CudaAllReduce, CountersWrapAround) {
  const Ranks ranks(GetParam(), 1 << 12);
  ranks.Run([&](const PeerBuffers& peers) {
    const Stream stream;  // every word of the signals two calls before 2^32
    const std::vector<uint32_t> words(kAllReduceSignalBytes / 4, 0xfffffffeu);
    CheckCuda(cudaMemcpyAsync(peers.signals[peers.rank], words.data(), kAllReduceSignalBytes,
                              cudaMemcpyHostToDevice, stream));
    stream.Sync();
  });
  RunCalls(ranks, ActivationType::kBf16,
           {{1, 64, kOneShot}, {2, 64, kTwoShot}, {1, 64, kOneShot}, {3, 64, kTwoShot}});
}

// In one kernel the bits are those of AllReduce and AddRmsNorm.
TEST_P(CudaAllReduce, FusedEqualsTheTwo) {
  struct Shape {
    int64_t rows, cols;
  };
  const Ranks ranks(GetParam(), 1 << 17);
  for (ActivationType type : kTypes) {
    for (const Shape& shape : {Shape{1, 8}, {3, 264}, {1, 2048}, {130, 72}, {2, 8200}}) {
      if (kSanitized && shape.rows * shape.cols > 800) continue;
      ranks.Run([&](const PeerBuffers& peers) {
        const Stream stream;
        Random random(3);
        const std::vector<float> x_values = random.Normals(shape.rows * shape.cols);
        const std::vector<float> weight_values = random.Normals(shape.cols);
        const std::vector<float> partial_values =
            Partial(type, shape.rows * shape.cols, 1, peers.rank);
        const DeviceArray<float> weight(stream, weight_values);
        const DeviceArray<float> x(stream, x_values), x_fused(stream, x_values);
        const DeviceMatrix partial(stream, type, shape.rows, shape.cols, partial_values);
        const DeviceMatrix same(stream, type, shape.rows, shape.cols, partial_values, 8);
        const DeviceMatrix out(stream, type, shape.rows, shape.cols);
        const DeviceMatrix out_fused(stream, type, shape.rows, shape.cols, 16);
        ranks.Meet();
        AllReduceAddRmsNorm(out_fused.view(), x_fused.data(), same.view(), weight.data(), kEps,
                            peers, stream);
        AllReduce(partial.view(), kOneShot, peers, stream);
        AddRmsNorm(out.view(), x.data(), partial.view(), weight.data(), kEps, stream);
        EXPECT_EQ(out_fused.ReadBits(), out.ReadBits())
            << fmt::format("{} x {}, rank {}", shape.rows, shape.cols, peers.rank);
        EXPECT_EQ(x_fused.Read(), x.Read());
      });
    }
  }
}

// A word of memory that kernels see and the host writes.
class PinnedWord {
 public:
  PinnedWord() {
    CheckCuda(cudaMallocHost(reinterpret_cast<void**>(&word_), sizeof(*word_)));
    *word_ = 0;
  }
  ~PinnedWord() { CheckCuda(cudaFreeHost(word_)); }
  PinnedWord(const PinnedWord&) = delete;
  PinnedWord& operator=(const PinnedWord&) = delete;
  const uint32_t* get() const { return word_; }
  void Set() { std::atomic_ref(*word_).store(1); }

 private:
  uint32_t* word_ = nullptr;
};

// Until a kernel of a peer has left a flag in this rank's signals.
void WaitForAPeer(const PeerBuffers& peers) {
  const Stream stream;
  std::vector<uint32_t> words(kAllReduceSignalBytes / 4);
  while (std::all_of(words.begin(), words.end(), [](uint32_t word) { return word == 0; })) {
    CheckCuda(cudaMemcpyAsync(words.data(), peers.signals[peers.rank], kAllReduceSignalBytes,
                              cudaMemcpyDeviceToHost, stream));
    stream.Sync();
  }
}

// Rank 1 makes no call, and tells rank 0 to go on when that waits for it.
TEST(CudaAllReduceAbandoned, GoesOnWithoutTheOthers) {
  if (const std::string why_not = WhyNoRanks(2); !why_not.empty()) GTEST_SKIP() << why_not;
  for (const int kind : {0, 1, 2}) {
    const Ranks ranks(2, 1 << 12);
    PinnedWord abandoned;
    ranks.Run([&](PeerBuffers peers) {
      peers.abandoned = abandoned.get();
      const Stream stream;
      const std::vector<float> ones(128, 1.0f);
      const DeviceMatrix partial(stream, ActivationType::kBf16, 2, 64, ones);
      const DeviceMatrix out(stream, ActivationType::kBf16, 2, 64);
      const DeviceArray<float> x(stream, ones), weight(stream, ones);
      ranks.Meet();
      if (peers.rank == 1) {
        WaitForAPeer(peers);
        abandoned.Set();
      } else if (kind == 2) {
        AllReduceAddRmsNorm(out.view(), x.data(), partial.view(), weight.data(), kEps, peers,
                            stream);
      } else {
        AllReduce(partial.view(), kind == 0 ? kOneShot : kTwoShot, peers, stream);
      }
      stream.Sync();
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, CudaAllReduce, ::testing::Values(1, 2, 3, 4, 8));

}  // namespace
}  // namespace tandem::kernels::cuda::testing
