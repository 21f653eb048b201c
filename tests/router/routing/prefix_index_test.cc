#include "router/routing/prefix_index.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <random>
#include <set>

namespace tandem::routing {
namespace {

constexpr GroupId kA{0}, kB{1};

std::vector<BlockHash> Chain(int blocks, TokenId salt = 0) {
  std::vector<BlockHash> chain;
  BlockHash h = RootHash("m", "");
  for (int i = 0; i < blocks; ++i) {
    const std::vector<TokenId> tokens(16, salt + i);
    chain.push_back(h = HashBlock(h, tokens));
  }
  return chain;
}

KvEvent Event(uint64_t number, KvEvent::Kind kind, const BlockHash& hash = {}) {
  return {.number = number, .kind = kind, .hash = hash, .parent = {}};
}

std::array<int32_t, 2> Depths(const PrefixIndex& index, const std::vector<BlockHash>& chain) {
  const std::array groups = {kA, kB};
  std::array<int32_t, 2> depth{};
  index.Match(chain, groups, depth);
  return depth;
}

using Pair = std::array<int32_t, 2>;

TEST(PrefixIndex, MatchesLeadingBlocksOnly) {
  PrefixIndex index;
  const auto chain = Chain(4);
  uint64_t n = 1;
  for (const int i : {0, 1, 3}) {  // 2 is missing: 3 does not count
    ASSERT_TRUE(index.Apply(kA, Event(n++, KvEvent::Kind::kStored, chain[i])));
  }
  ASSERT_TRUE(index.Apply(kB, Event(7, KvEvent::Kind::kStored, chain[0])));
  EXPECT_EQ(Depths(index, chain), (Pair{2, 1}));
  ASSERT_TRUE(index.Apply(kA, Event(n++, KvEvent::Kind::kRemoved, chain[0])));
  EXPECT_EQ(Depths(index, chain), (Pair{0, 1}));
}

TEST(PrefixIndex, AGapIsSeenAndClearStartsAgain) {
  PrefixIndex index;
  const auto chain = Chain(3);
  ASSERT_TRUE(index.Apply(kA, Event(5, KvEvent::Kind::kStored, chain[0])));
  EXPECT_FALSE(index.Apply(kA, Event(7, KvEvent::Kind::kStored, chain[1])));
  index.Clear(kA);
  EXPECT_EQ(Depths(index, chain), (Pair{0, 0}));
  EXPECT_TRUE(index.Apply(kA, Event(7, KvEvent::Kind::kStored, chain[0])));
  EXPECT_FALSE(index.Apply(kA, Event(7, KvEvent::Kind::kStored, chain[1])));  // twice
}

TEST(PrefixIndex, ClearedEmptiesOneGroupAndKeepsCounting) {
  PrefixIndex index;
  const auto chain = Chain(2);
  ASSERT_TRUE(index.Apply(kA, Event(1, KvEvent::Kind::kStored, chain[0])));
  ASSERT_TRUE(index.Apply(kB, Event(1, KvEvent::Kind::kStored, chain[0])));
  ASSERT_TRUE(index.Apply(kA, Event(2, KvEvent::Kind::kCleared)));
  EXPECT_EQ(Depths(index, chain), (Pair{0, 1}));
  EXPECT_TRUE(index.Apply(kA, Event(3, KvEvent::Kind::kStored, chain[0])));
  EXPECT_EQ(Depths(index, chain), (Pair{1, 1}));
}

TEST(PrefixIndex, ExpectedBlocksCountUntilSettled) {
  PrefixIndex index;
  const auto chain = Chain(3);
  index.Expect(kA, 1, chain);
  index.Expect(kA, 2, chain);
  EXPECT_EQ(Depths(index, chain), (Pair{3, 0}));
  index.Settle(1);
  EXPECT_EQ(Depths(index, chain), (Pair{3, 0}));  // the second one still stands for them
  ASSERT_TRUE(index.Apply(kA, Event(1, KvEvent::Kind::kStored, chain[0])));
  index.Settle(2);
  index.Settle(2);
  EXPECT_EQ(Depths(index, chain), (Pair{1, 0}));
  EXPECT_EQ(index.num_blocks(), 1);
}

TEST(PrefixIndex, ClearKeepsExpectations) {
  PrefixIndex index;
  const auto chain = Chain(2);
  ASSERT_TRUE(index.Apply(kA, Event(1, KvEvent::Kind::kStored, chain[0])));
  index.Expect(kA, 1, chain);
  index.Clear(kA);
  EXPECT_EQ(Depths(index, chain), (Pair{2, 0}));
  index.Settle(1);
  EXPECT_EQ(index.num_blocks(), 0);
}

// Against plain sets: any order of events, expectations, settles and clears.
TEST(PrefixIndex, PropertyEqualsPlainSets) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 rng(seed);
  std::vector<std::vector<BlockHash>> chains;
  for (int i = 0; i < 6; ++i) chains.push_back(Chain(6, i / 2 * 100));
  for (int i = 1; i < 6; i += 2) {  // pairs share their first three blocks
    const auto tail = Chain(3, 1000 + i);
    std::copy(tail.begin(), tail.end(), chains[i].begin() + 3);
  }
  PrefixIndex index;
  std::map<int, std::set<BlockHash>> held;
  std::map<RequestId, std::pair<int, std::vector<BlockHash>>> expected;
  std::map<int, uint64_t> last;
  RequestId next = 1;
  for (int i = 0; i < 5000; ++i) {
    const int g = static_cast<int>(rng() % 2);
    const auto& chain = chains[rng() % chains.size()];
    const BlockHash& hash = chain[rng() % chain.size()];
    switch (rng() % 8) {
      case 0:
      case 1:
      case 2:
        ASSERT_TRUE(index.Apply(GroupId{g}, Event(++last[g], KvEvent::Kind::kStored, hash)));
        held[g].insert(hash);
        break;
      case 3:
        ASSERT_TRUE(index.Apply(GroupId{g}, Event(++last[g], KvEvent::Kind::kRemoved, hash)));
        held[g].erase(hash);
        break;
      case 4:
        index.Expect(GroupId{g}, next, chain);
        expected[next++] = {g, chain};
        break;
      case 5:
        if (expected.empty()) break;
        index.Settle(expected.begin()->first);
        expected.erase(expected.begin());
        break;
      case 6:
        if (rng() % 30 != 0) break;
        ASSERT_TRUE(index.Apply(GroupId{g}, Event(++last[g], KvEvent::Kind::kCleared)));
        held[g].clear();
        break;
      default:
        if (rng() % 30 != 0) break;
        index.Clear(GroupId{g});
        held[g].clear();
    }
    Pair want{};
    for (int group = 0; group < 2; ++group) {
      std::set<BlockHash> all = held[group];
      for (const auto& [request, e] : expected) {
        if (e.first == group) all.insert(e.second.begin(), e.second.end());
      }
      while (want[group] < 6 && all.contains(chain[want[group]])) ++want[group];
    }
    ASSERT_EQ(Depths(index, chain), want) << "after operation " << i;
  }
  for (const auto& [request, e] : expected) index.Settle(request);
  index.Clear(kA);
  index.Clear(kB);
  EXPECT_EQ(index.num_blocks(), 0);
}

}  // namespace
}  // namespace tandem::routing
