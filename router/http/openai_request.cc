#include "router/http/openai_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <utility>

#include "router/http/json_reader.h"
#include "router/http/request_fields.h"

namespace tandem::http {
namespace {

namespace json = boost::json;

FieldError Contradiction(std::string param, std::string message) {
  return InvalidRequest(std::move(param), std::move(message), "invalid_value");
}

// Text bytes that take as long to tokenize as a byte of a grammar takes to read.
constexpr size_t kGrammarWork = 16;

FieldError CheckRequired(const json::object& object, const ApiRequest& out) {
  for (const Field& field : Fields()) {
    if (!field.required || (field.on & SetOf(out.endpoint)) == 0) continue;
    if (object.if_contains(json::string_view(field.name.data(), field.name.size())) == nullptr) {
      return MissingField(std::string(field.name));
    }
  }
  return std::nullopt;
}

FieldError CheckChoices(ApiRequest& out) {
  if (out.best_of == 0) out.best_of = out.n;
  if (out.best_of < out.n) return Contradiction("best_of", "'best_of' must be at least 'n'.");
  if (out.best_of > out.n && out.stream) {
    return Contradiction("best_of", "'best_of' above 'n' cannot be streamed.");
  }
  if (out.num_prompts() * static_cast<size_t>(out.best_of) > kMaxSequences) {
    return Contradiction(
        out.best_of > out.n ? "best_of" : "n",
        fmt::format("The request asks for {} sequences, at most {} may be.",
                    out.num_prompts() * static_cast<size_t>(out.best_of), kMaxSequences));
  }
  return std::nullopt;
}

FieldError CheckTools(ApiRequest& out) {
  if (!out.tool_choice) out.tool_choice = out.tools.empty() ? ToolChoice::kNone : ToolChoice::kAuto;
  const ToolChoice choice = *out.tool_choice;
  if (choice == ToolChoice::kNone) return std::nullopt;
  if (out.tools.empty()) {
    if (choice == ToolChoice::kAuto && out.endpoint == Endpoint::kResponses) {
      out.tool_choice = ToolChoice::kNone;  // what that endpoint says without any
      return std::nullopt;
    }
    return Contradiction("tool_choice", "'tool_choice' needs 'tools'.");
  }
  const auto& names = out.tool_names;
  if (choice == ToolChoice::kNamed &&
      std::find(names.begin(), names.end(), out.called_tool) == names.end()) {
    return Contradiction("tool_choice",
                         fmt::format("'tools' has no function '{}'.", out.called_tool));
  }
  if (out.must_call() && out.grammar.kind != grammar::GrammarSpec::Kind::kNone) {
    return Contradiction(
        "tool_choice",
        fmt::format("'tool_choice' and '{}' both say what form the reply has.", out.grammar_param));
  }
  return std::nullopt;
}

FieldError CheckTokenize(const ApiRequest& out) {
  if (out.is_chat() && !out.prompts.empty()) {
    return Contradiction("messages", "Send 'prompt' or 'messages', not both.");
  }
  if (!out.is_chat() && out.prompts.empty()) return MissingField("prompt");
  return std::nullopt;
}

FieldError CheckEmbeddings(ApiRequest& out) {
  out.best_of = out.n;
  if (out.is_chat() && !out.prompts.empty()) {
    return Contradiction("messages", "Send 'input' or 'messages', not both.");
  }
  if (!out.is_chat() && out.prompts.empty()) return MissingField("input");
  return std::nullopt;
}

// What fields say of each other.
FieldError CheckWhole(const json::object& object, ApiRequest& out) {
  if (out.continue_final_message && out.add_generation_prompt) {
    return Contradiction("continue_final_message",
                         "'continue_final_message' needs 'add_generation_prompt': false.");
  }
  if (FieldError error = CheckTools(out)) return error;
  if (out.endpoint == Endpoint::kTokenize) return CheckTokenize(out);
  if (out.endpoint == Endpoint::kDetokenize) return std::nullopt;
  if (out.embeds()) return CheckEmbeddings(out);
  const json::value* options = object.if_contains("stream_options");
  const bool has_options = options != nullptr && !options->is_null();
  if (has_options && !out.stream && out.endpoint != Endpoint::kResponses) {
    return Contradiction("stream_options", "'stream_options' needs 'stream': true.");
  }
  if (out.endpoint == Endpoint::kChat && out.top_logprobs > 0 && !out.logprobs) {
    return Contradiction("top_logprobs", "'top_logprobs' needs 'logprobs': true.");
  }
  if (out.echo && out.logprobs) {
    return Contradiction("echo",
                         "'echo' with 'logprobs' needs those of the prompt, which are not "
                         "available.");
  }
  if (out.max_tokens && out.min_tokens > *out.max_tokens) {
    return Contradiction("min_tokens", "'min_tokens' must be at most 'max_tokens'.");
  }
  out.continuous_usage = out.continuous_usage && out.include_usage;
  if (!out.instructions.empty()) {
    out.messages.insert(out.messages.begin(), {"system", out.instructions});
  }
  return CheckChoices(out);
}

}  // namespace

bool ApiRequest::has_strict_tools() const {
  return std::any_of(tools.begin(), tools.end(), [](const ApiTool& tool) { return tool.strict; });
}

size_t ApiRequest::num_text_bytes() const {
  // Of a chat a template may show all that it says.
  size_t bytes = is_chat() ? body_bytes : 0;
  for (const ApiPrompt& prompt : prompts) bytes += prompt.text.size() + prompt.ids.size();
  for (const ApiTool& tool : tools) {
    if (must_call() || tool.strict) bytes += kGrammarWork * tool.parameters.size();
  }
  return bytes + kGrammarWork * grammar.text.size();
}

std::optional<ApiError> ParseRequest(Endpoint endpoint, std::string_view body, ApiRequest& out) {
  out = {};
  out.endpoint = endpoint;
  out.body_bytes = body.size();
  // vLLM's defaults.
  out.truncate_end = out.embeds();
  out.add_generation_prompt = !out.embeds();
  json::value root;
  const int most = out.embeds() ? kMaxEmbeddingsJsonValues : kMaxJsonValues;
  if (FieldError error = ReadJson(body, root, most)) return error;
  if (!root.is_object()) {
    return InvalidRequest({}, fmt::format("The body must be an object, not {}.", KindName(root)),
                          "invalid_type");
  }
  for (const auto& [key, value] : root.get_object()) {
    if (FieldError error = ReadField({key.data(), key.size()}, value, out)) return error;
  }
  if (FieldError error = CheckRequired(root.get_object(), out)) return error;
  return CheckWhole(root.get_object(), out);
}

}  // namespace tandem::http
