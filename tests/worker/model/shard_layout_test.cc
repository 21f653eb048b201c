#include "worker/model/shard_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

ModelConfig SmolLm2() {
  ModelConfig c;
  c.num_layers = 30;
  c.hidden = 576;
  c.num_heads = 9;
  c.num_kv_heads = 3;
  c.head_dim = 64;
  c.ffn = 1536;
  c.vocab = 49152;
  return c;
}

TEST(ShardLayout, OneRankHoldsEverything) {
  const auto shards = MakeShardLayout(SmolLm2(), 1);
  ASSERT_TRUE(shards.ok());
  EXPECT_EQ((*shards)[0], (RankShard{{0, 3}, {0, 9}, {0, 1536}, {0, 49152}}));
}

TEST(ShardLayout, TwoRanksTakeSixAndThreeHeadsAndHalfTheFeedForward) {
  const auto shards = MakeShardLayout(SmolLm2(), 2);
  ASSERT_TRUE(shards.ok());
  EXPECT_EQ((*shards)[0], (RankShard{{0, 2}, {0, 6}, {0, 768}, {0, 24576}}));
  EXPECT_EQ((*shards)[1], (RankShard{{2, 3}, {6, 9}, {768, 1536}, {24576, 49152}}));
}

TEST(ShardLayout, ThreeRanksAreEqual) {
  const auto shards = MakeShardLayout(SmolLm2(), 3);
  ASSERT_TRUE(shards.ok());
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ((*shards)[r], (RankShard{{r, r + 1},
                                       {3 * r, 3 * r + 3},
                                       {512 * r, 512 * (r + 1)},
                                       {16384 * r, 16384 * (r + 1)}}));
  }
}

TEST(ShardLayout, MoreRanksThanKvHeadsAreRefusedWithTheReason) {
  const auto shards = MakeShardLayout(SmolLm2(), 4);
  EXPECT_EQ(shards.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(shards.status())), HasSubstr("tp 4"));
  EXPECT_THAT(std::string(Message(shards.status())), HasSubstr("3 KV heads"));
}

TEST(ShardLayout, TooSmallAFeedForwardIsRefused) {
  ModelConfig c = SmolLm2();
  c.ffn = 64;
  EXPECT_FALSE(MakeShardLayout(c, 3).ok());
  EXPECT_TRUE(MakeShardLayout(c, 2).ok());
}

TEST(ShardLayout, TheLastPanelOfAnOddVocabularyIsPartial) {
  ModelConfig c = SmolLm2();
  c.vocab = 275;  // 17 panels and 3 rows
  const auto shards = MakeShardLayout(c, 2);
  ASSERT_TRUE(shards.ok());
  EXPECT_EQ((*shards)[0].vocab, (Range{0, 144}));
  EXPECT_EQ((*shards)[1].vocab, (Range{144, 275}));
}

TEST(ShardLayout, ATinyVocabularyMayLeaveARankWithoutRows) {
  ModelConfig c = SmolLm2();
  c.vocab = 20;
  const auto shards = MakeShardLayout(c, 3);
  ASSERT_TRUE(shards.ok());
  EXPECT_EQ((*shards)[1].vocab, (Range{16, 20}));
  EXPECT_EQ((*shards)[2].vocab, (Range{20, 20}));
}

// Any model and any number of ranks: parts meet, cover everything, keep their alignment, and
// differ by no more than one unit.
TEST(ShardLayout, CoversAndBalancesAnyModel) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  for (int i = 0; i < 2000; ++i) {
    ModelConfig c;
    c.num_kv_heads = 1 + rng() % 16;
    c.num_heads = c.num_kv_heads * (1 + rng() % 8);
    c.head_dim = 32 * (1 + rng() % 4);
    c.ffn = 32 * (16 + rng() % 500);
    c.vocab = 1 + rng() % 100'000;
    const int tp = 1 + rng() % c.num_kv_heads;
    const auto shards = MakeShardLayout(c, tp);
    ASSERT_TRUE(shards.ok()) << shards.status();
    ASSERT_EQ(static_cast<int>(shards->size()), tp);
    RankShard last;
    int most_heads = 0, most_ffn = 0;
    for (const RankShard& s : *shards) {
      EXPECT_EQ(s.kv_heads.begin, last.kv_heads.end);
      EXPECT_EQ(s.heads.begin, last.heads.end);
      EXPECT_EQ(s.ffn.begin, last.ffn.end);
      EXPECT_EQ(s.vocab.begin, last.vocab.end);
      EXPECT_EQ(s.heads.begin * c.num_kv_heads, s.kv_heads.begin * c.num_heads);
      EXPECT_EQ(s.heads.begin * c.head_dim % 32, 0);
      EXPECT_EQ(s.ffn.begin % 32, 0);
      EXPECT_TRUE(s.vocab.begin % 16 == 0 || s.vocab.size() == 0);
      EXPECT_GE(s.kv_heads.size(), 1);
      EXPECT_GE(s.ffn.size(), 32);
      most_heads = std::max(most_heads, s.kv_heads.size());
      most_ffn = std::max(most_ffn, s.ffn.size());
      last = s;
    }
    EXPECT_EQ(last.kv_heads.end, c.num_kv_heads);
    EXPECT_EQ(last.heads.end, c.num_heads);
    EXPECT_EQ(last.ffn.end, c.ffn);
    EXPECT_EQ(last.vocab.end, c.vocab);
    for (const RankShard& s : *shards) {
      EXPECT_LE(most_heads - s.kv_heads.size(), 1);
      EXPECT_LE(most_ffn - s.ffn.size(), 32);
    }
  }
}

}  // namespace
}  // namespace tandem::model
