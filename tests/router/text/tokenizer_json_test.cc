#include "common/tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/tokenizer/tokenizer.h"
#include "router/text/stream_decoder.h"

namespace tandem::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A vocabulary of SentencePiece's kind; parts of the document can be replaced.
struct Document {
  std::string added =
      R"([{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true},
          {"id":2,"content":"</s>","special":true,"rstrip":true}])";
  std::string normalizer = R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
      {"type":"Replace","pattern":{"String":" "},"content":"▁"}]})";
  std::string pre_tokenizer = "null";
  std::string post_processor =
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
          {"Sequence":{"id":"A","type_id":0}}],"pair":[],
          "special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}})";
  std::string decoder = R"({"type":"Sequence","decoders":[
      {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},
      {"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})";
  std::string model =
      R"("type":"BPE","unk_token":"<unk>","byte_fallback":true,"fuse_unk":true,
         "vocab":{"<unk>":0,"<s>":1,"</s>":2,"<0xE2>":3,"<0x82>":4,"<0xAC>":5,"▁":6,"a":7,"b":8,
                  "▁a":9,"ab":10,"a▁":11,"ba▁":12})";
  std::string merges = R"([["▁","a"],"a b",["a","▁"],["b","a▁"]])";

  TokenizerFiles Files(std::string config = "", std::string generation = "") const {
    return {fmt::format(R"({{"version":"1.0","added_tokens":{},"normalizer":{},"pre_tokenizer":{},
                "post_processor":{},"decoder":{},"model":{{{},"merges":{}}}}})",
                        added, normalizer, pre_tokenizer, post_processor, decoder, model, merges),
            std::move(config), std::move(generation)};
  }
};

std::unique_ptr<const Tokenizer> Build(const TokenizerFiles& files) {
  auto spec = ReadTokenizerJson(files);
  if (!spec.ok()) {
    ADD_FAILURE() << spec.status();
    return nullptr;
  }
  auto tokenizer = Tokenizer::FromSpec(*std::move(spec), "test");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::string Error(const TokenizerFiles& files) {
  const auto spec = ReadTokenizerJson(files);
  return spec.ok() ? "no error" : std::string(Message(spec.status()));
}

TEST(TokenizerJson, EncodesAndDecodes) {
  const auto tokenizer = Build(Document().Files());
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->Encode("a€ z"), ElementsAre(9, 3, 4, 5, 6, 0));
  EXPECT_THAT(tokenizer->Encode("</s>  a"), ElementsAre(2, 9));
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{9, 3, 4, 5, 9}), "a€ a");
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{1, 9}), "<s> a");
  EXPECT_EQ(tokenizer->Decode(std::vector<TokenId>{1, 9}, /*with_special=*/false), "a");
  EXPECT_THAT(tokenizer->prefix_ids(), ElementsAre(1));
  EXPECT_TRUE(tokenizer->suffix_ids().empty());
}

// "ba▁" has a space marker inside, so that text is not cut before one that follows an a.
TEST(TokenizerJson, MergesAcrossSpacesWhereTokensDo) {
  const auto tokenizer = Build(Document().Files());
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_THAT(tokenizer->Encode("ba b ba"), ElementsAre(6, 12, 8, 6, 8, 7));
}

TEST(TokenizerJson, AStreamLosesTheFirstSpaceUnlessItContinuesAPrompt) {
  const auto tokenizer = Build(Document().Files());
  ASSERT_NE(tokenizer, nullptr);
  for (const bool continues : {false, true}) {
    StreamDecoder decoder(*tokenizer, {.continues = continues});
    const TokenId first[] = {1, 6}, then[] = {9};
    EXPECT_EQ(decoder.Push(first).text, continues ? " " : "");
    EXPECT_EQ(decoder.Push(then).text, " a");
  }
}

TEST(TokenizerJson, TheFilesBesideItNameTheTokensThatBeginAndEnd) {
  auto tokenizer = Build(Document().Files(
      R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":false,
          "add_eos_token":true,"clean_up_tokenization_spaces":false})",
      R"({"eos_token_id":[2,10]})"));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_TRUE(tokenizer->prefix_ids().empty());
  EXPECT_THAT(tokenizer->suffix_ids(), ElementsAre(2));
  EXPECT_THAT(tokenizer->end_ids(), ElementsAre(2, 10));
  tokenizer = Build(Document().Files("", R"({"eos_token_id":2})"));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->eos_id(), 2);
}

TEST(TokenizerJson, ReadsAFolder) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / fmt::format("tokenizer-{}", ::getpid());
  std::filesystem::create_directories(folder);
  EXPECT_THAT(std::string(Message(Tokenizer::FromFolder(folder).status())),
              HasSubstr("tokenizer.json: No such file"));
  const TokenizerFiles files = Document().Files("", R"({"eos_token_id":[2]})");
  std::ofstream(folder / "tokenizer.json") << files.tokenizer;
  std::ofstream(folder / "generation_config.json") << files.generation;
  const auto tokenizer = Tokenizer::FromFolder(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->end_ids(), ElementsAre(2));
  std::ofstream(folder / "tokenizer_config.json") << "{";
  EXPECT_THAT(std::string(Message(Tokenizer::FromFolder(folder).status())),
              HasSubstr("tokenizer_config.json: not JSON"));
  std::filesystem::remove_all(folder);
}

