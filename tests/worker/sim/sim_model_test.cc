#include "worker/sim/sim_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/gguf/gguf_file.h"
#include "tests/support/tiny_model.h"

namespace tandem::sim {
namespace {

using ::testing::HasSubstr;

TEST(SimModel, RepliesAreMadeOfPlainText) {
  const std::string path = ::testing::TempDir() + "/sim_model_test.gguf";
  testing::WriteTinyModel(path, {.max_context = 300});
  const auto model = LoadSimModel(path);
  ASSERT_TRUE(model.ok()) << Message(model.status());
  EXPECT_EQ(model->max_context, 300);
  const auto file = gguf::File::Open(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(model->fingerprint, (*file)->Fingerprint());
  const auto tokens = (*file)->GetStrings("tokenizer.ggml.tokens");
  const auto types = (*file)->GetInts("tokenizer.ggml.token_type");
  ASSERT_TRUE(tokens.ok() && types.ok());
  EXPECT_EQ(static_cast<size_t>(model->vocab_size), tokens->size());
  ASSERT_GE(model->reply_tokens.size(), 94u);  // every printable byte at least
  for (const TokenId id : model->reply_tokens) {
    EXPECT_EQ((*types)[static_cast<size_t>(id)], 1) << id;
    for (const char c : (*tokens)[static_cast<size_t>(id)]) {
      // The two bytes of U+0120 stand for a space.
      EXPECT_TRUE((c > ' ' && c <= '~') || c == '\xc4' || c == '\xa0') << id;
    }
  }
}

TEST(SimModel, AnyArchitectureWillDo) {
  const std::string path = ::testing::TempDir() + "/sim_model_test_other.gguf";
  testing::WriteTinyModel(path, {.architecture = "llama"});
  EXPECT_TRUE(LoadSimModel(path).ok());
  testing::WriteTinyModel(path, {.without = "output.weight"});
  EXPECT_TRUE(LoadSimModel(path).ok()) << "weights do not matter";
  EXPECT_THAT(std::string(Message(LoadSimModel("/no/such.gguf").status())),
              HasSubstr("/no/such.gguf"));
}

}  // namespace
}  // namespace tandem::sim
