#include "router/text/chat_template.h"

#include <algorithm>
#include <ctime>
#include <utility>
#include <vector>

#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;

constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

// The text of a token that the file names by id; empty if it names none.
StatusOr<std::string> TokenNamedBy(const gguf::File& file, const std::string& key) {
  if (!file.Has(key)) return std::string();
  TANDEM_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  TANDEM_ASSIGN_OR_RETURN(const auto tokens, file.GetStrings("tokenizer.ggml.tokens"));
  if (id < 0 || static_cast<uint64_t>(id) >= tokens.size()) {
    return InvalidArgument("{}: {} is {}, but the vocabulary has {} tokens", file.name(), key, id,
                           tokens.size());
  }
  return std::string(tokens[id]);
}

StatusOr<ChatTemplate::SpecialTokens> TokensOf(const gguf::File& file) {
  ChatTemplate::SpecialTokens tokens;
  // GGUF's names, and those of Hugging Face.
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"bos", "bos_token"},     {"eos", "eos_token"},       {"padding", "pad_token"},
      {"unknown", "unk_token"}, {"seperator", "sep_token"}, {"cls", "cls_token"},
      {"mask", "mask_token"}};
  for (const auto& [name, variable] : kNames) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    TANDEM_ASSIGN_OR_RETURN(std::string token, TokenNamedBy(file, key));
    if (!token.empty()) tokens.emplace(variable, std::move(token));
  }
  return tokens;
}

// --- as transformers prepares messages

// A reply's reasoning goes by several names: the template may read any of them.
Value WithReasoning(const Value& message) {
  const Value::Map* map = message.as_map();
  const Value* reasoning = nullptr;
  for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
    const Value* value = Find(*map, name);
    if (reasoning == nullptr && value != nullptr && !value->is_none()) reasoning = value;
  }
  if (reasoning == nullptr) return message;
  Value::Map named = {{"thinking", *reasoning}};
  for (const auto& [key, value] : *map) Assign(named, key, value);
  Assign(named, "reasoning_content", *reasoning);
  return Value(std::move(named));
}

// Marks the end of the content that the model is to continue; `content` becomes that content.
StatusOr<Value> WithTag(const Value& message, std::string& content) {
  Value::Map map = *message.as_map();
  const Value* found = Find(map, "content");
  if (found == nullptr || found->is_none()) {
    return InvalidArgument("continue_final_message: the last message has no content to continue");
  }
  if (const std::string* text = found->as_string()) {
    content = *text;
    Assign(map, "content", Value(content + std::string(kContinueTag)));
    return Value(std::move(map));
  }
  Value::List parts = found->as_list() == nullptr ? Value::List() : *found->as_list();
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    const Value* text = part->as_map() == nullptr ? nullptr : Find(*part->as_map(), "text");
    if (text == nullptr || text->as_string() == nullptr) continue;
    content = *text->as_string();
    Value::Map tagged = *part->as_map();
    Assign(tagged, "text", Value(content + std::string(kContinueTag)));
    *part = Value(std::move(tagged));
    Assign(map, "content", Value(std::move(parts)));
    return Value(std::move(map));
  }
  return InvalidArgument("continue_final_message: the last message has no text to continue");
}

// What was rendered up to the tag, without what the template put behind the content.
StatusOr<std::string> CutAtTag(std::string rendered, const std::string& content) {
  const std::string_view tag = Strip(kContinueTag, Side::kBoth);
  const size_t at = rendered.rfind(tag);
  const bool has_content =
      FindText(rendered, Strip(content, Side::kBoth)) != std::string_view::npos;
  if (at == std::string::npos || !has_content) {
    return InvalidArgument(
        "continue_final_message: the chat template does not render the last message's content");
  }
  const bool keeps_space = rendered.compare(at, kContinueTag.size(), kContinueTag) == 0;
  rendered.resize(at);
  // The template trimmed the content, so the space before the tag would be of no other reply.
  if (!keeps_space) rendered.resize(Strip(rendered, Side::kRight).size());
  return rendered;
}

std::tm LocalTime(int64_t unix_time) {
  const auto seconds = static_cast<time_t>(unix_time == 0 ? ::time(nullptr) : unix_time);
  std::tm local = {};
  ::localtime_r(&seconds, &local);
  return local;
}

