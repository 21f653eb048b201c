#include "router/text/smollm_split.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tandem::text {
namespace {

using Pieces = std::vector<std::string>;

Pieces Split(std::string_view text) {
  Pieces pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = SmolLmPieceEnd(text, begin);
    if (end <= begin) return {"no progress"};
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

// The expectations are what Hugging Face's pre-tokenizers give (Digits, then ByteLevel).
TEST(SmolLmSplit, CutsAsTheRegularExpression) {
  EXPECT_EQ(Split("Hello world"), (Pieces{"Hello", " world"}));
  EXPECT_EQ(Split("in 1984, 2x"), (Pieces{"in", " ", "1", "9", "8", "4", ",", " ", "2", "x"}));
  EXPECT_EQ(Split("I'm he'll 've"), (Pieces{"I", "'m", " he", "'ll", " '", "ve"}));
  EXPECT_EQ(Split("'S 'd'x"), (Pieces{"'", "S", " '", "d", "'", "x"}));
  EXPECT_EQ(Split("don't!'s"), (Pieces{"don", "'t", "!'", "s"}));
  EXPECT_EQ(Split("a  b"), (Pieces{"a", " ", " b"}));
  EXPECT_EQ(Split("a\n\nb"), (Pieces{"a", "\n", "\n", "b"}));
  EXPECT_EQ(Split("a\n b"), (Pieces{"a", "\n", " b"}));
  EXPECT_EQ(Split("a \nb"), (Pieces{"a", " ", "\n", "b"}));
  EXPECT_EQ(Split("  "), (Pieces{"  "}));
  EXPECT_EQ(Split("a   "), (Pieces{"a", "   "}));
  EXPECT_EQ(Split("a   1"), (Pieces{"a", "   ", "1"}));
  EXPECT_EQ(Split("x == y;"), (Pieces{"x", " ==", " y", ";"}));
  EXPECT_EQ(Split(""), Pieces{});
}

TEST(SmolLmSplit, KnowsUnicode) {
  EXPECT_EQ(Split("straße é"), (Pieces{"straße", " é"}));
  EXPECT_EQ(Split("你好,世界"), (Pieces{"你好", ",", "世界"}));
  EXPECT_EQ(Split("x²Ⅷ٣½"), (Pieces{"x", "²", "Ⅷ", "٣", "½"}));  // No, Nl, Nd, No
  EXPECT_EQ(Split("a\u00a0b"), (Pieces{"a", "\u00a0", "b"}));    // a space that joins no word
  EXPECT_EQ(Split("a\u0085\u3000b"), (Pieces{"a", "\u0085", "\u3000", "b"}));
  EXPECT_EQ(Split("a\u200b\u180eb"), (Pieces{"a", "\u200b\u180e", "b"}));  // not white space
  EXPECT_EQ(Split("a\x1c b"), (Pieces{"a", "\x1c", " b"}));                // nor is this
  EXPECT_EQ(Split("e\u0301"), (Pieces{"e", "\u0301"}));                    // a mark is no letter
  EXPECT_EQ(Split(" 😀😀 𠀀"), (Pieces{" 😀😀", " 𠀀"}));
}

TEST(SmolLmSplit, SurvivesInvalidUtf8) {
  EXPECT_EQ(Split("a\xff\xc3"), (Pieces{"a", "\xff\xc3"}));
  EXPECT_EQ(Split("\xe2\x82"), (Pieces{"\xe2\x82"}));
}

}  // namespace
}  // namespace tandem::text
