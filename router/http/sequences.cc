// The part of Service that says what a sequence of text is: how long it may be, what its group is
// told, and how its tokens become text.
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "router/http/service.h"

namespace tandem::http {

std::optional<ApiError> Service::CheckLength(Generation& g, const Pool& pool) {
  const ApiRequest& api = g.call->api;
  const int context = pool.dispatcher().max_context();
  const auto limit = [&] {
    return fmt::format("{} {} tokens",
                       pool.memory_bounds_context() ? "The KV memory of this model's groups holds"
                                                    : "This model's maximum context length is",
                       context);
  };
  const int length = static_cast<int>(g.prompt->size());
  const bool chat = api.endpoint == Endpoint::kChat;
  const char* param = PromptParam(api);
  if (length == 0) {
    return InvalidRequest(param, "The prompt has no tokens.", "invalid_value");
  }
  if (length >= context) {
    return InvalidRequest(
        param,
        fmt::format(
            "{}. However, your {} {} to {} token{}. Please shorten that; at least one token "
            "must be left for the reply.",
            limit(), param, chat ? "come" : "comes", length, length == 1 ? "" : "s"),
        "context_length_exceeded");
  }
  if (api.max_tokens && *api.max_tokens > context - length) {
    return InvalidRequest(
        api.max_tokens_param,
        fmt::format("{}. However, you requested {} tokens ({} in the {}, {} in the completion).",
                    limit(), int64_t{length} + *api.max_tokens, length, param, *api.max_tokens),
        "context_length_exceeded");
  }
  const int32_t room = context - length;
  const int32_t usual = pool.model().sampling.max_tokens;
  g.max_tokens = api.max_tokens.value_or(usual > 0 ? std::min(usual, room) : room);
  if (api.min_tokens > g.max_tokens) {
    return InvalidRequest("min_tokens",
                          fmt::format("{}; {} are left for the reply, fewer than 'min_tokens'.",
                                      limit(), g.max_tokens),
                          "context_length_exceeded");
  }
  return std::nullopt;
}

// What its group is told.
routing::GenerateRequest Service::RequestOf(const Generation& g) const {
  const ApiRequest& api = g.call->api;
  routing::GenerateRequest request;
  request.request = g.id;
  request.attempt = g.attempt;
  request.index = g.index;
  request.prompt = *g.prompt;
  request.cache_salt = api.cache_salt;
  request.pooling = PoolingOf(g);
  if (api.embeds()) return request;
  request.max_tokens = g.max_tokens;
  const SamplingDefaults& defaults = PoolOf(g).model().sampling;
  request.temperature = g.temperature;
  request.top_p = g.top_p;
  request.min_p = api.min_p.value_or(defaults.min_p);
  request.top_k = api.top_k == kAbsentTopK ? defaults.top_k : std::max(api.top_k, 0);
  request.repetition_penalty = api.repetition_penalty.value_or(defaults.repetition_penalty);
  request.presence_penalty = api.presence_penalty.value_or(0);
  request.frequency_penalty = api.frequency_penalty.value_or(0);
  request.seed = g.call->seed;
  request.num_logprobs = api.logprobs ? api.top_logprobs : api.best_of > api.n ? 0 : -1;
  const std::span<const TokenId> ends = g.tokenizer->end_ids();
  if (!api.ignore_eos) request.stop_ids.assign(ends.begin(), ends.end());
  request.stop_ids.insert(request.stop_ids.end(), api.stop_token_ids.begin(),
                          api.stop_token_ids.end());
  request.min_tokens = api.min_tokens;
  request.logit_bias = api.logit_bias;
  request.grammar = g.grammar;
  return request;
}

// How its tokens become text.
void Service::MakeDecoder(Generation& g, const Pool& pool) {
  const ApiRequest& api = g.call->api;
  g.temperature = api.temperature.value_or(pool.model().sampling.temperature);
  g.top_p = api.top_p.value_or(pool.model().sampling.top_p);
  text::StreamDecoder::Options options = {
      .stop = api.stop,
      .include_stop = api.include_stop,
      .with_special = !api.skip_special_tokens,
      .min_tokens = api.min_tokens,
      .continues = !api.is_chat() || api.continue_final_message};
  if (g.reply_syntax) options.shown = pool.mark_ids(g.reply_syntax->tools != nullptr);
  g.decoder.emplace(*g.tokenizer, options);
}

}  // namespace tandem::http
