#include "common/hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace tandem {
namespace {

// Golden values pin the canonical bytes: router and workers of different builds must agree, so a
// change here is a change of the wire's major version.
TEST(BlockHash, CanonicalBytesDoNotChange) {
  const BlockHash root = RootHash("fingerprint", "");
  const std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const BlockHash first = HashBlock(root, tokens);
  EXPECT_EQ(root, (BlockHash{0x85572ac9aa7527b7ULL, 0x445cd2526f3d93ebULL}));
  EXPECT_EQ(first, (BlockHash{0x2dbc22866671229dULL, 0x234733db7f3cbd85ULL}));
}

TEST(BlockHash, DependsOnParentTokensSeedAndSalt) {
  const std::vector<TokenId> a(16, 1), b(16, 2);
  const BlockHash root = RootHash("m", "");
  EXPECT_NE(HashBlock(root, a), HashBlock(root, b));
  EXPECT_NE(HashBlock(root, a), HashBlock(HashBlock(root, a), a));
  EXPECT_NE(RootHash("m", ""), RootHash("m", "tenant"));
  EXPECT_NE(RootHash("ab", "c"), RootHash("a", "bc"));
}

}  // namespace
}  // namespace tandem
