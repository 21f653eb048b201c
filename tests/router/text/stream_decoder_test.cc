#include "router/text/stream_decoder.h"

#include <gtest/gtest.h>

#include <random>

#include "common/tokenizer/utf8.h"
#include "tests/common/tokenizer/tiny_tokenizer.h"

namespace tandem::text {
namespace {

// The definition: all bytes, made UTF-8, cut before the stop string that is complete first, of
// those complete together the longest.
std::string CutAtFirstStop(const std::string& text, std::span<const std::string> stops,
                           bool& stopped) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) {
      stopped = true;
      return text.substr(0, end - longest);
    }
  }
  stopped = false;
  return text;
}

class StreamDecoderTest : public testing::Test {
 protected:
  std::vector<TokenId> Ids(std::string_view text) const { return tokenizer_->Encode(text); }

  std::unique_ptr<const Tokenizer> tokenizer_ =
      TinyTokenizer({{"a", "b"}, {"b", "a"}, {"ab", "ab"}, {"\xe2", "\x82"}, {"\xac", "a"}})
          .Build();
};

TEST_F(StreamDecoderTest, HoldsBackHalfACharacter) {
  StreamDecoder decoder(*tokenizer_, {});
  const TokenId first = TinyTokenizer::kFirstMerge + 3;  // the first two bytes of the euro sign
  const TokenId second = TinyTokenizer::kFirstMerge + 4;
  EXPECT_EQ(decoder.Push({&first, 1}).text, "");
  EXPECT_EQ(decoder.Push({&second, 1}).text, "€a");
  EXPECT_EQ(decoder.Push({&first, 1}).text, "");
  EXPECT_EQ(decoder.Flush(), kReplacementCharacter);
  EXPECT_EQ(decoder.Flush(), "");
}

TEST_F(StreamDecoderTest, HoldsBackOnlyWhatMayBecomeAStop) {
  const std::vector<std::string> stops = {"\n\nUser:", "END"};
  StreamDecoder decoder(*tokenizer_, {.stop = stops});
  EXPECT_EQ(decoder.Push(Ids("hi\n")).text, "hi");
  EXPECT_EQ(decoder.Push(Ids("\nUs")).text, "");
  EXPECT_EQ(decoder.Push(Ids("a")).text, "\n\nUsa");
  EXPECT_EQ(decoder.Push(Ids("E")).text, "");
  EXPECT_EQ(decoder.Push(Ids("N")).text, "");
  EXPECT_EQ(decoder.Flush(), "EN");
}

TEST_F(StreamDecoderTest, StopsAndSaysWhichTokenDidIt) {
  const std::vector<std::string> stops = {"END"};
  StreamDecoder decoder(*tokenizer_, {.stop = stops});
  const auto output = decoder.Push(Ids("x ENDless"));
  EXPECT_EQ(output.text, "x ");
  EXPECT_TRUE(output.stopped);
  EXPECT_EQ(output.num_tokens, 5);
  const auto after = decoder.Push(Ids("more"));
  EXPECT_EQ(after.text, "");
  EXPECT_TRUE(after.stopped);
  EXPECT_EQ(after.num_tokens, 0);
  EXPECT_EQ(decoder.Flush(), "");
}

TEST_F(StreamDecoderTest, AStopMayBeginInsideAToken) {
  const std::vector<std::string> stops = {"ba"};
  StreamDecoder decoder(*tokenizer_, {.stop = stops});
  const TokenId abab = TinyTokenizer::kFirstMerge + 2;
  const auto output = decoder.Push({&abab, 1});
  EXPECT_EQ(output.text, "a");
  EXPECT_TRUE(output.stopped);
}

TEST_F(StreamDecoderTest, OfStopsTheOneCompleteFirstWins) {
  const std::vector<std::string> stops = {"abcd", "c", "bc"};
  StreamDecoder decoder(*tokenizer_, {.stop = stops});
  EXPECT_EQ(decoder.Push(Ids("xabcd")).text, "xa");
}

