// What comes in: requests are checked once, here; later phases cannot fail.
#include <algorithm>
#include <limits>
#include <utility>

#include "common/status.h"
#include "worker/engine/engine.h"

namespace tandem::engine {
namespace {

// Of the client, and of the stop ids that must not come before min_tokens. In a grammar one that
// has text may be all that can come: it is drawn, and does not stop the reply yet.
std::vector<TokenBias> BiasesOf(Generate& request, const Sequence& seq, const TokenFilter* filter,
                                int vocab_size) {
  std::vector<TokenBias> biases = std::move(request.biases);
  if (request.min_tokens > 0) {
    const int32_t until = seq.num_prompt_tokens + seq.min_output_tokens;
    for (const TokenId id : seq.stop_ids) {
      if (id < 0 || id >= vocab_size) continue;  // never drawn anyway
      if (filter != nullptr && !filter->IsControl(id)) continue;
      biases.push_back({id, -std::numeric_limits<float>::infinity(), until});
    }
  }
  std::stable_sort(biases.begin(), biases.end(),
                   [](const TokenBias& a, const TokenBias& b) { return a.token < b.token; });
  return biases;
}

size_t NumBiases(const Generate& request) {
  return request.biases.size() + (request.min_tokens > 0 ? request.stop_ids.size() : 0);
}

}  // namespace

void Engine::Reject(const SequenceKey& key, FinishReason reason, std::string error,
                    ErrorKind kind) {
  Output& output = NewOutput(key);
  output.finish = reason;
  output.error = std::move(error);
  output.error_kind = kind;
}

void Engine::Add(Generate&& request, std::unique_ptr<TokenFilter> filter, Nanos now) {
  if (by_key_.contains(request.key)) {
    ++num_duplicates_;
    return;
  }
  ErrorKind kind{};
  if (std::string refusal = Refusal(request, filter.get(), kind); !refusal.empty()) {
    return Reject(request.key, FinishReason::kError, std::move(refusal), kind);
  }
  auto owned = std::make_unique<Sequence>();
  Sequence& seq = *owned;
  seq.id = ++last_seq_;
  seq.index = sequences_.size();
  seq.key = request.key;
  seq.sampling = request.sampling;
  seq.stop_ids = std::move(request.stop_ids);
  seq.forced = std::move(request.forced);
  seq.pooling = request.pooling;
  seq.root = RootHash(options_.hash_seed, request.cache_salt);
  seq.tokens = std::move(request.prompt);
  seq.num_prompt_tokens = seq.sampling.num_prompt_tokens = seq.num_tokens();
  const bool pooled = seq.pooling != Pooling::kNone;
  seq.max_output_tokens =
      pooled ? 0 : std::min(request.max_tokens, context_ - seq.num_prompt_tokens);
  seq.min_output_tokens = request.min_tokens;
  seq.biases = BiasesOf(request, seq, filter.get(), options_.vocab_size);
  if (filter != nullptr && !pooled) {
    seq.filter = std::move(filter);
    seq.mask.resize(static_cast<size_t>(limits_.mask_words));
    Output probe;
    if (Continue(seq, FillMask(seq), FinishReason::kNone, probe) != FinishReason::kNone) {
      std::string why =
          probe.error.empty() ? "the grammar allows no token to begin with" : probe.error;
      return Reject(seq.key, FinishReason::kError, std::move(why), ErrorKind::kGrammar);
    }
    ++num_filtered_;
  }
  seq.priority = request.priority;
  seq.arrival = seq.accounted = now;
  seq.deadline = request.deadline_in > 0 ? now + request.deadline_in : 0;
  if (seq.pooling != Pooling::kMean) ExtendHashes(seq, limits_.block_size);
  seq.cached_estimate = blocks_.MatchPrefix(seq) * limits_.block_size;
  by_key_.emplace(seq.key, &seq);
  waiting_.push_back(&seq);
  sequences_.push_back(std::move(owned));
}

std::string Engine::Refusal(const Generate& request, const TokenFilter* filter,
                            ErrorKind& kind) const {
  kind = ErrorKind::kInvalid;
  const size_t length = request.prompt.size();
  if (length == 0) return "the prompt is empty";
  const bool pooled = request.pooling != Pooling::kNone;
  if (!pooled && !options_.tokens) {
    return "the model has no output matrix: it gives embeddings, at /v1/embeddings, and no tokens";
  }
  if (pooled && !options_.embeddings) {
    return "embeddings are not computed on this group's device";
  }
  if (pooled && length > static_cast<size_t>(context_)) {
    return fmt::format("a prompt of {} tokens does not fit: at most {} do", length, context_);
  }
  if (!pooled && length >= static_cast<size_t>(context_)) {
    return fmt::format("a prompt of {} tokens does not fit: at most {} leave room for a reply",
                       length, context_ - 1);
  }
  if (!pooled && request.max_tokens < 1)
    return fmt::format("max_tokens is {}, not 1 or more", request.max_tokens);
  if (!options_.penalties && request.sampling.penalized()) {
    return "penalties are not computed on this group's device";
  }
  if (request.min_tokens < 0 || request.min_tokens > request.max_tokens) {
    return fmt::format("min_tokens is {}, not 0 to max_tokens, {}", request.min_tokens,
                       request.max_tokens);
  }
  if (NumBiases(request) > kMaxTokenBiases) {
    return fmt::format("{} tokens are biased or held back until min_tokens, the most is {}",
                       NumBiases(request), kMaxTokenBiases);
  }
  if (!std::all_of(request.biases.begin(), request.biases.end(),
                   [this](const TokenBias& b) { return IsInVocabulary(b.token); })) {
    return fmt::format("a biased token is outside the vocabulary of {}", options_.vocab_size);
  }
  if ((request.grammar.kind != grammar::GrammarSpec::Kind::kNone) != (filter != nullptr)) {
    kind = ErrorKind::kInternal;
    return "structured output is not available on this group";
  }
  if (!InVocabulary(request.prompt) || !InVocabulary(request.forced)) {
    kind = ErrorKind::kInternal;  // clients send text: the router's tokenizer made this
    return fmt::format("a token id is outside the vocabulary of {}", options_.vocab_size);
  }
  if (waiting_.size() >= static_cast<size_t>(options_.max_queued)) {
    kind = ErrorKind::kBusy;
    return fmt::format("{} sequences are waiting already", waiting_.size());
  }
  return "";
}

// A negative id would be taken for kLastSampled, a large one read past the embedding.
bool Engine::InVocabulary(std::span<const TokenId> tokens) const {
  return std::all_of(tokens.begin(), tokens.end(), [this](TokenId t) { return IsInVocabulary(t); });
}

void Engine::CancelKey(const SequenceKey& key, Nanos now) {
  const auto it = by_key_.find(key);
  if (it != by_key_.end()) End(*it->second, FinishReason::kCancelled, now);
}

void Engine::CancelRouter(Nonce router, Nanos now) {
  for (size_t i = sequences_.size(); i-- > 0;) {  // backwards: End() moves the last one to i
    Sequence& seq = *sequences_[i];
    if (seq.key.router == router && !seq.ended()) End(seq, FinishReason::kCancelled, now);
  }
}

}  // namespace tandem::engine
