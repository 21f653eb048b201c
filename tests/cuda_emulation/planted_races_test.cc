// Mistakes that show in results, in some order of threads: each is planted, and shown to be found
// by the orders below (the kernel without it is right in all of them) or, under ThreadSanitizer, as
// a race whatever the order. What only ThreadSanitizer can see is tested there alone.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/device_prelude.h"
#include "tests/cuda_emulation/options.h"

namespace tandem::kernels::cuda {
namespace {

using emulation::AsyncCopies;
using emulation::GridLaunch;
using emulation::Options;
using emulation::Policy;

#if defined(__SANITIZE_THREAD__)
constexpr bool kTsan = true;
#else
constexpr bool kTsan = false;
#endif

// Under ThreadSanitizer two: few races need a certain order.
std::vector<Options> Orders() {
  if (kTsan) {
    return {{.policy = Policy::kInOrder},
            {.policy = Policy::kRandom, .cp_async = AsyncCopies::kRandom, .seed = 1}};
  }
  std::vector<Options> orders = {{.policy = Policy::kInOrder},
                                 {.policy = Policy::kInOrder, .cp_async = AsyncCopies::kEager},
                                 {.policy = Policy::kReverse}};
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    orders.push_back({.policy = Policy::kRandom, .cp_async = AsyncCopies::kRandom, .seed = seed});
  }
  return orders;
}

// In how many of the orders `right()` is false.
int CountWrong(const std::function<bool()>& right) {
  int wrong = 0;
  for (const Options& order : Orders()) {
    emulation::SetOptions(order);
    wrong += right() ? 0 : 1;
  }
  return wrong;
}

// Runs `right` in a child: does ThreadSanitizer report a race?
void ExpectRace(const std::function<bool()>& right) {
  EXPECT_EXIT(
      {
        CountWrong(right);
        std::exit(0);
      },
      testing::ExitedWithCode(66), "ThreadSanitizer: data race");
}

enum class Finds : uint8_t { kResult, kResultAlone /* no race */, kRaceAlone };

void ExpectFound(const std::function<bool()>& right, Finds finds = Finds::kResult) {
  if (kTsan) {
    if (finds != Finds::kResultAlone) ExpectRace(right);
  } else if (finds != Finds::kRaceAlone) {
    EXPECT_GT(CountWrong(right), 0);
  }
}
void ExpectRight(const std::function<bool()>& right) { EXPECT_EQ(CountWrong(right), 0); }

enum class Sync { kRight, kNoBarrierAfterWrite, kNoBarrierBeforeReuse, kNoWrite };

// The block's sum, three times over with other factors.
__global__ void BlockSums(Sync sync, const float* in, float* out) {
  TANDEM_SHARED(float, sums, [8]);
  float total = 0;
  for (int round = 1; round <= 3; ++round) {
    const float x = WarpSum(in[threadIdx.x] * static_cast<float>(round));
    if (threadIdx.x % 32 == 0 && sync != Sync::kNoWrite) sums[threadIdx.x / 32] = x;
    if (sync != Sync::kNoBarrierAfterWrite) __syncthreads();
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += sums[w];
    if (sync != Sync::kNoBarrierBeforeReuse) __syncthreads();
  }
  out[threadIdx.x] = total;
}

bool BlockSumsAreRight(Sync sync) {
  constexpr int kThreads = 96;
  const std::vector<float> in(kThreads, 1);
  std::vector<float> out(kThreads);
  Launch<&BlockSums>({.grid = 1, .block = kThreads}, sync, in.data(), out.data());
  return out == std::vector<float>(kThreads, 6 * kThreads);
}

TEST(PlantedRaceTest, MissingBarriers) {
  ExpectRight([] { return BlockSumsAreRight(Sync::kRight); });
  ExpectFound([] { return BlockSumsAreRight(Sync::kNoBarrierAfterWrite); });
  ExpectFound([] { return BlockSumsAreRight(Sync::kNoBarrierBeforeReuse); });
}

__global__ void Rotate(bool synced, float* out) {
  TANDEM_SHARED(float, lanes, [32]);
  lanes[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (synced) __syncwarp();
  out[threadIdx.x] = lanes[(threadIdx.x + 1) % 32];
}

bool RotateIsRight(bool synced) {
  std::vector<float> out(32);
  Launch<&Rotate>({.grid = 1, .block = 32}, synced, out.data());
  for (int i = 0; i < 32; ++i) {
    if (out[i] != static_cast<float>((i + 1) % 32)) return false;
  }
  return true;
}

TEST(PlantedRaceTest, MissingSyncwarp) {
  ExpectRight([] { return RotateIsRight(true); });
  ExpectFound([] { return RotateIsRight(false); });
}

enum class Tiles { kRight, kWaitOffByOne, kNoBarrierAfterWait, kNoBarrierBeforeReuse };

// Sums tiles that two stages of cp.async bring in; each thread reads what its neighbour copied.
__global__ void SumTiles(Tiles way, const float* in, int num_tiles, float* out) {
  TANDEM_DYNAMIC_SHARED(bytes);
  auto* stages = reinterpret_cast<float*>(bytes);
  const int size = 4 * static_cast<int>(blockDim.x);
  const int mine = 4 * static_cast<int>(threadIdx.x);
  CpAsync16(&stages[mine], &in[mine]);
  CpAsyncCommit();
  float sum = 0;
  for (int t = 0; t < num_tiles; ++t) {
    const bool more = t + 1 < num_tiles;
    if (more) CpAsync16(&stages[(t + 1) % 2 * size + mine], &in[(t + 1) * size + mine]);
    CpAsyncCommit();
    way == Tiles::kWaitOffByOne ? CpAsyncWait<2>() : CpAsyncWait<1>();
    if (way != Tiles::kNoBarrierAfterWait) __syncthreads();
    for (int i = 0; i < 4; ++i) sum += stages[t % 2 * size + (mine + 4 + i) % size];
    if (way != Tiles::kNoBarrierBeforeReuse) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

bool SumTilesIsRight(Tiles way) {
  constexpr int kThreads = 64;
  constexpr int kNumTiles = 5;  // with fewer than three no stage is used again
  alignas(16) float in[kNumTiles * kThreads * 4];
  for (int i = 0; i < kNumTiles * kThreads * 4; ++i)
    in[i] = static_cast<float>(i / (kThreads * 4) + 1);
  std::vector<float> out(kThreads);
  Launch<&SumTiles>({.grid = 1, .block = kThreads, .shared_bytes = 2 * kThreads * 16}, way, in,
                    kNumTiles, out.data());
  return out == std::vector<float>(kThreads, 4 * (1 + 2 + 3 + 4 + 5));
}

TEST(PlantedRaceTest, AsyncCopies) {
  ExpectRight([] { return SumTilesIsRight(Tiles::kRight); });
  ExpectFound([] { return SumTilesIsRight(Tiles::kWaitOffByOne); }, Finds::kResultAlone);
  ExpectFound([] { return SumTilesIsRight(Tiles::kNoBarrierAfterWait); });
  ExpectFound([] { return SumTilesIsRight(Tiles::kNoBarrierBeforeReuse); });
}

#if !defined(__SANITIZE_THREAD__)  // of results
TEST(PlantedRaceTest, UninitialisedSharedMemory) {
  ExpectFound([] { return BlockSumsAreRight(Sync::kNoWrite); }, Finds::kResultAlone);
}

TEST(PlantedRaceTest, EachModeOfAsyncCopiesFindsItsOwn) {
  emulation::SetOptions({.cp_async = AsyncCopies::kLazy});
  EXPECT_FALSE(SumTilesIsRight(Tiles::kWaitOffByOne));
  emulation::SetOptions({.cp_async = AsyncCopies::kEager});
  EXPECT_TRUE(SumTilesIsRight(Tiles::kWaitOffByOne));
  EXPECT_FALSE(SumTilesIsRight(Tiles::kNoBarrierBeforeReuse));
}
#endif

enum class Meeting { kRight, kNoStartWait, kNoEndWait, kRelaxedFlag };

void Signal(uint32_t* flag, uint32_t value, Meeting way) {
  if (way != Meeting::kRelaxedFlag) return StoreRelease(flag, value);
  __atomic_store_n(flag, value, __ATOMIC_RELAXED);
}
void Await(const uint32_t* flag, uint32_t value) {
  while (LoadAcquire(flag) < value) SpinPause();
}

constexpr int kRounds = 3;

// A one-shot all-reduce of two ranks, again and again: publish, meet, read the peer's, meet.
void AllReduceRounds(Meeting way, int rank, float* const* data, uint32_t* const* flags,
                     float* out) {
  const unsigned i = threadIdx.x;
  for (uint32_t round = 1; round <= kRounds; ++round) {
    data[rank][i] = static_cast<float>(round * 10 + rank);
    __syncthreads();
    if (i == 0) {
      Signal(&flags[1 - rank][0], round, way);
      if (way != Meeting::kNoStartWait) Await(&flags[rank][0], round);
    }
    __syncthreads();
    out[(round - 1) * blockDim.x + i] = data[0][i] + data[1][i];
    __syncthreads();
    if (i == 0) {
      Signal(&flags[1 - rank][1], round, way);
      if (way != Meeting::kNoEndWait) Await(&flags[rank][1], round);
    }
    __syncthreads();
  }
}

struct Ranks {
  static constexpr int kThreads = 32;
  std::vector<float> memory[2] = {std::vector<float>(kThreads, NAN),
                                  std::vector<float>(kThreads, NAN)};
  uint32_t signals[2][2] = {};
  float* data[2] = {memory[0].data(), memory[1].data()};
  uint32_t* flags[2] = {signals[0], signals[1]};
  std::vector<float> out[2] = {std::vector<float>(kThreads * kRounds),
                               std::vector<float>(kThreads* kRounds)};

  bool right() const {
    for (int i = 0; i < kThreads * kRounds; ++i) {
      const auto sum = static_cast<float>((i / kThreads + 1) * 20 + 1);
      if (out[0][i] != sum || out[1][i] != sum) return false;
    }
    return true;
  }
};

// Both ranks as blocks of one grid, so that the seed decides the order.
__global__ void AllReduceInOneGrid(Meeting way, Ranks* ranks) {
  const int rank = static_cast<int>(blockIdx.x);
  AllReduceRounds(way, rank, ranks->data, ranks->flags, ranks->out[rank].data());
}

bool AllReduceIsRight(Meeting way) {
  Ranks ranks;
  Launch<&AllReduceInOneGrid>({.grid = 2, .block = Ranks::kThreads, .cooperative = true}, way,
                              &ranks);
  return ranks.right();
}

TEST(PlantedRaceTest, AllReduce) {
  ExpectRight([] { return AllReduceIsRight(Meeting::kRight); });
  ExpectFound([] { return AllReduceIsRight(Meeting::kNoStartWait); });
  // Not seen as a race: the flag that a rank sees too late covers all that came before.
  ExpectFound([] { return AllReduceIsRight(Meeting::kNoEndWait); }, Finds::kResultAlone);
  ExpectFound([] { return AllReduceIsRight(Meeting::kRelaxedFlag); }, Finds::kRaceAlone);
}

enum class Write { kOwn, kSame, kAdd, kAtomicAdd };

__global__ void WriteFromBlocks(Write way, int* out) {
  if (way == Write::kOwn) out[blockIdx.x] = 1;
  if (way == Write::kSame) out[0] = 1;
  if (way == Write::kAdd) out[0] += 1;
  if (way == Write::kAtomicAdd) atomicAdd(&out[0], 1);
}

bool WriteFromBlocksIsRight(Write way) {
  std::vector<int> out(4);
  Launch<&WriteFromBlocks>({.grid = 4, .block = 1}, way, out.data());
  return out == (way == Write::kOwn ? std::vector<int>{1, 1, 1, 1} : std::vector<int>{4, 0, 0, 0});
}

TEST(PlantedRaceTest, BlocksThatWriteOneAddress) {
  ExpectRight([] { return WriteFromBlocksIsRight(Write::kOwn); });
  ExpectRight([] { return WriteFromBlocksIsRight(Write::kAtomicAdd); });
  ExpectFound([] { return WriteFromBlocksIsRight(Write::kSame); }, Finds::kRaceAlone);
  ExpectFound([] { return WriteFromBlocksIsRight(Write::kAdd); }, Finds::kRaceAlone);
}

__global__ void Produce(float* x) { x[blockIdx.x * blockDim.x + threadIdx.x] = 2; }

__global__ void Consume(bool waits, const float* x, float* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const float early = waits ? 0 : x[i];
  DependentLaunchWait();
  out[i] = (waits ? x[i] : early) + 1;
}

bool DependentLaunchIsRight(bool waits) {
  constexpr unsigned kThreads = 48;
  std::vector<float> x(kThreads);
  std::vector<float> out(kThreads);
  GridLaunch first;
  first.name = "Produce";
  first.grid = 3;
  first.block = 16;
  first.thread_body = [&x] { Produce(x.data()); };
  GridLaunch second = first;
  second.name = "Consume";
  second.dependent = true;
  second.thread_body = [&] { Consume(waits, x.data(), out.data()); };
  emulation::RunDependent(first, second);
  return out == std::vector<float>(kThreads, 3);
}

TEST(PlantedRaceTest, ReadingBeforeDependentLaunchWait) {
  ExpectRight([] { return DependentLaunchIsRight(true); });
  ExpectFound([] { return DependentLaunchIsRight(false); });
}

__global__ void AllReduceOfRank(Ranks* ranks, int rank) {
  AllReduceRounds(Meeting::kRight, rank, ranks->data, ranks->flags, ranks->out[rank].data());
}

TEST(PlantedRaceTest, RanksThatAreThreadsOfOneProcess) {
  ExpectRight([] {
    Ranks ranks;
    const auto run = [&ranks](int rank) {
      Launch<&AllReduceOfRank>({.grid = 1, .block = Ranks::kThreads, .cooperative = true}, &ranks,
                               rank);
    };
    std::thread other(run, 1);
    run(0);
    other.join();
    return ranks.right();
  });
}

}  // namespace
}  // namespace tandem::kernels::cuda
