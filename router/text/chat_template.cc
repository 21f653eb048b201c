#include "router/text/chat_template.h"

#include <utility>
#include <vector>

namespace tandem::text {
namespace {

// The text of a token that the file names by id; empty if it names none.
StatusOr<std::string> TokenNamedBy(const gguf::File& file, std::string_view key) {
  if (!file.Has(key)) return std::string();
  TANDEM_ASSIGN_OR_RETURN(const int64_t id, file.GetInt(key));
  TANDEM_ASSIGN_OR_RETURN(const auto tokens, file.GetStrings("tokenizer.ggml.tokens"));
  if (id < 0 || static_cast<uint64_t>(id) >= tokens.size()) {
    return InvalidArgument("{}: {} is {}, but the vocabulary has {} tokens", file.name(), key, id,
                           tokens.size());
  }
  return std::string(tokens[id]);
}

}  // namespace

StatusOr<ChatTemplate> ChatTemplate::FromGguf(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view source, file.GetString("tokenizer.chat_template"));
  TANDEM_ASSIGN_OR_RETURN(std::string bos, TokenNamedBy(file, "tokenizer.ggml.bos_token_id"));
  TANDEM_ASSIGN_OR_RETURN(std::string eos, TokenNamedBy(file, "tokenizer.ggml.eos_token_id"));
  StatusOr<ChatTemplate> result = Parse(source, std::move(bos), std::move(eos));
  if (result.ok()) return result;
  return MakeStatus(result.status().code(),
                    fmt::format("{}: {}", file.name(), tandem::Message(result.status())));
}

StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source, std::string bos,
                                           std::string eos) {
  ChatTemplate result;
  TANDEM_ASSIGN_OR_RETURN(result.template_, JinjaTemplate::Parse(source));
  result.source_ = source;
  result.bos_ = std::move(bos);
  result.eos_ = std::move(eos);
  return result;
}

StatusOr<std::string> ChatTemplate::Render(std::span<const Message> messages,
                                           bool add_generation_prompt) const {
  JinjaValue::List list;
  list.reserve(messages.size());
  for (const Message& message : messages) {
    list.emplace_back(JinjaValue::Map{{"role", JinjaValue(message.role)},
                                      {"content", JinjaValue(message.content)}});
  }
  return template_.Render({{"messages", JinjaValue(std::move(list))},
                           {"add_generation_prompt", JinjaValue(add_generation_prompt)},
                           {"bos_token", JinjaValue(bos_)},
                           {"eos_token", JinjaValue(eos_)}});
}

}  // namespace tandem::text
