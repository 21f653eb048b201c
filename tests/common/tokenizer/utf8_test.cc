#include "common/tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace tandem::text {
namespace {

std::string Streamed(std::string_view bytes, size_t piece) {
  Utf8Stream stream;
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += piece) stream.Push(bytes.substr(at, piece), out);
  stream.Finish(out);
  return out;
}

TEST(IsValidUtf8, KnowsTheBounds) {
  for (const std::string_view good :
       {"", "plain ASCII of more than one machine word", "\x7f", "\xc2\x80", "\xdf\xbf",
        "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf", "eight by\xe2\x82\xac"}) {
    EXPECT_TRUE(IsValidUtf8(good)) << good;
  }
  for (const std::string_view bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xe2\x82",
        "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
        "12345678\xff", "1234567\xf0\x90\x80", "\xe2\x82\x41", "\xf0\x90\x41\x80"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << bad.size();
  }
}

TEST(ReadCodePoint, DecodesAndStepsOverWhatIsInvalid) {
  const std::string_view text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff";
  std::vector<std::pair<uint32_t, size_t>> points;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    points.emplace_back(point.value, point.size);
    at += point.size;
  }
  EXPECT_EQ(points, (std::vector<std::pair<uint32_t, size_t>>{
                        {'a', 1}, {0xe9, 2}, {0x20ac, 3}, {0x1f600, 4}, {0xfffd, 1}}));
}

// The expectations are Python's bytes.decode("utf-8", "replace"), R stands for U+FFFD.
TEST(Utf8Stream, ReplacesWhatPythonReplaces) {
  const struct {
    std::string_view bytes, expected;
  } cases[] = {
      {"a\xffz", "aRz"},
      {"\xe2\x82z", "Rz"},
      {"\xe2\x82", "R"},
      {"\xf0\x9f\x98", "R"},
      {"\xf0\x9f\x98\xf0\x9f\x98\x80", "R\xf0\x9f\x98\x80"},
      {"\xe0\x80\x80", "RRR"},
      {"\xed\xa0\x80", "RRR"},
      {"\xf0\x80\x80\x80", "RRRR"},
      {"\xf4\x90\x80\x80", "RRRR"},
      {"\xc0\xaf", "RR"},
      {"\xc3\xc3\xa9", "R\xc3\xa9"},
      {"\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "RRRbRcRRd"},
  };
  for (const auto& [bytes, expected] : cases) {
    std::string wanted;
    for (const char c : expected) c == 'R' ? wanted += kReplacementCharacter : wanted += c;
    for (size_t piece = 1; piece <= bytes.size(); ++piece) {
      EXPECT_EQ(Streamed(bytes, piece), wanted) << piece;
    }
  }
}

TEST(Utf8Stream, GivesValidTextForAnyBytesHoweverSplit) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  constexpr std::string_view kBytes = "a\x80\xbf\xc3\xa9\xe0\xa0\xed\x9f\xf0\x90\xf4\x8f\xff";
  for (int i = 0; i < 5000; ++i) {
    std::string bytes;
    for (size_t n = rng() % 20; n > 0; --n) bytes.push_back(kBytes[rng() % kBytes.size()]);
    const std::string whole = Streamed(bytes, 100);
    EXPECT_TRUE(IsValidUtf8(whole));
    EXPECT_EQ(Streamed(bytes, 1 + rng() % 4), whole);
    EXPECT_EQ(whole == bytes, IsValidUtf8(bytes));
  }
}

}  // namespace
}  // namespace tandem::text
