#include "router/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

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
  builder.String("tokenizer.chat_template", "{{ messages | urlize }}");
  const auto chat = FromGguf(builder);
  EXPECT_EQ(chat.status().code(), StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(tandem::Message(chat.status())),
              HasSubstr("tiny.gguf: chat template, line 1"));
}

JinjaValue Text(const char* text) { return JinjaValue(std::string(text)); }

ChatInput OneMessage(JinjaValue content) {
  ChatInput input;
  input.messages.emplace_back(
      JinjaValue::Map{{"role", Text("user")}, {"content", std::move(content)}});
  return input;
}

TEST(ChatTemplate, TakesTheOneForToolsWhereThereAreTools) {
  gguf::GgufBuilder builder;
  builder.String("tokenizer.chat_template", "plain {{ tools }}{{ documents }}{{ style }}");
  builder.String("tokenizer.chat_template.tool_use", "tools {{ tools | tojson }}");
  const auto chat = FromGguf(builder);
  ASSERT_TRUE(chat.ok()) << chat.status();
  ChatInput input = OneMessage(Text("hi"));
  input.arguments = {{"style", Text("brief")}};
  EXPECT_EQ(chat->Render(input).value(), "plain NoneNonebrief");
  input.tools = JinjaValue(JinjaValue::List{JinjaValue(JinjaValue::Map{{"name", Text("f")}})});
  EXPECT_EQ(chat->Render(input).value(), "tools [{\"name\": \"f\"}]");
  input.arguments = {{"messages", Text("mine")}};
  EXPECT_THAT(std::string(tandem::Message(chat->Render(input).status())),
              HasSubstr("may not have 'messages'"));
}

TEST(ChatTemplate, RefusesToContinueWhatItCannot) {
  const auto said = [](std::string_view source, const ChatInput& input) {
    const auto chat = ChatTemplate::Parse(source, "", "");
    const auto text = chat->Render(input);
    return text.ok() ? *text : std::string(tandem::Message(text.status()));
  };
  ChatInput input = OneMessage(Text("a b"));
  input.continue_final_message = true;
  EXPECT_EQ(said("<{{ messages[0].content }}></s>", input), "<a b");
  EXPECT_THAT(said("nothing", input), HasSubstr("does not render the last message's content"));
  input.add_generation_prompt = true;
  EXPECT_THAT(said("", input), HasSubstr("exclude each other"));
  input = OneMessage(JinjaValue(JinjaValue::None{}));
  input.continue_final_message = true;
  EXPECT_THAT(said("", input), HasSubstr("has no content to continue"));
  input.messages.clear();
  EXPECT_THAT(said("", input), HasSubstr("there is no message"));
}

class Folder {
 public:
  Folder() { std::filesystem::create_directory(path_); }
  ~Folder() { std::filesystem::remove_all(path_); }
  void Write(const char* name, const char* text) const {
    std::ofstream(path_ + "/" + name) << text;
  }
  std::string Render() const {
    const auto chat = ChatTemplate::FromFolder(path_);
    if (!chat.ok()) return std::string(tandem::Message(chat.status()));
    return chat->Render({}, false).value();
  }

 private:
  std::string path_ = testing::TempDir() + "chat_template_folder." + std::to_string(::getpid());
};

TEST(ChatTemplate, IsFoundInTheFilesOfAFolder) {
  const Folder folder;
  EXPECT_THAT(folder.Render(), HasSubstr("no file of it has a chat template"));
  folder.Write("tokenizer_config.json",
               R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null,
                   "chat_template": "old {{ bos_token }}{{ eos_token }}{{ pad_token }}"})");
  EXPECT_EQ(folder.Render(), "old <s></s>");
  folder.Write("chat_template.json", R"({"chat_template": "newer {{ bos_token }}"})");
  EXPECT_EQ(folder.Render(), "newer <s>");
  folder.Write("chat_template.jinja", "newest\n{{ bos_token }}\n");
  EXPECT_EQ(folder.Render(), "newest\n<s>");
  folder.Write("chat_template.jinja", "\n{{ bos_token | urlize }}");
  EXPECT_THAT(folder.Render(), HasSubstr("chat_template.jinja: chat template, line 2: uses the"));
}

TEST(ChatTemplate, MayBeOneOfSeveralInAFolder) {
  const Folder folder;
  folder.Write("tokenizer_config.json", R"({"chat_template": [
      {"name": "rag", "template": "rag"}, {"name": "default", "template": "usual"}]})");
  EXPECT_EQ(folder.Render(), "usual");
  folder.Write("tokenizer_config.json",
               R"({"chat_template": [{"name": "rag", "template": "rag"}]})");
  EXPECT_THAT(folder.Render(), HasSubstr("tokenizer_config.json: there is no default"));
  folder.Write("tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  EXPECT_THAT(folder.Render(), HasSubstr("neither a string nor a list"));
  folder.Write("tokenizer_config.json", "{");
  EXPECT_THAT(folder.Render(), HasSubstr("tokenizer_config.json: "));
}

}  // namespace
}  // namespace tandem::text
