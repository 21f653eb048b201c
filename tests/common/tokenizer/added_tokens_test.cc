#include "common/tokenizer/added_tokens.h"

#include <gtest/gtest.h>

namespace tandem::text {
namespace {

TEST(AddedTokens, FindsTheFirstAndOfThoseTheLongest) {
  const AddedTokens tokens({{.text = "<|im|>", .id = 1},
                            {.text = "<|im|>x", .id = 2},
                            {.text = "<|", .id = 3},
                            {.text = "end", .id = 4}});
  const std::string_view text = "a<<|im|>xy end <|";
  auto match = tokens.Find(text, 0, 0);
  EXPECT_EQ(match.begin, 2u);
  EXPECT_EQ(match.end, 9u);
  EXPECT_EQ(match.id, 2);
  match = tokens.Find(text, match.next, match.end);
  EXPECT_EQ(match.begin, 11u);
  EXPECT_EQ(match.id, 4);
  match = tokens.Find(text, match.next, match.end);
  EXPECT_EQ(match.begin, 15u);
  EXPECT_EQ(match.id, 3);
  match = tokens.Find(text, text.size(), text.size());
  EXPECT_EQ(match.begin, text.size());
  EXPECT_EQ(match.end, text.size());
}

TEST(AddedTokens, FallsBackToAShorterTokenWhenALongerBreaksOff) {
  const AddedTokens tokens({{.text = "<<", .id = 1}, {.text = "<<abc>", .id = 2}});
  const auto match = tokens.Find("<<abd>", 0, 0);
  EXPECT_EQ(match.end, 2u);
  EXPECT_EQ(match.id, 1);
}

TEST(AddedTokens, BytesAboveAsciiSortAsUnsigned) {
  const AddedTokens tokens(
      {{.text = "<｜end｜>", .id = 1}, {.text = "<|end|>", .id = 2}, {.text = "<\x7f", .id = 3}});
  EXPECT_EQ(tokens.Find("<｜end｜>", 0, 0).id, 1);
  EXPECT_EQ(tokens.Find("<|end|>", 0, 0).id, 2);
  EXPECT_EQ(tokens.Find("<\x7f", 0, 0).id, 3);
}

// As the golden data has it; here one by one.
TEST(AddedTokens, TakeWhiteSpaceAndStandAlone) {
  const AddedTokens tokens({{.text = "<l>", .id = 1, .lstrip = true},
                            {.text = "<r>", .id = 2, .rstrip = true},
                            {.text = "word", .id = 3, .single_word = true},
                            {.text = "<s>", .id = 4, .special = true},
                            {.text = "  ", .id = 5}});
  const auto split = [&](std::string_view text, bool with_special) {
    std::string out;
    tokens.Split(
        text, with_special, [&](std::string_view part, bool) { out.append(part).append("|"); },
        [&](TokenId id) { out += std::to_string(id) + "|"; });
    return out;
  };
  EXPECT_EQ(split("a \u3000<l> b", true), "a|1| b|");
  EXPECT_EQ(split("a<r>\n b<r>", true), "a|2|b|2|");
  EXPECT_EQ(split("<r> <l>x", true), "2|1|x|");
  EXPECT_EQ(split("word sword word\u00e9 (word)", true), "3| sword word\u00e9 (|3|)|");
  EXPECT_EQ(split("<s>a", true), "4|a|");
  EXPECT_EQ(split("<s>a", false), "<s>a|");
  EXPECT_EQ(split("<r>  a", true), "2|5|a|");  // as `tokenizers` finds it twice
}

TEST(AddedTokens, NoneFindNothing) { EXPECT_EQ(AddedTokens().Find("text", 1, 1).begin, 4u); }

}  // namespace
}  // namespace tandem::text