TEST_F(StreamDecoderTest, WhatIsAskedForBeyondThat) {
  const std::vector<std::string> stops = {"END", "D"};
  StreamDecoder with_stop(*tokenizer_, {.stop = stops, .include_stop = true});
  EXPECT_EQ(with_stop.Push(Ids("xENDy")).text, "xEND");
  EXPECT_EQ(with_stop.stopped_by(), "END");
  StreamDecoder later(*tokenizer_, {.stop = stops, .min_tokens = 5});
  EXPECT_EQ(later.Push(Ids("xEND")).text, "xEND");  // the first four
  EXPECT_EQ(later.Push(Ids("ED")).text, "E");       // "E" is the fifth
  EXPECT_EQ(later.stopped_by(), "D");
  StreamDecoder special(*tokenizer_, {.with_special = true});
  const std::vector<TokenId> ids = {1, TinyTokenizer::kFirstByte + 'x', 2};
  EXPECT_EQ(special.Push(ids).text,
            std::string(tokenizer_->TokenText(1)) + "x" + std::string(tokenizer_->TokenText(2)));
  const std::vector<TokenId> mark = {2};
  StreamDecoder marked(*tokenizer_, {.shown = mark});
  EXPECT_EQ(marked.Push(ids).text, "x" + std::string(tokenizer_->TokenText(2)));
  const auto silent = special.Push(ids, /*silent_end=*/true);
  EXPECT_EQ(silent.text, std::string(tokenizer_->TokenText(1)) + "x");
  EXPECT_EQ(silent.num_tokens, 3);
  EXPECT_FALSE(silent.stopped);
}

TEST_F(StreamDecoderTest, ControlTokensHaveNoTextAndEmptyStopsNoEffect) {
  const std::vector<std::string> stops = {""};
  StreamDecoder decoder(*tokenizer_, {.stop = stops});
  const std::vector<TokenId> ids = {1, TinyTokenizer::kFirstByte + 'x', 2, 99999, -1};
  const auto output = decoder.Push(ids);
  EXPECT_EQ(output.text, "x");
  EXPECT_FALSE(output.stopped);
  EXPECT_EQ(output.num_tokens, 5);
}

TEST_F(StreamDecoderTest, AnySplitGivesTheTextOfAllAtOnce) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  const std::vector<std::string> units = {"a", "b", "€", "é", "\xef\xbf\xbd"};
  const std::vector<TokenId> ids = [] {
    std::vector<TokenId> all = {0, 2};
    for (const TokenId b : {0x61, 0x62, 0xe2, 0x82, 0xac, 0xc3, 0xa9, 0xff}) {
      all.push_back(TinyTokenizer::kFirstByte + b);
    }
    for (TokenId m = 0; m < 5; ++m) all.push_back(TinyTokenizer::kFirstMerge + m);
    return all;
  }();
  int num_stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops(rng() % 4);
    for (std::string& stop : stops) {
      for (size_t n = 1 + rng() % 4; n > 0; --n) stop += units[rng() % units.size()];
    }
    std::vector<TokenId> tokens(rng() % 24);
    for (TokenId& token : tokens) token = ids[rng() % ids.size()];

    Utf8Stream utf8;
    std::string whole;
    utf8.Push(tokenizer_->Decode(tokens, false), whole);
    utf8.Finish(whole);
    bool expect_stopped = false;
    const std::string expected = CutAtFirstStop(whole, stops, expect_stopped);

    StreamDecoder decoder(*tokenizer_, {.stop = stops});
    std::string text;
    for (size_t at = 0; at < tokens.size();) {
      const size_t count = std::min<size_t>(1 + rng() % 5, tokens.size() - at);
      const auto output = decoder.Push(std::span(tokens).subspan(at, count));
      ASSERT_TRUE(IsValidUtf8(output.text));
      text += output.text;
      at += count;
      if (output.stopped) break;
    }
    text += decoder.Flush();
    ASSERT_EQ(text, expected);
    num_stopped += expect_stopped;
  }
  EXPECT_GT(num_stopped, 1000);
}

}  // namespace
}  // namespace tandem::text
