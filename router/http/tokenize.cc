#include "router/http/tokenize.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "router/http/json_text.h"
#include "router/http/prompt.h"
#include "router/http/token_text.h"

namespace tandem::http {
namespace {

std::string TokensJson(const ApiRequest& api, const PreparedPrompt& prompt,
                       const ServedModel& model, int max_model_len) {
  std::string out;
  fmt::format_to(std::back_inserter(out),
                 "{{\"count\":{},\"max_model_len\":{},\"tokens\":", prompt.tokens.size(),
                 max_model_len > 0 ? fmt::to_string(max_model_len) : std::string("null"));
  AppendIds(out, prompt.tokens);
  out += ",\"token_strs\":";
  if (!api.return_token_strs) return out + "null}";
  out += '[';
  for (size_t i = 0; i < prompt.tokens.size(); ++i) {
    if (i > 0) out += ',';
    AppendJsonString(out, TokenName({.tokenizer = model.tokenizer}, prompt.tokens[i]));
  }
  return out + "]}";
}

}  // namespace

std::variant<std::string, ApiError> TokenizeReply(const ApiRequest& api, const ServedModel& model,
                                                  int max_model_len) {
  PreparedPrompt prompt = PreparePrompt(api, 0, model, max_model_len);
  if (prompt.error) {
    if (api.endpoint == Endpoint::kDetokenize) prompt.error->param = "tokens";
    return *std::move(prompt.error);
  }
  if (api.endpoint == Endpoint::kTokenize) return TokensJson(api, prompt, model, max_model_len);
  std::string out = "{\"prompt\":";
  AppendJsonString(out, EchoOf(api, 0, *model.tokenizer));
  return out + '}';
}

}  // namespace tandem::http
