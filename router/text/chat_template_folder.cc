// The chat template of a Hugging Face folder. Alone in seeing Boost.JSON.
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "router/text/chat_template.h"

namespace tandem::text {
namespace {

namespace json = boost::json;

constexpr size_t kMaxFileBytes = 64 << 20;  // some tokenizer_config.json list a whole vocabulary

// Nothing: there is no such file.
StatusOr<std::optional<std::string>> ReadFile(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return std::optional<std::string>();
  if (size > kMaxFileBytes) return InvalidArgument("{}: {} bytes are too many", path, size);
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return InvalidArgument("{}: cannot be read", path);
  return std::optional(std::move(text).str());
}

// An empty object: there is no such file.
StatusOr<json::object> ReadObject(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<std::string> text, ReadFile(path));
  if (!text) return json::object();
  boost::system::error_code error;
  json::value value = json::parse(*text, error);
  if (error) return InvalidArgument("{}: {}", path, error.message());
  if (!value.is_object()) return InvalidArgument("{}: is not a JSON object", path);
  return std::move(value.get_object());
}

std::optional<std::string> TextAt(const json::object& object, const char* key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) return std::nullopt;
  return std::string(value->get_string());
}

// "<s>" or {"content": "<s>", ...}.
std::optional<std::string> TokenAt(const json::object& config, const char* key) {
  const json::value* value = config.if_contains(key);
  if (value == nullptr || !value->is_object()) return TextAt(config, key);
  return TextAt(value->get_object(), "content");
}

// A template, or a list of them with names.
Status AddSources(const json::object& config, const std::string& path,
                  ChatTemplate::Sources& sources) {
  const json::value* entry = config.if_contains("chat_template");
  if (entry == nullptr || entry->is_null()) return OkStatus();
  if (entry->is_string()) {
    sources.emplace("default", std::string(entry->get_string()));
    return OkStatus();
  }
  const auto refused = [&] {
    return InvalidArgument("{}: chat_template is neither a string nor a list of {{name, template}}",
                           path);
  };
  if (!entry->is_array()) return refused();
  for (const json::value& named : entry->get_array()) {
    if (!named.is_object()) return refused();
    auto name = TextAt(named.get_object(), "name");
    auto source = TextAt(named.get_object(), "template");
    if (!name || !source) return refused();
    sources.emplace(*std::move(name), *std::move(source));
  }
  return OkStatus();
}

}  // namespace

StatusOr<ChatTemplate> ChatTemplate::FromFolder(const std::string& path) {
  const std::string config_path = path + "/tokenizer_config.json";
  TANDEM_ASSIGN_OR_RETURN(const json::object config, ReadObject(config_path));
  SpecialTokens tokens;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    if (auto token = TokenAt(config, name)) tokens.emplace(name, *std::move(token));
  }
  Sources sources;
  std::string file = path + "/chat_template.jinja";
  TANDEM_ASSIGN_OR_RETURN(std::optional<std::string> source, ReadFile(file));
  if (source) {
    sources.emplace("default", *std::move(source));
  } else {
    file = path + "/chat_template.json";
    TANDEM_ASSIGN_OR_RETURN(const json::object other, ReadObject(file));
    TANDEM_RETURN_IF_ERROR(AddSources(other, file, sources));
  }
  if (sources.empty()) {
    file = config_path;
    TANDEM_RETURN_IF_ERROR(AddSources(config, file, sources));
  }
  if (sources.empty()) return NotFound("{}: no file of it has a chat template", path);
  StatusOr<ChatTemplate> result = Parse(sources, std::move(tokens));
  if (result.ok()) return result;
  return MakeStatus(result.status().code(),
                    fmt::format("{}: {}", file, tandem::Message(result.status())));
}

}  // namespace tandem::text
