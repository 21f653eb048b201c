#include "common/tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace tandem::text {
namespace {

// The definition: while any pair can be merged, merge the leftmost of those with the lowest rank.
std::vector<TokenId> Naive(std::string_view piece, const std::vector<Bpe::Merge>& merges) {
  std::map<std::pair<TokenId, TokenId>, size_t> ranks;
  for (size_t i = 0; i < merges.size(); ++i) ranks[{merges[i].left, merges[i].right}] = i;
  std::vector<TokenId> ids(piece.begin(), piece.end());
  while (true) {
    size_t best = merges.size();
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = ranks.find({ids[i], ids[i + 1]});
      if (it != ranks.end() && it->second < best) best = it->second, at = i;
    }
    if (best == merges.size()) return ids;
    ids[at] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

Bpe::Alphabet Ascii() {
  Bpe::Alphabet alphabet;
  for (int b = 0; b < 128; ++b) alphabet.bytes[b] = b;
  return alphabet;
}

std::vector<TokenId> Encode(const Bpe& bpe, std::string_view piece) {
  Bpe::Scratch scratch;
  std::vector<TokenId> ids;
  bpe.Encode(piece, scratch, ids);
  return ids;
}

TEST(Bpe, MergesAsTheDefinitionSays) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  for (int round = 0; round < 100; ++round) {
    std::vector<Bpe::Merge> merges;
    std::vector<TokenId> known = {'a', 'b', 'c'};
    for (TokenId next = 128; next < 150; ++next) {
      merges.push_back({known[rng() % known.size()], known[rng() % known.size()], next});
      known.push_back(next);
    }
    std::shuffle(merges.begin(), merges.end(), rng);
    const Bpe bpe(Ascii(), merges);
    for (const size_t size : {0, 1, 2, 7, 20, 47, 48, 49, 50, 200, 1000}) {
      std::string piece;
      while (piece.size() < size) piece.push_back(static_cast<char>('a' + rng() % (1 + round % 3)));
      ASSERT_EQ(Encode(bpe, piece), Naive(piece, merges)) << piece;
    }
  }
}

TEST(Bpe, LeavesOutBytesWithoutATokenBeforeMerging) {
  const Bpe bpe(Ascii(), std::vector<Bpe::Merge>{{'a', 'b', 200}});
  EXPECT_EQ(Encode(bpe,
                   "a\xff"
                   "b"),
            std::vector<TokenId>{200});
  EXPECT_EQ(Encode(bpe, "\xff\xfe"), std::vector<TokenId>{});
  std::string piece(100, '\xff');
  EXPECT_EQ(Encode(bpe, piece), std::vector<TokenId>{});
  EXPECT_EQ(Encode(bpe, "a" + piece + "b"), std::vector<TokenId>{200});
}

TEST(Bpe, TakesAShortcutOnlyWhereMergingGivesTheSame) {
  // "abc" has a token, but the pair "bc" goes first and nothing merges "a" with it.
  Bpe bpe(Ascii(), std::vector<Bpe::Merge>{{'b', 'c', 200}, {'a', 'b', 201}, {201, 'c', 202}});
  bpe.AddShortcut("abc", 202);
  bpe.AddShortcut("ab", 201);
  EXPECT_EQ(Encode(bpe, "abc"), (std::vector<TokenId>{'a', 200}));
  EXPECT_EQ(Encode(bpe, "ab"), std::vector<TokenId>{201});
}

TEST(Bpe, CharactersFallBackToBytesAndThoseToTheUnknownToken) {
  Bpe::Alphabet alphabet;
  alphabet.characters = {{'a', 1}, {0xe9, 2}};
  for (const int byte : {0xe2, 0x82, 0xac, 0xff}) alphabet.bytes[byte] = byte;
  alphabet.unknown = 0;
  const std::vector<Bpe::Merge> merges = {{1, 2, 300}, {2, 2, 301}, {300, 2, 302, true}};
  const std::string text = "a\u00e9\u20ac\xff zz\u00e9\u00e9";
  EXPECT_EQ(Encode(Bpe(alphabet, merges), text),
            (std::vector<TokenId>{300, 0xe2, 0x82, 0xac, 0xff, 0, 0, 0, 301}));
  alphabet.fuse_unknown = true;
  EXPECT_EQ(Encode(Bpe(alphabet, merges), text),
            (std::vector<TokenId>{300, 0xe2, 0x82, 0xac, 0xff, 0, 301}));
  // Of equal rank the leftmost goes first, whatever the order in the list.
  const std::vector<Bpe::Merge> ties = {{2, 2, 301}, {1, 2, 300, true}};
  EXPECT_EQ(Encode(Bpe(alphabet, ties), "a\u00e9\u00e9"), (std::vector<TokenId>{300, 2}));
}

TEST(Bpe, AShortcutMayBeTold) {
  Bpe bpe(Ascii(), {});
  bpe.AddShortcut("abc", 202, /*always=*/true);
  EXPECT_EQ(Encode(bpe, "abc"), std::vector<TokenId>{202});
}

}  // namespace
}  // namespace tandem::text
