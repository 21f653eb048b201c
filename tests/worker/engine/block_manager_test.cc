#include "worker/engine/block_manager.h"

#include <gtest/gtest.h>

#include <memory>
#include <string_view>

namespace tandem::engine {
namespace {

constexpr int kBlock = 4;

class BlockManagerTest : public ::testing::Test {
 protected:
  // A sequence of the given tokens, nothing computed.
  Sequence& Make(std::vector<TokenId> tokens, std::string_view salt = "") {
    auto seq = std::make_unique<Sequence>();
    seq->root = RootHash("seed", salt);
    seq->tokens = std::move(tokens);
    ExtendHashes(*seq, kBlock);
    all_.push_back(std::move(seq));
    return *all_.back();
  }

  // `num_blocks` full blocks, then one token. Equal `tag`s give equal tokens.
  static std::vector<TokenId> Tokens(int num_blocks, TokenId tag) {
    std::vector<TokenId> tokens(static_cast<size_t>(num_blocks * kBlock), tag);
    tokens.push_back(999);
    return tokens;
  }

  void Compute(Sequence& seq) {
    ASSERT_TRUE(blocks_.Start(seq, seq.num_tokens(), 0));
    seq.num_computed = seq.num_tokens();
    blocks_.Publish(seq);
    Check();
  }

  void ComputeAndRelease(Sequence& seq) {
    Compute(seq);
    blocks_.Release(seq);
    Check();
  }

  void Check() {
    std::vector<const Sequence*> live;
    for (const auto& seq : all_) live.push_back(seq.get());
    blocks_.CheckInvariants(live);
  }

  std::vector<KvEvent> TakeEvents() {
    std::vector<KvEvent> events;
    blocks_.TakeEvents(events);
    return events;
  }

