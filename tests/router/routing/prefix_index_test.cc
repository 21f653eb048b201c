#include "router/routing/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <span>

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

// What is held goes on where what is expected ends, also beyond a hole that a request will fill.
TEST(PrefixIndex, HeldBlocksFollowExpectedOnes) {
  PrefixIndex index;
  const auto chain = Chain(5);
  uint64_t n = 0;
  for (const int i : {0, 2, 3}) {
    ASSERT_TRUE(index.Apply(kA, Event(++n, KvEvent::Kind::kStored, chain[i])));
  }
  index.Expect(kA, 1, std::span(chain).first(2));
  EXPECT_EQ(Depths(index, chain), (Pair{4, 0}));
  index.Settle(1);
  EXPECT_EQ(Depths(index, chain), (Pair{1, 0}));
}

// Requests with one beginning come and go while one of them stays: what is in memory is what the
// chains have in common once, and nothing of those that ended.
TEST(PrefixIndex, ExpectationsOfOneBeginningShareIt) {
  PrefixIndex index;
  const auto stays = Chain(64);
  index.Expect(kA, 1, stays);
  for (RequestId request = 2; request < 200; ++request) {
    auto chain = Chain(64, static_cast<TokenId>(request * 1000));
    const size_t common = 1 + request % 63;
    std::copy_n(stays.begin(), common, chain.begin());
    index.Expect(kB, request, chain);
    EXPECT_EQ(Depths(index, stays), (Pair{64, static_cast<int32_t>(common)}));
    EXPECT_EQ(index.num_blocks(), static_cast<int64_t>(128 - common));
    index.CheckInvariants();
    index.Settle(request);
    index.CheckInvariants();
    EXPECT_EQ(index.num_blocks(), 64);
  }
}

TEST(PrefixIndex, CountsHoldersOfEachBlockInTheSameWalk) {
  PrefixIndex index;
  const auto chain = Chain(4);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(index.Apply(kA, Event(i + 1, KvEvent::Kind::kStored, chain[i])));
  }
  index.Expect(kB, 1, std::span(chain).first(2));
  const std::array groups = {kB, GroupId{77}, kA};  // any order; one that nobody heard of
  std::array<int32_t, 3> depth{};
  std::array<int32_t, 4> holders{};
  index.Match(chain, groups, depth, holders);
  EXPECT_EQ(depth, (std::array<int32_t, 3>{2, 0, 3}));
  EXPECT_EQ(holders, (std::array<int32_t, 4>{2, 2, 1, 0}));
}

// What a plain implementation would hold, and the index beside it.
class Twin {
 public:
  Twin(int groups, uint64_t seed) : rng_(seed) {
    for (int c = 0; c < 12; ++c) {  // every third shares the first blocks of those before
      chains_.push_back(Chain(kBlocks, c * 1000));
      if (c % 3 != 0) std::copy_n(chains_[c / 3 * 3].begin(), 3 + c, chains_[c].begin());
    }
    for (int g = 0; g < groups; ++g) Join();
  }

  void Step() {
    const size_t g = rng_() % groups_.size();
    const auto& chain = chains_[rng_() % chains_.size()];
    const size_t length = 1 + rng_() % kBlocks;
    switch (rng_() % 32) {
      case 0:
        return Reconnect(g);
      case 1:
        return Cleared(g);
      case 2:
        return Gap(g);
      case 3:
      case 4:
      case 5:
        return Expect(groups_[g], {chain.begin(), chain.begin() + length});
      case 6:
      case 7:
      case 8:
        return SettleOne();
      case 9:
      case 10:
      case 11:
      case 12:
      case 13:
        for (size_t i = kBlocks; i > length; --i) Change(groups_[g], chain[i - 1], false);
        return;
      case 14:
        return Change(groups_[g], chain[length - 1], false);  // a hole in the middle
      default:
        return StoreAll(groups_[g], std::span(chain).first(length));
    }
  }

  void ExpectEqual() {
    const auto& chain = chains_[rng_() % chains_.size()];
    std::vector<int32_t> depth(groups_.size()), want, holders(chain.size()), leading(chain.size());
    if (rng_() % 4 == 0) std::shuffle(groups_.begin(), groups_.end(), rng_);
    index_.Match(chain, groups_, depth, holders);
    for (const GroupId group : groups_) {
      want.push_back(Depth(group, chain));
      for (int32_t b = 0; b < want.back(); ++b) ++leading[b];
    }
    ASSERT_EQ(depth, want);
    ASSERT_EQ(holders, leading);
    const GroupId group = groups_[rng_() % groups_.size()];
    ASSERT_EQ(index_.num_held(group), static_cast<int64_t>(held_[group].size()));
    ASSERT_LE(index_.num_groups(), static_cast<int64_t>(groups_.size()));
    index_.CheckInvariants();
  }

  void Finish() {
    while (!expected_.empty()) SettleOne();
    for (const GroupId group : groups_) index_.Clear(group);
    EXPECT_EQ(index_.num_blocks(), 0);
    EXPECT_EQ(index_.num_groups(), 0);
  }

 private:
  static constexpr size_t kBlocks = 16;
  struct Expected {
    GroupId group;
    std::vector<BlockHash> chain;
  };

  void Join() { groups_.push_back(GroupId{next_id_ += 1 + static_cast<int>(rng_() % 5)}); }

