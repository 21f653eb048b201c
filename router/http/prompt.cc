#include "router/http/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "common/clock.h"
#include "common/tokenizer/utf8.h"
#include "router/http/chat_input.h"
#include "router/http/reply_grammar.h"

namespace tandem::http {
namespace {

std::optional<ApiError> CheckId(const std::string& param, TokenId id, int vocab_size) {
  if (id >= 0 && id < vocab_size) return std::nullopt;
  return InvalidRequest(
      param, fmt::format("{} is no token id of this model; its vocabulary has {}.", id, vocab_size),
      "invalid_value");
}

std::optional<ApiError> CheckIds(const ApiRequest& api, std::span<const TokenId> prompt,
                                 int vocab_size) {
  const auto wrong = std::find_if(prompt.begin(), prompt.end(),
                                  [vocab_size](TokenId id) { return id < 0 || id >= vocab_size; });
  if (wrong != prompt.end()) return CheckId(api.embeds() ? "input" : "prompt", *wrong, vocab_size);
  for (const TokenId id : api.stop_token_ids) {
    if (auto error = CheckId("stop_token_ids", id, vocab_size)) return error;
  }
  for (const auto& [id, bias] : api.logit_bias) {
    if (auto error = CheckId("logit_bias", id, vocab_size)) return error;
  }
  return std::nullopt;
}

StatusOr<std::string> Render(const ApiRequest& api, const ServedModel& model) {
  if (model.chat_template == nullptr) {
    return InvalidArgument(
        "this model has no chat template, so it takes no messages; use /v1/completions");
  }
  return RenderChat(api, *model.chat_template);
}

// Leaves as many as may be, of the end or of the beginning.
void Truncate(const ApiRequest& api, size_t most, std::vector<TokenId>& tokens) {
  if (tokens.size() <= most) return;
  if (api.truncate_end) {
    tokens.resize(most);
  } else {
    tokens.erase(tokens.begin(), tokens.end() - static_cast<ptrdiff_t>(most));
  }
}

// `most`: tokens that an input may have; 0: any number.
std::vector<TokenId> Tokenize(const ApiRequest& api, const std::string& text,
                              const ServedModel& model, size_t most, int64_t& known_tokens) {
  const text::Tokenizer& tokenizer = *model.tokenizer;
  text::Tokenizer::Known known = {model.encode_cache, api.cache_salt};
  std::vector<TokenId> tokens =
      tokenizer.Encode(text, true, model.encode_cache != nullptr ? &known : nullptr);
  known_tokens = known.tokens;
  if (!api.add_special_tokens.value_or(!api.is_chat())) return tokens;
  const std::span<const TokenId> prefix = tokenizer.prefix_ids();
  if (api.embeds()) {
    // Models of embeddings are trained to be read at the token that ends a text: it stays, however
    // short the text must be.
    const std::span<const TokenId> suffix = tokenizer.suffix_ids();
    const size_t special = prefix.size() + suffix.size();
    if (most > 0) Truncate(api, most > special ? most - special : 0, tokens);
    tokens.insert(tokens.end(), suffix.begin(), suffix.end());
  }
  tokens.insert(tokens.begin(), prefix.begin(), prefix.end());
  return tokens;
}

}  // namespace

const char* PromptParam(const ApiRequest& api) {
  if (api.endpoint == Endpoint::kResponses) return "input";
  if (api.embeds() && !api.is_chat()) return "input";
  return api.is_chat() ? "messages" : "prompt";
}

PreparedPrompt PreparePrompt(const ApiRequest& api, size_t index, const ServedModel& model,
                             int max_context) {
  PreparedPrompt prompt;
  const text::Tokenizer& tokenizer = *model.tokenizer;
  const Nanos start = MonotonicNow(), cpu_start = ThreadCpuTime();
  StatusOr<std::string> rendered = std::string();
  const bool chat = api.is_chat();
  if (chat && model.chat_template != nullptr) {
    prompt.error = CheckTemplate(api, *model.chat_template);
    if (prompt.error) return prompt;
  }
  if (chat) rendered = Render(api, model);
  if (!rendered.ok()) {
    prompt.error = FromStatus(rendered.status());
    if (prompt.error->status == 400) {
      prompt.error->param = PromptParam(api);
      prompt.error->code = "invalid_value";
    }
    return prompt;
  }
  if (chat) prompt.reply_syntax = ReplySyntaxFor(api, *model.chat_template, *rendered);
  const Nanos rendered_at = MonotonicNow();
  const int asked = api.truncate_prompt_tokens;
  const auto most = static_cast<size_t>(asked == kTruncateToContext ? max_context : asked);
  if (!chat && !api.prompts[index].ids.empty()) {
    prompt.tokens = api.prompts[index].ids;
  } else {
    prompt.tokens =
        Tokenize(api, chat ? *rendered : api.prompts[index].text, model, most, prompt.known_tokens);
  }
  prompt.error = CheckIds(api, prompt.tokens, tokenizer.vocab_size());
  if (!prompt.error) {
    prompt.error =
        MakeReplyGrammar(api, tokenizer, index == 0, prompt.reply_syntax, prompt.grammar);
  }
  if (most > 0) Truncate(api, most, prompt.tokens);
  prompt.render = rendered_at - start;
  prompt.tokenize = MonotonicNow() - rendered_at;
  prompt.cpu = ThreadCpuTime() - cpu_start;
  return prompt;
}

std::string EchoOf(const ApiRequest& api, size_t index, const text::Tokenizer& tokenizer) {
  const ApiPrompt& prompt = api.prompts[index];
  if (prompt.ids.empty()) return prompt.text;
  std::string text;
  text::Utf8Stream stream;
  const bool with_special = !api.skip_special_tokens || api.endpoint == Endpoint::kDetokenize;
  stream.Push(tokenizer.Decode(prompt.ids, with_special), text);
  stream.Finish(text);
  return text;
}

}  // namespace tandem::http