StatusOr<Value::Map> Variables(const ChatInput& input, const ChatTemplate::SpecialTokens& tokens) {
  Value::Map variables;
  for (const auto& [name, token] : tokens) variables.emplace_back(name, Value(token));
  for (const auto& [name, value] : input.arguments) {
    for (const std::string_view taken : {"messages", "tools", "documents", "add_generation_prompt",
                                         "continue_final_message", "chat_template"}) {
      if (name != taken) continue;
      return InvalidArgument("chat_template_kwargs may not have '{}'", name);
    }
    Assign(variables, name, value);
  }
  const auto or_none = [](const Value& value) {
    return value.is_undefined() ? Value(Value::None{}) : value;
  };
  variables.emplace_back("tools", or_none(input.tools));
  variables.emplace_back("documents", or_none(input.documents));
  variables.emplace_back("add_generation_prompt", Value(input.add_generation_prompt));
  return variables;
}

}  // namespace

StatusOr<ChatTemplate> ChatTemplate::FromGguf(const gguf::File& file) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  TANDEM_ASSIGN_OR_RETURN(const std::string_view source, file.GetString(kKey));
  Sources sources = {{"default", std::string(source)}};
  const std::string tool_use = fmt::format("{}.tool_use", kKey);
  if (file.Has(tool_use)) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view named, file.GetString(tool_use));
    sources.emplace("tool_use", named);
  }
  TANDEM_ASSIGN_OR_RETURN(SpecialTokens tokens, TokensOf(file));
  StatusOr<ChatTemplate> result = Parse(sources, std::move(tokens));
  if (result.ok()) return result;
  return MakeStatus(result.status().code(),
                    fmt::format("{}: {}", file.name(), tandem::Message(result.status())));
}

StatusOr<ChatTemplate> ChatTemplate::Parse(const Sources& sources, SpecialTokens tokens) {
  if (!sources.contains("default")) return InvalidArgument("there is no default chat template");
  ChatTemplate result;
  result.tokens_ = std::move(tokens);
  for (const auto& [name, source] : sources) {
    TANDEM_ASSIGN_OR_RETURN(JinjaTemplate parsed, JinjaTemplate::Parse(source));
    if (name != "default") {
      result.others_.emplace(name, std::move(parsed));
      result.other_sources_ += source;
      continue;
    }
    result.source_ = source;
    result.template_ = std::move(parsed);
  }
  result.syntax_ = ReplySyntaxOf(result.source_ + result.other_sources_);
  return result;
}

StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source, std::string bos,
                                           std::string eos) {
  return Parse({{"default", std::string(source)}},
               {{"bos_token", std::move(bos)}, {"eos_token", std::move(eos)}});
}

bool ChatTemplate::Mentions(std::string_view word) const {
  return source_.find(word) != std::string::npos || other_sources_.find(word) != std::string::npos;
}

const JinjaTemplate& ChatTemplate::TemplateFor(const ChatInput& input) const {
  const auto it = others_.find("tool_use");
  const bool has_tools = !input.tools.is_undefined() && !input.tools.is_none();
  return has_tools && it != others_.end() ? it->second : template_;
}

StatusOr<std::string> ChatTemplate::Render(const ChatInput& input) const {
  if (input.continue_final_message && input.add_generation_prompt) {
    return InvalidArgument(
        "continue_final_message and add_generation_prompt exclude each other: the prompt ends with "
        "the last message or with the beginning of a new one");
  }
  Value::List messages;
  messages.reserve(input.messages.size());
  for (const Value& message : input.messages) {
    if (message.as_map() == nullptr) return InvalidArgument("a message is not an object");
    messages.push_back(WithReasoning(message));
  }
  std::string content;
  if (input.continue_final_message) {
    if (messages.empty()) return InvalidArgument("continue_final_message: there is no message");
    TANDEM_ASSIGN_OR_RETURN(messages.back(), WithTag(messages.back(), content));
  }
  TANDEM_ASSIGN_OR_RETURN(Value::Map variables, Variables(input, tokens_));
  variables.emplace_back("messages", Value(std::move(messages)));
  StatusOr<std::string> rendered = TemplateFor(input).Render(variables, LocalTime(input.unix_time));
  if (!rendered.ok() || !input.continue_final_message) return rendered;
  return CutAtTag(*std::move(rendered), content);
}

StatusOr<std::string> ChatTemplate::Render(std::span<const Message> messages,
                                           bool add_generation_prompt) const {
  ChatInput input;
  input.messages.reserve(messages.size());
  for (const Message& message : messages) {
    input.messages.emplace_back(
        Value::Map{{"role", Value(message.role)}, {"content", Value(message.content)}});
  }
  input.add_generation_prompt = add_generation_prompt;
  return Render(input);
}

}  // namespace tandem::text
