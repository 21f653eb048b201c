#include "common/tokenizer/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/tokenizer/pre_tokenizer.h"

namespace tandem::text {
namespace {

using ::testing::HasSubstr;

// All matches, with what lies between them in brackets.
std::string Cut(std::string_view pattern, std::string_view bytes) {
  const auto regex = Regex::Compile(pattern);
  if (!regex.ok()) return std::string(Message(regex.status()));
  Regex::Text text;
  regex->Begin(bytes, text);
  std::string out;
  for (size_t at = 0; at < bytes.size();) {
    const Regex::Match match = regex->Find(text, at);
    if (!out.empty()) out += '|';
    if (match.begin > at) out.append("[").append(bytes.substr(at, match.begin - at)).append("]");
    if (match.end > match.begin) {
      if (match.begin > at) out += '|';
      out.append(bytes.substr(match.begin, match.end - match.begin));
    }
    at = match.end;
  }
  return out;
}

TEST(Regex, MatchesAsOnigurumaDoes) {
  const struct {
    std::string_view pattern, text, cut;
  } cases[] = {
      {"a", "banana", "[b]|a|[n]|a|[n]|a"},
      {"ab|a", "aab", "a|ab"},
      {"a|ab", "aab", "a|a|[b]"},  // the first alternative wins, not the longest
      {R"(\s+(?!\S)|\s+)", "a   b ", "[a]|  | |[b]| "},
      {R"(\s*[\r\n]+|\s+)", " \n \n  x", " \n \n|  |[x]"},
      {R"(\p{N}{1,3})", "12345", "123|45"},
      {R"(\p{N}{1,3}+)", "1234567", "1234567"},  // Ruby repeats it
      {R"(\p{Lu}?\p{Ll}++)", "AbcD", "Abc|[D]"},
      {R"([ab]*+a|c)", "abac", "[aba]|c"},
      {R"([ab]*a|c)", "abac", "aba|c"},
      {"(?i:'s|'LL)", "'S'ſ'lL's", "'S|'ſ|'lL|'s"},
      {"'(?i:[sd]|ll)", "'Sx'D", "'S|[x]|'D"},
      {"x(?i)yz|w", "xYZXyZW", "xYZ|[XyZ]|W"},
      {R"([^(\s|[.,])]+)", "a.b|c d", "a|[.]|b|[|]|c|[ ]|d"},
      {R"([\w&&[^\d]]+)", "ab12", "ab|[12]"},
      {R"(\s+$)", "a  \nb ", "[a]|  |[\nb]| "},
      {R"(^\d)", "1\n2", "1|[\n]|2"},
      {R"(\A\d|\d\z)", "12\n3", "1|[2\n]|3"},
      {"(ab|c)+d", "xabcd", "[x]|abcd"},
      {"(?=a)[ab]+", "bab", "[b]|ab"},
      {R"([\]\-x-z]+)", "a]-y", "[a]|]-y"},
      {R"(\x41\x{1F600}\u00e9)", "A😀é", "A😀é"},
      {"a{2}b{1,}c{,2}|{", "aabcc{", "aabcc|{"},
      {".", "é\n😀", "é|[\n]|😀"},
      {R"(\P{L}|\p{^N})", "1a", "1|a"},
  };
  for (const auto& c : cases) EXPECT_EQ(Cut(c.pattern, c.text), c.cut) << c.pattern;
}

TEST(Regex, BytesThatAreNotUtf8AreCharacters) {
  EXPECT_EQ(Cut("\\p{So}+", "a\xff\x80\xe2\x82z"), "[a]|\xff\x80\xe2\x82|[z]");
}

TEST(Regex, NamesWhatIsNotSupportedOrWrong) {
  const struct {
    std::string_view pattern, error;
  } cases[] = {
      {"a+?", "byte 2: a lazy quantifier is not supported"},
      {"(?<=a)b", "this kind of group is not supported"},
      {"(?>a)", "this kind of group is not supported"},
      {"(ab)++", "a possessive group is not supported"},
      {R"((a)\1)", "this escape is not supported"},
      {R"(\p{Han})", "this property is not supported"},
      {"[[:alpha:]]", "a POSIX bracket is not supported"},
      {"a*", "matches the empty string"},
      {"(a*)*b", "the repetition of what may be empty"},
      {"[a", "'[' without ']'"},
      {"[b-a]", "a range that is none"},
      {"(a", "'(' without ')'"},
      {"a)", "')' without '('"},
      {"*", "nothing to repeat"},
      {"((ab){1000}b){1000}", "expression of this size"},
      {"a{3,2}", "the wrong way round"},
      {"\\", "a backslash at the end"},
      {"\xff", "not UTF-8"},
  };
  for (const auto& c : cases) EXPECT_THAT(Cut(c.pattern, "text"), HasSubstr(c.error)) << c.pattern;
  EXPECT_THAT(Cut(std::string(1000, '('), ""), HasSubstr("nested too deeply"));
}

// Steps, not seconds: the work for 4 n characters is at most 4 times that for n, and a little.
TEST(Regex, HostileTextIsLinearForEveryPreTokenizer) {
  const std::string_view units[] = {"a",  "A",  " ",    "\n",     " \n", "1", "'", "é",
                                    "字", "か", "ก",    "\u0301", "!",   "/", "👍", "\u00a0",
                                    "aA", "a ", "\xff", "!\n",    "ǅ",   "\t"};
  const std::string_view names[] = {"gpt-2",          "smollm",     "llama-bpe", "qwen2",
                                    "qwen35",         "tekken",     "gpt-4o",    "deepseek-llm",
                                    "deepseek-coder", "deepseek-v3"};
  for (const std::string_view name : names) {
    const auto pre_tokenizer = PreTokenizer::FromGgufName(name);
    ASSERT_TRUE(pre_tokenizer.ok());
    for (const std::string_view unit : units) {
      uint64_t steps[2] = {0, 0};
      for (const int round : {0, 1}) {
        std::string text;
        for (size_t i = 0; i < (round == 0 ? 4000u : 16000u); ++i) text += unit;
        PreTokenizer::Scratch scratch;
        pre_tokenizer->Apply(text, true, scratch, [](std::string_view) {});
        steps[round] = scratch.steps;
      }
      EXPECT_GT(steps[0], 0u);
      EXPECT_LE(steps[1], steps[0] * 4 + 1000) << name << " '" << unit << "'";
      EXPECT_LE(steps[1], 16000 * unit.size() * 40) << name << " '" << unit << "'";
    }
  }
}

TEST(Regex, StopsWhereAnExpressionIsNotLinear) {
  const auto regex = Regex::Compile("(a|aa|aaa)+b");
  ASSERT_TRUE(regex.ok());
  Regex::Text text;
  regex->Begin(std::string(10000, 'a'), text);
  EXPECT_EQ(regex->Find(text, 0).begin, 10000u);
  EXPECT_EQ(text.steps, 0u);
}

}  // namespace
}  // namespace tandem::text
