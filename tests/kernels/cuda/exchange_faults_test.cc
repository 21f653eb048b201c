// What the waits and the two copies of exchange.cuh are for: kernels that do without one of them
// give a wrong sum when a rank is late. On the emulation alone: its prelude is on this file's
// command line.
#include "kernels/cuda/exchange.cuh"

#include <gtest/gtest.h>

#include <future>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "tests/kernels/cuda/rank_test_support.h"

namespace tandem::kernels::cuda::testing {
namespace {

constexpr int kThreads = 32;  // a pack of float32 each, of which one element is used

enum class Fault { kNone, kNoStartWait, kOneCopy, kNoWaitForShares };

struct Args {
  PeerBuffers peers;
  float own = 0;                // this rank's part is own + thread
  float* sum = nullptr;         // [kThreads]
  uint32_t* reached = nullptr;  // is set to `number` where this rank has come to a point
  uint32_t number = 0;
  const uint32_t* held_by = nullptr;  // nothing is read before this is `held_until`
  uint32_t held_until = 0;
};

__device__ void Reach(const Args& args) {
  __syncthreads();
  if (args.reached != nullptr && threadIdx.x == 0) StoreRelease(args.reached, args.number);
}
__device__ void Hold(const Args& args) {
  if (args.held_by == nullptr) return;
  while (LoadAcquire(args.held_by) < args.held_until) SpinPause();
}

template <Fault kFault>
__device__ float& Place(const Args& args, const Exchange& exchange, int rank) {
  if (kFault == Fault::kOneCopy) {
    return static_cast<Pack<float>*>(args.peers.data[rank])[threadIdx.x].v[0];
  }
  return exchange.At<float>(rank, threadIdx.x)->v[0];
}

template <Fault kFault>
__device__ float SumOf(const Args& args, const Exchange& exchange) {
  float sum = 0;
  for (int rank = 0; rank < args.peers.size; ++rank) sum += Place<kFault>(args, exchange, rank);
  return sum;
}

// Reaches its point when its part is written.
template <Fault kFault>
__global__ void OneShot(const __grid_constant__ Args args) {
  const Exchange exchange(args.peers);
  Place<kFault>(args, exchange, args.peers.rank) = args.own + static_cast<float>(threadIdx.x);
  Reach(args);
  if (kFault != Fault::kNoStartWait) exchange.Meet(0);
  Hold(args);
  args.sum[threadIdx.x] = SumOf<kFault>(args, exchange);
  exchange.End();
}

// Thread t's part is summed by rank t % 2. Reaches its point when it has collected the sums.
template <Fault kFault>
__global__ void TwoShot(const __grid_constant__ Args args) {
  const Exchange exchange(args.peers);
  const int owner = static_cast<int>(threadIdx.x) % args.peers.size, self = args.peers.rank;
  Place<kFault>(args, exchange, self) = args.own + static_cast<float>(threadIdx.x);
  exchange.Meet(0);
  Hold(args);
  if (owner == self) Place<kFault>(args, exchange, self) = SumOf<kFault>(args, exchange);
  if (kFault != Fault::kNoWaitForShares) exchange.Meet(1);
  args.sum[threadIdx.x] = Place<kFault>(args, exchange, owner);
  Reach(args);
  exchange.End();
}

template <auto kKernel>
void Start(const Args& args, const Stream& stream) {
  Launch<kKernel>({.grid = dim3(1), .block = dim3(kThreads), .stream = stream, .cooperative = true},
                  args);
}

bool IsSum(const DeviceArray<float>& sum, float a, float b) {
  const std::vector<float> values = sum.Read();
  for (int i = 0; i < kThreads; ++i) {
    if (values[i] != a + b + 2 * static_cast<float>(i)) return false;
  }
  return true;
}

// Whether the sum of one call is right in both ranks. With `late`, rank 1 begins when rank 0 has
// ended, which it cannot if the kernel waits.
template <auto kKernel>
bool RunOnce(bool late) {
  const Ranks ranks(2, 4096);
  bool right[2] = {};
  std::promise<void> ended;
  ranks.Run([&](const PeerBuffers& peers) {
    const Stream stream;
    const DeviceArray<float> sum(stream, kThreads, 0);
    ranks.Meet();
    if (late && peers.rank == 1) ended.get_future().wait();
    Start<kKernel>({.peers = peers, .own = peers.rank * 100.0f, .sum = sum.data()}, stream);
    right[peers.rank] = IsSum(sum, 0, 100);
    if (peers.rank == 0) ended.set_value();
  });
  return right[0] && right[1];
}

// Two calls. In the first, rank 1 does not read before rank 0 has written its part of the second.
template <Fault kFault>
bool RunWithLateReader() {
  const Ranks ranks(2, 4096);
  const Stream flag_stream;
  const DeviceArray<uint32_t> written(flag_stream, 1, 0);
  flag_stream.Sync();
  bool right[2] = {};
  ranks.Run([&](const PeerBuffers& peers) {
    const Stream stream;
    const DeviceArray<float> first(stream, kThreads, 0), second(stream, kThreads, 0);
    ranks.Meet();
    Args args{.peers = peers, .own = peers.rank * 100.0f, .sum = first.data()};
    if (peers.rank == 1) {
      args.held_by = written.data();
      args.held_until = 1;
    }
    Start<&OneShot<kFault>>(args, stream);
    args = {.peers = peers, .own = peers.rank * 100.0f + 1000, .sum = second.data()};
    if (peers.rank == 0) {
      args.reached = written.data();
      args.number = 1;
    }
    Start<&OneShot<kFault>>(args, stream);
    right[peers.rank] = IsSum(first, 0, 100) && IsSum(second, 1000, 1100);
  });
  return right[0] && right[1];
}

// Rank 1 does not sum its share before rank 0 has collected, which it cannot if the kernel waits.
template <Fault kFault>
bool RunTwoShot(bool late) {
  const Ranks ranks(2, 4096);
  const Stream flag_stream;
  const DeviceArray<uint32_t> collected(flag_stream, 1, 0);
  flag_stream.Sync();
  bool right[2] = {};
  ranks.Run([&](const PeerBuffers& peers) {
    const Stream stream;
    const DeviceArray<float> sum(stream, kThreads, 0);
    ranks.Meet();
    Args args{.peers = peers, .own = peers.rank * 100.0f, .sum = sum.data()};
    if (late && peers.rank == 0) {
      args.reached = collected.data();
      args.number = 1;
    } else if (late) {
      args.held_by = collected.data();
      args.held_until = 1;
    }
    Start<&TwoShot<kFault>>(args, stream);
    right[peers.rank] = IsSum(sum, 0, 100);
  });
  return right[0] && right[1];
}

TEST(ExchangeFaults, WithoutTheStartWaitALateRankIsMissed) {
  EXPECT_TRUE((RunOnce<&OneShot<Fault::kNone>>(false)));
  EXPECT_FALSE((RunOnce<&OneShot<Fault::kNoStartWait>>(true)));
}

TEST(ExchangeFaults, WithOneCopyALateReaderSeesTheNextCall) {
  EXPECT_TRUE(RunWithLateReader<Fault::kNone>());
  EXPECT_FALSE(RunWithLateReader<Fault::kOneCopy>());
}

TEST(ExchangeFaults, WithoutTheSecondWaitALateShareIsMissed) {
  EXPECT_TRUE(RunTwoShot<Fault::kNone>(false));
  EXPECT_FALSE(RunTwoShot<Fault::kNoWaitForShares>(true));
}

}  // namespace
}  // namespace tandem::kernels::cuda::testing
