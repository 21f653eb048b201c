#include "router/http/prompt.h"

#include <fmt/format.h>

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
  for (const TokenId id : prompt) {
    if (auto error = CheckId("prompt", id, vocab_size)) return error;
  }
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
  return model.chat_template->Render(ChatInputOf(api, *model.chat_template));
}

std::vector<TokenId> Tokenize(const ApiRequest& api, const std::string& text,
                              const text::Tokenizer& tokenizer) {
  std::vector<TokenId> tokens = tokenizer.Encode(text);
  if (api.add_special_tokens.value_or(!api.is_chat())) {
    const std::span<const TokenId> prefix = tokenizer.prefix_ids();
    tokens.insert(tokens.begin(), prefix.begin(), prefix.end());
  }
  return tokens;
}

}  // namespace

const char* PromptParam(const ApiRequest& api) {
  if (api.endpoint == Endpoint::kResponses) return "input";
  return api.is_chat() ? "messages" : "prompt";
}

PreparedPrompt PreparePrompt(const ApiRequest& api, size_t index, const ServedModel& model) {
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
    if (prompt.error->status == 400) prompt.error->param = PromptParam(api);
    return prompt;
  }
  if (chat) prompt.reply_syntax = ReplySyntaxFor(api, *model.chat_template, *rendered);
  const Nanos rendered_at = MonotonicNow();
  if (!chat && !api.prompts[index].ids.empty()) {
    prompt.tokens = api.prompts[index].ids;
  } else {
    prompt.tokens = Tokenize(api, chat ? *rendered : api.prompts[index].text, tokenizer);
  }
  prompt.error = CheckIds(api, prompt.tokens, tokenizer.vocab_size());
  if (!prompt.error) {
    prompt.error =
        MakeReplyGrammar(api, tokenizer, index == 0, prompt.reply_syntax, prompt.grammar);
  }
  const auto most = static_cast<size_t>(api.truncate_prompt_tokens);
  if (most > 0 && prompt.tokens.size() > most) {
    prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.end() - static_cast<ptrdiff_t>(most));
  }
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
