// Compares with the golden data of tests/golden, made by Hugging Face's libraries from the same
// model file. The file: $TANDEM_MODEL, or models/ of the repository.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "common/tokenizer/tokenizer.h"
#include "common/tokenizer/utf8.h"
#include "router/text/chat_template.h"
#include "router/text/stream_decoder.h"
#include "tests/router/text/golden.h"

namespace tandem::text {
namespace {

std::string ModelPath() {
  const char* path = std::getenv("TANDEM_MODEL");
  return path == nullptr ? "models/SmolLM2-135M-Instruct.Q4_1.gguf" : path;
}

struct Golden {
  std::vector<TokenId> ids;
  std::string bytes;
};

std::vector<TokenId> ParseIds(std::string_view text) {
  std::vector<TokenId> ids;
  while (!text.empty()) {
    TokenId id = 0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), id).ptr;
    ids.push_back(id);
    text.remove_prefix(std::min<size_t>(end - text.data() + 1, text.size()));
  }
  return ids;
}

std::vector<Golden> ReadGolden(const std::string& name) {
  std::vector<Golden> cases;
  std::ifstream file("tests/golden/data/" + name);
  for (std::string line; std::getline(file, line);) {
    const size_t tab = line.find('\t');
    cases.push_back({ParseIds(line.substr(0, tab)), Unescape(line.substr(tab + 1))});
  }
  return cases;
}

class TextGolden : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto file = gguf::File::Open(ModelPath());
    if (!file.ok()) GTEST_FAIL() << file.status() << " (TANDEM_MODEL names another file)";
    file_ = std::move(*file);
    auto tokenizer = Tokenizer::FromGguf(*file_);
    if (!tokenizer.ok()) GTEST_FAIL() << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
  }
  static void TearDownTestSuite() {
    tokenizer_.reset();
    file_.reset();
  }
  void SetUp() override { ASSERT_NE(tokenizer_, nullptr) << "no model at " << ModelPath(); }

  static std::unique_ptr<gguf::File> file_;
  static std::unique_ptr<const Tokenizer> tokenizer_;
};

std::unique_ptr<gguf::File> TextGolden::file_;
std::unique_ptr<const Tokenizer> TextGolden::tokenizer_;

TEST_F(TextGolden, EncodesAsHuggingFaceDoes) {
  const auto cases = ReadGolden("tokenizer_strings.tsv");
  ASSERT_EQ(cases.size(), 5000u);
  int different = 0;
  for (const Golden& golden : cases) {
    EXPECT_TRUE(IsValidUtf8(golden.bytes));
    const auto ids = tokenizer_->Encode(golden.bytes);
    if (ids == golden.ids) continue;
    if (++different <= 10) {
      EXPECT_EQ(ids, golden.ids) << golden.bytes << "\n" << tokenizer_->Decode(ids);
    }
  }
  EXPECT_EQ(different, 0);
}

TEST_F(TextGolden, DecodesAsHuggingFaceDoes) {
  const auto cases = ReadGolden("tokenizer_decode.tsv");
  ASSERT_EQ(cases.size(), 5000u);
  for (const Golden& golden : cases) EXPECT_EQ(tokenizer_->Decode(golden.ids), golden.bytes);
}

// Tokens one at a time; the golden bytes with U+FFFD for what is not UTF-8.
TEST_F(TextGolden, StreamsWhatItDecodes) {
  for (const Golden& golden : ReadGolden("tokenizer_decode.tsv")) {
    Utf8Stream utf8;
    std::string expected;
    utf8.Push(tokenizer_->Decode(golden.ids, /*with_special=*/false), expected);
    utf8.Finish(expected);
    StreamDecoder decoder(*tokenizer_, {});
    std::string text;
    for (const TokenId id : golden.ids) {
      const auto output = decoder.Push({&id, 1});
      ASSERT_TRUE(IsValidUtf8(output.text));
      text += output.text;
    }
    text += decoder.Flush();
    EXPECT_EQ(text, expected);
  }
}

TEST_F(TextGolden, RendersTheChatTemplateAsHuggingFaceDoes) {
  const auto chat_template = ChatTemplate::FromGguf(*file_);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  std::ifstream file("tests/golden/data/chat_template.jsonl");
  int num_cases = 0;
  for (std::string line; std::getline(file, line); ++num_cases) {
    const auto json = boost::json::parse(line);
    std::vector<Message> messages;
    for (const auto& m : json.at("messages").as_array()) {
      messages.push_back({m.at("role").as_string().c_str(), m.at("content").as_string().c_str()});
    }
    const auto text = chat_template->Render(messages, json.at("add_generation_prompt").as_bool());
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, std::string_view(json.at("rendered").as_string()));
  }
  EXPECT_GE(num_cases, 30);
}

TEST_F(TextGolden, KnowsTheModelsSpecialTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), 49152);
  EXPECT_EQ(tokenizer_->bos_id(), 1);
  EXPECT_EQ(tokenizer_->eos_id(), 2);
  EXPECT_TRUE(tokenizer_->prefix_ids().empty());
  EXPECT_EQ(std::vector<TokenId>(tokenizer_->end_ids().begin(), tokenizer_->end_ids().end()),
            (std::vector<TokenId>{0, 2}));
  EXPECT_EQ(tokenizer_->TokenText(2), "<|im_end|>");
  EXPECT_EQ(tokenizer_->Encode("<|im_start|>user"), (std::vector<TokenId>{1, 4093}));
  EXPECT_GT(tokenizer_->Encode("<|im_start|>user", false).size(), 3u);
  EXPECT_EQ(tokenizer_->Decode(tokenizer_->Encode("<|im_start|>user", false)), "<|im_start|>user");
}

}  // namespace
}  // namespace tandem::text
