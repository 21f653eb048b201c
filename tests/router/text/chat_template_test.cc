#include "router/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/common/gguf/gguf_builder.h"

namespace tandem::text {
namespace {

using ::testing::HasSubstr;

StatusOr<ChatTemplate> FromGguf(gguf::GgufBuilder& builder) {
  const std::string bytes = builder.Build();
  auto file = gguf::File::Parse(std::as_bytes(std::span(bytes)), "tiny.gguf");
  if (!file.ok()) return file.status();
  return ChatTemplate::FromGguf(**file);
}

TEST(ChatTemplate, GivesTheTemplateWhatHuggingFaceGives) {
  const std::vector<std::string> tokens = {"<bos>", "<eos>"};
  gguf::GgufBuilder builder;
  builder.Strings("tokenizer.ggml.tokens", tokens);
  builder.Uint32("tokenizer.ggml.bos_token_id", 0).Uint32("tokenizer.ggml.eos_token_id", 1);
  builder.String("tokenizer.chat_template",
                 "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m['content'] }}"
                 "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}>{% endif %}");
  const auto chat = FromGguf(builder);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const std::vector<Message> messages = {{"user", "hi"}, {"assistant", "<eos> {{ x }}"}};
  EXPECT_EQ(chat->Render(messages, true).value(),
            "<bos>[user] hi<eos>[assistant] <eos> {{ x }}<eos>>");
  EXPECT_EQ(chat->Render({}, false).value(), "<bos>");
}

TEST(ChatTemplate, IsMissingFromBaseModels) {
  gguf::GgufBuilder builder;
  const auto chat = FromGguf(builder);
  EXPECT_EQ(chat.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(tandem::Message(chat.status())), HasSubstr("tokenizer.chat_template"));
}

TEST(ChatTemplate, IsRefusedWithTheFilesName) {
  gguf::GgufBuilder builder;
  builder.String("tokenizer.chat_template", "{{ messages | tojson }}");
  const auto chat = FromGguf(builder);
  EXPECT_EQ(chat.status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(tandem::Message(chat.status())),
              HasSubstr("tiny.gguf: chat template, line 1"));
}

}  // namespace
}  // namespace tandem::text
