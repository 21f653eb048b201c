// The part of Service that is other for embeddings: a prompt needs no room for a reply, a group
// answers once, and of a call's many inputs few are in flight.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "router/http/json_fields.h"
#include "router/http/service.h"

namespace tandem::http {
namespace {

// To length 1; what has none stays.
void Normalize(std::vector<float>& embedding) {
  double squares = 0;
  for (const float x : embedding) squares += double{x} * double{x};
  const double length = std::max(std::sqrt(squares), 1e-12);
  for (float& x : embedding) x = static_cast<float>(x / length);
}

bool AllFinite(const std::vector<float>& embedding) {
  return std::all_of(embedding.begin(), embedding.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

routing::Pooling Service::PoolingOf(const Generation& g) const {
  return g.call->api.embeds() ? PoolOf(g).model().pooling : routing::Pooling::kNone;
}

std::optional<ApiError> Service::CheckInput(const Generation& g, const Pool& pool) {
  const ApiRequest& api = g.call->api;
  const int size = pool.dispatcher().embedding_size();
  if (size == 0) {
    return InvalidRequest("model",
                          fmt::format("No group of the model '{}' computes embeddings: those with "
                                      "'device: cpu' do.",
                                      pool.model().name),
                          "invalid_value");
  }
  if (api.dimensions != 0 && api.dimensions != size) {
    return NotSupported("dimensions", fmt::format("embeddings of this model have {} dimensions and "
                                                  "are not shortened",
                                                  size));
  }
  const int length = static_cast<int>(g.prompt->size());
  const char* const param = PromptParam(api);
  if (length == 0) return InvalidRequest(param, "The input has no tokens.", "invalid_value");
  const int context = pool.dispatcher().max_context();
  if (length <= context) return std::nullopt;
  return InvalidRequest(
      param,
      fmt::format("{} {} tokens. However, input {} comes to {}. Please shorten it, or send "
                  "'truncate_prompt_tokens'.",
                  pool.memory_bounds_context() ? "The KV memory of this model's groups holds"
                                               : "This model's maximum context length is",
                  context, g.prompt_index, length),
      "context_length_exceeded");
}

void Service::DeliverEmbedding(const GenerationPtr& generation, const routing::StepReport& report,
                               routing::SequenceTokens& sequence, Nanos now) {
  Generation& g = *generation;
  if (sequence.embedding.empty()) {
    if (sequence.finish != routing::FinishReason::kNone) FailedAtGroup(generation, sequence);
    return;
  }
  if (!AllFinite(sequence.embedding)) {
    return Fail(generation,
                ServerError(500, "generation_failed", "the model's hidden state is not finite"));
  }
  AccountFirstToken(g, report, sequence, now);
  g.account.first_token = now;
  g.embedding = std::move(sequence.embedding);
  if (g.call->api.normalize.value_or(true)) Normalize(g.embedding);
  g.finish_reason = "stop";
  ReplySink* const sink = g.call->sink;
  End(g);
  if (g.call->ended()) g.call->sink = nullptr;
  sink->OnFinished(g);
  StartNextInput(generation);
}

void Service::StartNextInput(const GenerationPtr& ended) {
  ApiCall& call = *ended->call;
  if (call.num_entered == call.generations.size()) return;
  const GenerationPtr next(ended, &call.generations[call.num_entered]);
  Enter(std::shared_ptr<ApiCall>(ended, &call), 1);
  Advance(next);
}

}  // namespace tandem::http
