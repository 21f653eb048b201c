#include "router/text/special_tokens.h"

#include <gtest/gtest.h>

namespace tandem::text {
namespace {

TEST(SpecialTokens, FindsTheFirstAndOfThoseTheLongest) {
  const SpecialTokens tokens({{"<|im|>", 1}, {"<|im|>x", 2}, {"<|", 3}, {"end", 4}});
  const std::string_view text = "a<<|im|>xy end <|";
  auto match = tokens.Find(text, 0);
  EXPECT_EQ(match.begin, 2u);
  EXPECT_EQ(match.size, 7u);
  EXPECT_EQ(match.id, 2);
  match = tokens.Find(text, match.begin + match.size);
  EXPECT_EQ(match.begin, 11u);
  EXPECT_EQ(match.id, 4);
  match = tokens.Find(text, match.begin + match.size);
  EXPECT_EQ(match.begin, 15u);
  EXPECT_EQ(match.id, 3);
  match = tokens.Find(text, text.size());
  EXPECT_EQ(match.begin, text.size());
  EXPECT_EQ(match.size, 0u);
}

TEST(SpecialTokens, FallsBackToAShorterTokenWhenALongerBreaksOff) {
  const SpecialTokens tokens({{"<<", 1}, {"<<abc>", 2}});
  const auto match = tokens.Find("<<abd>", 0);
  EXPECT_EQ(match.size, 2u);
  EXPECT_EQ(match.id, 1);
}

TEST(SpecialTokens, BytesAboveAsciiSortAsUnsigned) {
  const SpecialTokens tokens({{"<｜end｜>", 1}, {"<|end|>", 2}, {"<\x7f", 3}});
  EXPECT_EQ(tokens.Find("<｜end｜>", 0).id, 1);
  EXPECT_EQ(tokens.Find("<|end|>", 0).id, 2);
  EXPECT_EQ(tokens.Find("<\x7f", 0).id, 3);
}

TEST(SpecialTokens, NoneFindNothing) { EXPECT_EQ(SpecialTokens().Find("text", 1).begin, 4u); }

}  // namespace
}  // namespace tandem::text