  // As a router sees it: the group is lost, its requests end, it comes back under a new id.
  void Reconnect(size_t g) {
    const GroupId lost = groups_[g];
    index_.Clear(lost);
    std::erase_if(expected_, [&](const auto& entry) {
      if (entry.second.group != lost) return false;
      index_.Settle(entry.first);
      return true;
    });
    held_.erase(lost);
    last_.erase(lost);
    groups_.erase(groups_.begin() + static_cast<ptrdiff_t>(g));
    Join();
  }

  void Cleared(size_t g) {
    ASSERT_TRUE(index_.Apply(groups_[g], Event(++last_[groups_[g]], KvEvent::Kind::kCleared)));
    held_[groups_[g]].clear();
  }

  void Gap(size_t g) {
    const GroupId group = groups_[g];
    const auto& hash = chains_[0][0];
    if (!last_.contains(group)) return;
    const std::vector<KvEvent> events = {
        Event(last_[group] + 1, KvEvent::Kind::kStored, chains_[0][1]),
        Event(last_[group] + 3, KvEvent::Kind::kStored, hash)};
    ASSERT_EQ(index_.Apply(group, events), 1u);
    index_.Clear(group);
    held_[group].clear();
    last_[group] = rng_() % 1000;  // counts from whatever comes first
    Change(group, hash, true);
  }

  void Change(GroupId group, const BlockHash& hash, bool stored) {
    const auto kind = stored ? KvEvent::Kind::kStored : KvEvent::Kind::kRemoved;
    ASSERT_TRUE(index_.Apply(group, Event(++last_[group], kind, hash)));
    stored ? (void)held_[group].insert(hash) : (void)held_[group].erase(hash);
  }

  void StoreAll(GroupId group, std::span<const BlockHash> hashes) {
    std::vector<KvEvent> events;
    for (const BlockHash& hash : hashes) {
      events.push_back(Event(++last_[group], KvEvent::Kind::kStored, hash));
    }
    ASSERT_EQ(index_.Apply(group, events), events.size());
    held_[group].insert(hashes.begin(), hashes.end());
  }

  void Expect(GroupId group, std::vector<BlockHash> chain) {
    index_.Expect(group, ++next_request_, chain);
    expected_[next_request_] = {group, std::move(chain)};
  }

  void SettleOne() {
    if (expected_.empty()) return;
    const auto it = std::next(expected_.begin(), static_cast<ptrdiff_t>(rng_() % expected_.size()));
    index_.Settle(it->first);
    index_.Settle(it->first);  // unknown by now
    expected_.erase(it);
  }

  int32_t Depth(GroupId group, const std::vector<BlockHash>& chain) {
    std::set<BlockHash> all = held_[group];
    for (const auto& [request, e] : expected_) {
      if (e.group == group) all.insert(e.chain.begin(), e.chain.end());
    }
    size_t depth = 0;
    while (depth < chain.size() && all.contains(chain[depth])) ++depth;
    return static_cast<int32_t>(depth);
  }

  std::mt19937_64 rng_;
  std::vector<std::vector<BlockHash>> chains_;
  PrefixIndex index_;
  std::vector<GroupId> groups_;
  int next_id_ = 0;
  std::map<GroupId, std::set<BlockHash>> held_;
  std::map<GroupId, uint64_t> last_;
  std::map<RequestId, Expected> expected_;
  RequestId next_request_ = 0;
};

class PrefixIndexProperty : public testing::TestWithParam<int> {};

// Against plain sets: any order of events, expectations, settles, clears, gaps and reconnects.
TEST_P(PrefixIndexProperty, EqualsPlainSets) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Twin twin(GetParam(), seed);
  for (int i = 0; i < 6000 && !testing::Test::HasFatalFailure(); ++i) {
    twin.Step();
    if (i % std::max(1, GetParam() / 20) != 0) continue;
    ASSERT_NO_FATAL_FAILURE(twin.ExpectEqual()) << "after operation " << i;
  }
  twin.Finish();
}

// Sets of holders in the word; as bits; as lists, where there are many groups.
INSTANTIATE_TEST_SUITE_P(Groups, PrefixIndexProperty, testing::Values(2, 40, 700));

// Groups that come back again and again: neither slots nor blocks of the past pile up.
TEST(PrefixIndex, MemoryStaysBoundedUnderReconnects) {
  PrefixIndex index;
  constexpr int kGroups = 4, kHeld = 20'000;
  const auto hash_of = [](int group, int block) {
    return BlockHash{static_cast<uint64_t>(block) << 32 | static_cast<uint64_t>(group), 1};
  };
  int64_t most = 0;
  for (int session = 0; session < 12; ++session) {
    for (int g = 0; g < kGroups; ++g) {
      const GroupId id{session * kGroups + g};
      if (session > 0) index.Clear(GroupId{id.value - kGroups});
      for (int b = 0; b < kHeld; ++b) {
        const uint64_t number = static_cast<uint64_t>(b) + 1;
        // Others than in the session before: nothing is overwritten by chance.
        ASSERT_TRUE(index.Apply(id, Event(number, KvEvent::Kind::kStored, hash_of(id.value, b))));
      }
      most = std::max(most, index.num_blocks());
    }
  }
  EXPECT_EQ(index.num_groups(), kGroups);
  EXPECT_LE(most, kGroups * kHeld + 2 * kHeld) << "what is cleared goes as others store";
}

}  // namespace
}  // namespace tandem::routing