  BlockManager blocks_{8, kBlock};
  std::vector<std::unique_ptr<Sequence>> all_;
};

TEST_F(BlockManagerTest, GrowIsAllOrNothing) {
  Sequence& seq = Make(Tokens(1, 1));
  ASSERT_TRUE(blocks_.Grow(seq, 7 * kBlock));
  EXPECT_FALSE(blocks_.Grow(seq, 9 * kBlock));
  EXPECT_EQ(seq.block_table.size(), 7u);
  EXPECT_TRUE(blocks_.Grow(seq, 8 * kBlock));
  EXPECT_EQ(blocks_.num_free(), 0);
  blocks_.Release(seq);
  EXPECT_EQ(blocks_.num_free(), 8);
  EXPECT_EQ(blocks_.num_cached(), 0) << "nothing was published";
}

TEST_F(BlockManagerTest, FindsWhatWasPublishedAndSharesIt) {
  Sequence& first = Make(Tokens(3, 1));
  Compute(first);
  Sequence& second = Make(Tokens(3, 1));
  EXPECT_EQ(blocks_.MatchPrefix(second), 3);
  ASSERT_TRUE(blocks_.Start(second, second.num_tokens(), 0));
  EXPECT_EQ(second.num_published, 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(first.block_table[i], second.block_table[i]);
  EXPECT_NE(first.block_table[3], second.block_table[3]) << "partial blocks are never shared";
  EXPECT_EQ(blocks_.CountExclusive(second), 1);
  Check();
}

TEST_F(BlockManagerTest, LeavesOneTokenToCompute) {
  Sequence& first = Make(std::vector<TokenId>(2 * kBlock, 1));
  Compute(first);
  EXPECT_EQ(blocks_.num_published(), 2);
  EXPECT_EQ(blocks_.MatchPrefix(first), 1);
}

TEST_F(BlockManagerTest, PublishesOnlyFullComputedBlocksOnce) {
  Sequence& seq = Make(Tokens(3, 1));
  ASSERT_TRUE(blocks_.Start(seq, seq.num_tokens(), 0));
  blocks_.Publish(seq);
  EXPECT_EQ(blocks_.num_published(), 0);
  seq.num_computed = 2 * kBlock - 1;
  blocks_.Publish(seq);
  EXPECT_EQ(blocks_.num_published(), 1);
  blocks_.Publish(seq);
  EXPECT_EQ(TakeEvents().size(), 1u) << "idempotent";
  seq.num_computed = seq.num_tokens();
  blocks_.Publish(seq);
  EXPECT_EQ(blocks_.num_published(), 3);
  Check();
}

TEST_F(BlockManagerTest, EvictsLeastRecentlyUsedFirst) {
  Sequence& a = Make(Tokens(2, 1));
  Sequence& b = Make(Tokens(2, 2));
  ComputeAndRelease(a);
  ComputeAndRelease(b);
  ComputeAndRelease(a);  // used again
  Sequence& big = Make(Tokens(0, 0));
  ASSERT_TRUE(blocks_.Grow(big, 6 * kBlock));
  EXPECT_EQ(blocks_.MatchPrefix(a), 2);
  EXPECT_EQ(blocks_.MatchPrefix(b), 0);
  Check();
}

TEST_F(BlockManagerTest, EvictsLeafBeforeParent) {
  Sequence& a = Make(Tokens(4, 1));
  ComputeAndRelease(a);
  Sequence& big = Make(Tokens(0, 0));
  for (int held = 5, left = 3; left >= 0; ++held, --left) {
    ASSERT_TRUE(blocks_.Grow(big, held * kBlock));
    EXPECT_EQ(blocks_.MatchPrefix(a), left);
    Check();
  }
}

TEST_F(BlockManagerTest, DoesNotEvictWhatItHasJustMatched) {
  Sequence& a = Make(Tokens(3, 1));
  ComputeAndRelease(a);  // 3 cached, 5 free
  std::vector<TokenId> longer = Tokens(3, 1);
  longer.resize(8 * kBlock, 7);
  Sequence& b = Make(longer);
  ASSERT_TRUE(blocks_.Start(b, b.num_tokens(), 0)) << "3 found and 5 fresh";
  EXPECT_EQ(b.num_published, 3);
  EXPECT_EQ(blocks_.num_free(), 0);
  Check();
}

TEST_F(BlockManagerTest, StartKeepsTheReserveOrChangesNothing) {
  Sequence& a = Make(Tokens(3, 1));
  ComputeAndRelease(a);
  Sequence& b = Make(Tokens(4, 1));  // 3 found, 2 fresh
  EXPECT_FALSE(blocks_.Start(b, b.num_tokens(), 4));
  EXPECT_TRUE(b.block_table.empty());
  EXPECT_EQ(blocks_.num_free(), 8);
  EXPECT_EQ(blocks_.num_cached(), 3);
  Check();
  EXPECT_TRUE(blocks_.Start(b, b.num_tokens(), 3));
  Check();
}

TEST_F(BlockManagerTest, SaltsDoNotShare) {
  Compute(Make(Tokens(2, 1), "a"));
  EXPECT_EQ(blocks_.MatchPrefix(Make(Tokens(2, 1), "b")), 0);
  EXPECT_EQ(blocks_.MatchPrefix(Make(Tokens(2, 1), "a")), 2);
}

TEST_F(BlockManagerTest, CollisionOfHashesIsNoHit) {
  Sequence& honest = Make(Tokens(2, 1));
  Compute(honest);
  Sequence& other = Make(Tokens(2, 5));
  other.block_hashes = honest.block_hashes;  // as if XXH3 had collided
  EXPECT_EQ(blocks_.MatchPrefix(other), 0);
  Sequence& tenant = Make(Tokens(2, 1), "tenant");
  tenant.block_hashes = honest.block_hashes;
  EXPECT_EQ(blocks_.MatchPrefix(tenant), 0) << "equal tokens, but another root";
  Compute(other);  // publishes nothing, breaks nothing
  EXPECT_EQ(blocks_.num_published(), 2);
}

TEST_F(BlockManagerTest, EqualBlocksOfTwoHoldersArePublishedOnce) {
  Sequence& a = Make(Tokens(2, 1));
  Sequence& b = Make(Tokens(3, 1));
  ASSERT_TRUE(blocks_.Start(a, a.num_tokens(), 0));
  ASSERT_TRUE(blocks_.Start(b, b.num_tokens(), 0));
  a.num_computed = a.num_tokens();
  b.num_computed = b.num_tokens();
  blocks_.Publish(a);
  blocks_.Publish(b);
  EXPECT_TRUE(b.publish_stopped) << "its third block has a parent that b does not hold";
  EXPECT_EQ(blocks_.num_published(), 2);
  blocks_.Release(a);
  blocks_.Release(b);
  EXPECT_EQ(blocks_.num_cached(), 2);
  EXPECT_EQ(blocks_.num_free(), 8);
  Check();
}

TEST_F(BlockManagerTest, ClearForgetsHeldBlocksToo) {
  Sequence& held = Make(Tokens(2, 1));
  Compute(held);
  Sequence& cached = Make(Tokens(2, 2));
  ComputeAndRelease(cached);
  TakeEvents();
  blocks_.Clear();
  const std::vector<KvEvent> events = TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, KvEvent::Kind::kCleared);
  EXPECT_EQ(blocks_.MatchPrefix(held), 0);
  EXPECT_EQ(blocks_.num_cached(), 0);
  held.tokens.resize(4 * kBlock, 3);  // it goes on, but publishes nothing whose parent is gone
  ExtendHashes(held, kBlock);
  ASSERT_TRUE(blocks_.Grow(held, held.num_tokens()));
  held.num_computed = held.num_tokens();
  blocks_.Publish(held);
  EXPECT_EQ(blocks_.num_published(), 0);
  blocks_.Release(held);
  EXPECT_EQ(blocks_.num_free(), 8);
  Check();
}

TEST_F(BlockManagerTest, EventsAreNumberedAndSnapshotIsParentsFirst) {
  Sequence& a = Make(Tokens(3, 1));
  ComputeAndRelease(a);
  std::vector<TokenId> fork = Tokens(1, 1);
  fork.resize(3 * kBlock, 8);
  Sequence& b = Make(fork);
  ComputeAndRelease(b);
  const std::vector<KvEvent> events = TakeEvents();
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].number, i + 1);
  EXPECT_EQ(events[0].parent, a.root);
  EXPECT_EQ(events[1].parent, a.block_hashes[0]);
  std::vector<KvEvent> snapshot;
  EXPECT_EQ(blocks_.Snapshot(snapshot), events.size());
  ASSERT_EQ(snapshot.size(), 5u) << "3 of a, 2 of b after the fork";
  EXPECT_EQ(snapshot[0].hash, a.block_hashes[0]);
  for (size_t i = 1; i < snapshot.size(); ++i) {
    bool found = false;
    for (size_t j = 0; j < i; ++j) found = found || snapshot[j].hash == snapshot[i].parent;
    EXPECT_TRUE(found) << i;
  }
}

}  // namespace
}  // namespace tandem::engine
