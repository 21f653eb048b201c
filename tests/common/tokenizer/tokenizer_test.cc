#include "common/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/common/tokenizer/tiny_tokenizer.h"

namespace tandem::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr TokenId kFirstByte = TinyTokenizer::kFirstByte;
constexpr TokenId kFirstMerge = TinyTokenizer::kFirstMerge;

TEST(Tokenizer, EncodesWithMergesWithinPieces) {
  const auto tokenizer = TinyTokenizer({{"h", "e"}, {"l", "l"}, {" ", "he"}, {"o", " "}}).Build();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->Encode("hello hell"),
              ElementsAre(kFirstMerge, kFirstMerge + 1, kFirstByte + 'o', kFirstMerge + 2,
                          kFirstMerge + 1));
  EXPECT_THAT(tokenizer->Encode(""), ElementsAre());
}

TEST(Tokenizer, EveryByteComesBack) {
  const auto tokenizer = TinyTokenizer().Build();
  ASSERT_NE(tokenizer, nullptr);
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes.push_back(static_cast<char>(b));
  const auto ids = tokenizer->Encode(bytes);
  EXPECT_EQ(ids.size(), 256u);
  EXPECT_EQ(tokenizer->Decode(ids), bytes);
  for (int b = 0; b < 256; ++b) EXPECT_EQ(ids[b], kFirstByte + b);
}

TEST(Tokenizer, ReadsControlTokensInTextOnlyWhenAsked) {
  const auto tokenizer = TinyTokenizer().Build();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->Encode("<|im_start|>a<|im_end|>"), ElementsAre(1, kFirstByte + 'a', 2));
  const auto ids = tokenizer->Encode("<|im_end|>", false);
  EXPECT_EQ(ids.size(), 10u);
  EXPECT_EQ(tokenizer->Decode(ids, false), "<|im_end|>");
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{1, kFirstByte + 'a', 2}),
            "<|im_start|>a<|im_end|>");
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{1, kFirstByte + 'a', 2}, false), "a");
}

TEST(Tokenizer, ReadsTokensTheAuthorAddedAlways) {
  TinyTokenizer tiny;
  tiny.AddToken("<tool>", 4);
  const auto tokenizer = tiny.Build();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->Encode("<tool>", false), ElementsAre(kFirstMerge));
  EXPECT_THAT(tokenizer->Encode("<tool>", true), ElementsAre(kFirstMerge));
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{kFirstMerge}, false), "<tool>");
}

TEST(Tokenizer, KnowsTheTokensThatEndAReply) {
  const auto tokenizer = TinyTokenizer().Build();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_THAT(tokenizer->end_ids(), ElementsAre(2));
  EXPECT_TRUE(tokenizer->IsControl(0));
  EXPECT_FALSE(tokenizer->IsControl(3));
}

TEST(Tokenizer, IdsOutsideTheVocabularyHaveNoText) {
  const auto tokenizer = TinyTokenizer().Build();
  ASSERT_NE(tokenizer, nullptr);
  for (const TokenId id : {-1, tokenizer->vocab_size(), 1 << 30}) {
    EXPECT_EQ(tokenizer->TokenText(id), "");
    EXPECT_FALSE(tokenizer->IsControl(id));
    EXPECT_EQ(tokenizer->Decode({&id, 1}), "");
  }
}

TEST(Tokenizer, HostileTextIsEncodedInReasonableTime) {
  const auto tokenizer = TinyTokenizer({{"a", "a"}, {"aa", "aa"}, {" ", " "}, {"<", "|"}}).Build();
  ASSERT_NE(tokenizer, nullptr);
  constexpr size_t kSize = 1 << 18;
  // Quadratic work would run into the test's time limit.
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, 'a')).size(), kSize / 4);
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, ' ')).size(), kSize / 2);
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, '<')).size(), kSize);
  std::string almost;
  while (almost.size() < kSize) almost += "<|im_start";
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(almost)), almost);
}

TEST(Tokenizer, NamesWhatIsNotSupportedOrWrong) {
  const auto error = [](const TinyTokenizer& tiny) {
    const auto result = tiny.TryBuild();
    return result.ok() ? "no error" : std::string(Message(result.status()));
  };
  TinyTokenizer tiny;
  tiny.model = "bert";
  EXPECT_THAT(error(tiny), HasSubstr("tokenizer.ggml.model 'bert' is not supported"));
  tiny.model = "llama";
  EXPECT_THAT(error(tiny), HasSubstr("tokenizer.ggml.scores"));
  tiny = TinyTokenizer();
  tiny.pre = "nobody's";
  EXPECT_THAT(error(tiny), HasSubstr("tokenizer.ggml.pre 'nobody's' is not supported"));
  tiny = TinyTokenizer();
  tiny.merges = {"a b"};
  EXPECT_THAT(error(tiny), HasSubstr("merge 0: a token or the result is not in the vocabulary"));
  tiny.merges = {"ab"};
  EXPECT_THAT(error(tiny), HasSubstr("merge 0: not two tokens"));
  tiny = TinyTokenizer();
  tiny.AddToken("a");
  EXPECT_THAT(error(tiny), HasSubstr("are the same"));
  tiny = TinyTokenizer();
  tiny.types.pop_back();
  EXPECT_THAT(error(tiny), HasSubstr("258 entries for 259 tokens"));
  tiny = TinyTokenizer();
  tiny.AddToken("", 3);
  EXPECT_THAT(error(tiny), HasSubstr("special token 259 is empty"));
  tiny = TinyTokenizer();
  tiny.tokens = {"a"};
  tiny.types = {1};
  EXPECT_THAT(error(tiny), HasSubstr("bos_token_id is 1, but the vocabulary has 1 tokens"));
}

}  // namespace
}  // namespace tandem::text
