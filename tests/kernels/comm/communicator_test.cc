// What any communicator of several ranks promises, over shared memory and over Gloo.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <vector>

#include "kernels/comm/gloo_communicator.h"
#include "tests/support/spawn_gloo_ranks.h"
#include "tests/support/spawn_ranks.h"

namespace tandem::kernels {
namespace {

using ::testing::HasSubstr;

struct Transport {
  const char* name;
  std::function<void(int, const std::function<void(Communicator&)>&, size_t)> spawn;
};

class Collectives : public ::testing::TestWithParam<Transport> {
 protected:
  static void Spawn(int n, const std::function<void(Communicator&)>& fn,
                    size_t max_bytes = 256 << 10) {
    GetParam().spawn(n, fn, max_bytes);
  }
};

INSTANTIATE_TEST_SUITE_P(, Collectives,
                         ::testing::Values(Transport{"Shm", tandem::testing::SpawnRanks},
                                           Transport{"Gloo", tandem::testing::SpawnGlooRanks}),
                         [](const auto& param) { return param.param.name; });

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

// Sizes below and above the slot (4 KB here) and the switch to summing in parts. The order of
// adding is the same over any transport, so the sums are too.
TEST_P(Collectives, SumsInRankOrderAtAnySize) {
  for (const int size : {2, 3, 4}) {
    for (const size_t slot : {4096, 256 << 10}) {
      Spawn(
          size,
          [&](Communicator& comm) {
            for (const size_t n : {1, 3, 576, 1024, 1025, 5000, 40000}) {
              const std::vector<float> expected = SumInRankOrder(size, n);
              for (int repeat = 0; repeat < 3; ++repeat) {
                std::vector<float> v = Contribution(comm.rank(), n);
                comm.AllReduceSum(v);
                EXPECT_EQ(v, expected) << size << " ranks, " << n << " floats";
              }
            }
            EXPECT_TRUE(comm.Poll().ok());
          },
          slot);
    }
  }
}

TEST_P(Collectives, GathersUnequalPartsInRankOrder) {
  const std::vector<size_t> sizes = {5, 0, 10'001};
  Spawn(
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

TEST_P(Collectives, BroadcastsFromAnyRoot) {
  Spawn(
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

TEST_P(Collectives, BarrierHoldsUntilAllAreThere) {
  std::atomic<int> arrived{0};
  Spawn(4, [&](Communicator& comm) {
    for (int round = 1; round <= 200; ++round) {
      arrived.fetch_add(1);
      comm.Barrier();
      EXPECT_GE(arrived.load(), 4 * round);
      comm.Barrier();
    }
  });
}

// Random mixes of all collectives; any slot taken too early would show as a wrong sum.
TEST_P(Collectives, MixedCollectivesStayInStep) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  Spawn(
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

TEST_P(Collectives, DifferentOperationsEndTheGroupWithAMessage) {
  Spawn(2, [&](Communicator& comm) {
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

TEST_P(Collectives, DifferentSizesEndTheGroupWithAMessage) {
  Spawn(3, [&](Communicator& comm) {
    std::vector<float> v(comm.rank() == 2 ? 8 : 4);
    comm.AllReduceSum(v);
    EXPECT_FALSE(comm.Poll().ok());
  });
  Spawn(2, [&](Communicator& comm) {
    // The same bytes in all, but not the same parts.
    const std::vector<size_t> said =
        comm.rank() == 0 ? std::vector<size_t>{4, 8} : std::vector<size_t>{8, 4};
    const std::vector<std::byte> in(said[comm.rank()]);
    std::vector<std::byte> out(12);
    comm.AllGather(in, said, out);
    EXPECT_FALSE(comm.Poll().ok());
  });
}

}  // namespace
}  // namespace tandem::kernels