TEST(TokenizerJson, NamesWhatIsNotSupportedOrWrong) {
  const struct {
    std::string Document::*part;
    std::string value, error;
  } cases[] = {
      {&Document::normalizer, R"({"type":"Precompiled"})",
       "tokenizer.json: normalizer.type 'Precompiled' is not supported"},
      {&Document::normalizer, R"({"type":"Replace","pattern":{"String":""},"content":"x"})",
       "normalizer.pattern.String is empty"},
      {&Document::normalizer, R"({"type":"Replace","pattern":{"Regex":"a+?"},"content":"x"})",
       "normalizer.pattern.Regex: byte 2: a lazy quantifier is not supported"},
      {&Document::pre_tokenizer, R"({"type":"UnicodeScripts"})",
       "pre_tokenizer.type 'UnicodeScripts' is not supported"},
      {&Document::pre_tokenizer, R"({"type":"Sequence","pretokenizers":[{"type":"Digits"},{}]})",
       "pre_tokenizer.pretokenizers[1].type is missing"},
      {&Document::pre_tokenizer,
       R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]})",
       "pretokenizers[1]: a step after ByteLevel is not supported"},
      {&Document::pre_tokenizer, R"({"type":"ByteLevel"})", "byte_fallback with a ByteLevel"},
      {&Document::pre_tokenizer,
       R"({"type":"Split","pattern":{"String":"x"},"behavior":"Sideways"})",
       "pre_tokenizer.behavior 'Sideways' is not supported"},
      {&Document::decoder, R"({"type":"ByteLevel"})", "does not fit the pre-tokenizer"},
      {&Document::decoder, "null", "tokenizer.json: decoder is missing"},
      {&Document::decoder, R"({"type":"CTC"})", "decoder.type 'CTC' is not supported here"},
      {&Document::decoder,
       R"({"type":"Sequence","decoders":[{"type":"Fuse"},
           {"type":"Strip","content":" ","start":0,"stop":1}]})",
       "a Strip of other than spaces at the beginning"},
      {&Document::post_processor, R"({"type":"Strange"})",
       "post_processor.type 'Strange' is not supported"},
      {&Document::post_processor, R"({"type":"BertProcessing","cls":["x",99],"sep":["x"]})",
       "post_processor.sep is not a pair"},
      {&Document::model, R"("type":"Unigram")", "model.type 'Unigram' is not supported"},
      {&Document::model, R"("type":"BPE","vocab":{"a":-1})", "model.vocab: 'a' has no id"},
      {&Document::model, R"("type":"BPE","vocab":{"a":1,"b":1})", "have the id 1"},
      {&Document::model, R"("type":"BPE","dropout":0.1,"vocab":{})", "model.dropout"},
      {&Document::merges, R"(["a c"])", "model.merges[0]: a token or the result is not in"},
      {&Document::merges, R"([["a"]])", "model.merges[0]: not two tokens"},
      {&Document::added, R"([{"id":7,"content":"x"}])", "the id 7 is that of 'a'"},
      {&Document::added, R"([{"id":99999999,"content":"x"}])", "which is no token's id"},
      {&Document::added, R"([{"id":1}])", "added_tokens[0].content is missing"},
      {&Document::added, "7", "tokenizer.json: added_tokens is not a list"},
  };
  for (const auto& c : cases) {
    Document document;
    document.*c.part = c.value;
    EXPECT_THAT(Error(document.Files()), HasSubstr(c.error));
  }
  EXPECT_THAT(Error({"[", "", ""}), HasSubstr("tokenizer.json: not JSON"));
  EXPECT_THAT(Error(Document().Files(R"({"eos_token":"nothing"})")),
              HasSubstr("tokenizer_config.json: eos_token 'nothing' is not in the vocabulary"));
  EXPECT_THAT(Error(Document().Files("", R"({"eos_token_id":"x"})")),
              HasSubstr("generation_config.json: eos_token_id is not a whole number"));
}

// A single piece, or one that no cut divides.
TEST(TokenizerJson, HostileTextIsEncodedInReasonableTime) {
  const auto tokenizer = Build(Document().Files());
  ASSERT_NE(tokenizer, nullptr);
  constexpr size_t kSize = 1 << 20;
  // Quadratic work would run into the test's time limit.
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, ' ')).size(), kSize + 1);
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, 'a')).size(), kSize);
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, 'z')).size(), 2u);
  EXPECT_EQ(tokenizer->Encode(std::string(kSize, '\xe2')).size(), kSize + 1);
}

}  // namespace
}  // namespace tandem::text
