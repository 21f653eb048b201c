// Published chat templates against what transformers renders with them (tests/golden/README.md):
// each conversation gives the same bytes, the same message of raise_exception, or an error in both.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "common/hash.h"
#include "router/text/chat_template.h"
#include "router/text/reply_syntax.h"
#include "router/text/template_value.h"

namespace tandem::text {
namespace {

namespace json = boost::json;
using Value = JinjaValue;

constexpr int64_t kNow = 1772892309;  // 2026-03-07 14:05:09 UTC

std::string ReadData(const std::string& name) {
  std::ifstream file("tests/golden/data/" + name);
  std::stringstream all;
  all << file.rdbuf();
  return all.str();
}

ChatInput InputOf(const json::object& conversation) {
  ChatInput input;
  const auto get = [&](const char* key) {
    const json::value* value = conversation.if_contains(key);
    return value == nullptr ? Value() : ToTemplateValue(*value);
  };
  input.messages = *get("messages").as_list();
  input.tools = get("tools");
  input.documents = get("documents");
  const Value prompt = get("add_generation_prompt");
  input.add_generation_prompt = prompt.is_undefined() || prompt.Truthy();
  input.continue_final_message = get("continue_final_message").Truthy();
  if (const Value kwargs = get("kwargs"); kwargs.as_map() != nullptr) {
    input.arguments = *kwargs.as_map();
  }
  input.unix_time = kNow;
  return input;
}

std::string Base64(uint64_t high, uint64_t low) {
  std::string bytes;
  for (int i = 7; i >= 0; --i) bytes.push_back(static_cast<char>(high >> (8 * i)));
  for (int i = 7; i >= 0; --i) bytes.push_back(static_cast<char>(low >> (8 * i)));
  bytes.append(2, '\0');
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const uint32_t group = (static_cast<unsigned char>(bytes[i]) << 16) |
                           (static_cast<unsigned char>(bytes[i + 1]) << 8) |
                           static_cast<unsigned char>(bytes[i + 2]);
    for (const int shift : {18, 12, 6, 0}) text.push_back(kDigits[(group >> shift) & 63]);
  }
  return text.substr(0, 22);
}

std::string Hashed(std::string_view text) {
  const BlockHash hash = HashBytes(text);
  return Base64(hash.high, hash.low);
}

// What is wrong with `rendered`, or nothing.
std::string Difference(const StatusOr<std::string>& rendered, const std::string& expected) {
  if (expected[0] != '[') {
    if (!rendered.ok()) return "fails: " + std::string(tandem::Message(rendered.status()));
    return Hashed(*rendered) == expected ? "" : "differs:\n" + *rendered;
  }
  const json::array both = json::parse(expected).as_array();
  const std::string outcome(both[0].as_string()), text(both[1].as_string());
  if (outcome == "ok") {
    if (!rendered.ok()) return "fails: " + std::string(tandem::Message(rendered.status()));
    return *rendered == text ? "" : "differs:\n" + *rendered + "\nfrom:\n" + text;
  }
  if (rendered.ok()) return "does not fail, but " + outcome + " " + text + ":\n" + *rendered;
  const std::string message(tandem::Message(rendered.status()));
  if (outcome == "failed" || message.ends_with(": " + text)) return "";
  return "says: " + message + "\ninstead of: " + text;
}

// The formats of published templates: of calls, "-" where it is another, and of reasoning.
TEST(ChatGolden, TemplatesSayHowRepliesAreWritten) {
  const std::map<std::string, std::string> kFormats = {
      {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "hermes"},
      {"Qwen-Qwen2.5-7B-Instruct", "hermes"},
      {"Qwen-Qwen3-0.6B", "hermes <think>"},
      {"Qwen-QwQ-32B", "hermes <think>"},
      {"Qwen3-Coder", "-"},
      {"GLM-4.6", "- <think>"},
      {"MiniMax-M3", "-"},
      {"ibm-granite-granite-4.0", "hermes"},
      {"ibm-granite-granite-3.3-2B-Instruct", "granite <think>"},
      {"meta-llama-Llama-3.1-8B-Instruct", "llama3_json"},
      {"meta-llama-Llama-3.2-3B-Instruct", "llama3_json"},
      {"meta-llama-Llama-3.3-70B-Instruct", "llama3_json"},
      {"meetkai-functionary-medium-v3.1", "-"},
      {"mistralai-Mistral-Nemo-Instruct-2407", "mistral"},
      {"unsloth-mistral-Devstral-Small-2507", "mistral"},
      {"Mistral-v3", "mistral"},
      {"mistralai-Ministral-3-14B-Reasoning-2512", "mistral [THINK]"},
      {"Apriel-1.6-15b-Thinker-fixed", "tool_calls"},
      {"fireworks-ai-llama-3-firefunction-v2", "functools"},
      {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "json <think>"},
      {"google-gemma-2-2b-it", "json"},
      {"Kimi-K2-Instruct", "-"},
      {"openai-gpt-oss-120b", "-"}};
  std::istringstream templates(ReadData("chat_templates.jsonl"));
  size_t found = 0;
  for (std::string line; std::getline(templates, line);) {
    const json::value entry = json::parse(line);
    const auto wanted = kFormats.find(std::string(entry.at("name").as_string()));
    if (wanted == kFormats.end()) continue;
    ++found;
    const ReplySyntax syntax = ReplySyntaxOf(entry.at("template").as_string());
    std::string format(syntax.tools == nullptr ? "-" : syntax.tools->name);
    if (syntax.reasoning != nullptr) format += fmt::format(" {}", syntax.reasoning->begin);
    EXPECT_EQ(format, wanted->second) << wanted->first;
    EXPECT_EQ(syntax.shows_tools, !format.starts_with("json")) << wanted->first;
  }
  EXPECT_EQ(found, kFormats.size());
}

TEST(ChatGolden, RendersAsHuggingFaceDoes) {
  ::setenv("TZ", "UTC", 1);
  std::vector<ChatInput> inputs;
  std::vector<std::string> names;
  const json::value conversations = json::parse(ReadData("chat_conversations.json"));
  for (const auto& conversation : conversations.as_array()) {
    inputs.push_back(InputOf(conversation.as_object()));
    names.emplace_back(conversation.at("name").as_string());
  }
  ASSERT_GE(inputs.size(), 50U);
  std::istringstream templates(ReadData("chat_templates.jsonl"));
  std::istringstream expected(ReadData("chat_rendered.txt"));
  int num_templates = 0;
  for (std::string line, want; std::getline(templates, line); ++num_templates) {
    const json::value entry = json::parse(line);
    const std::string name(entry.at("name").as_string());
    ASSERT_TRUE(std::getline(expected, want) && want == "# " + name) << want;
    const auto chat = ChatTemplate::Parse(
        ChatTemplate::Sources{{"default", std::string(entry.at("template").as_string())}},
        {{"bos_token", "<s>"},
         {"eos_token", "</s>"},
         {"pad_token", "<pad>"},
         {"unk_token", "<unk>"}});
    EXPECT_TRUE(chat.ok()) << name << ": " << chat.status();
    for (size_t i = 0; i < inputs.size(); ++i) {
      ASSERT_TRUE(std::getline(expected, want));
      if (!chat.ok()) continue;
      EXPECT_EQ(Difference(chat->Render(inputs[i]), want), "") << name << ", " << names[i];
    }
  }
  EXPECT_GE(num_templates, 90);
}

// One feature or corner of Jinja each.
TEST(ChatGolden, SnippetsRenderAsInPython) {
  std::istringstream lines(ReadData("jinja_snippets.jsonl"));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  const Value variables = ToTemplateValue(json::parse(line));
  std::tm now = {};
  const time_t seconds = kNow;
  ::gmtime_r(&seconds, &now);
  int num_snippets = 0;
  for (; std::getline(lines, line); ++num_snippets) {
    const json::array entry = json::parse(line).as_array();
    const std::string source(entry[0].as_string());
    const auto parsed = JinjaTemplate::Parse(source);
    const StatusOr<std::string> rendered =
        parsed.ok() ? parsed->Render(*variables.as_map(), now) : parsed.status();
    const std::string expected = json::serialize(json::array{entry[1], entry[2]});
    EXPECT_EQ(Difference(rendered, expected), "") << source;
  }
  EXPECT_GE(num_snippets, 200);
}

}  // namespace
}  // namespace tandem::text
