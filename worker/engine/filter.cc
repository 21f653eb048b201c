// Structured output: the mask of a sequence's next token is made when the one before is known.
#include <utility>

#include "worker/engine/engine.h"

namespace tandem::engine {
namespace {

using Filled = TokenFilter::Filled;

bool IsSet(std::span<const uint32_t> mask, TokenId token) {
  return (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0;
}

}  // namespace

TokenFilter::Filled Engine::FillMask(Sequence& seq) {
  const Filled filled = seq.filter->Fill(seq.mask);
  num_masks_pending_ += static_cast<int>(filled == Filled::kPending) -
                        static_cast<int>(std::exchange(seq.mask_pending, false));
  seq.mask_pending = filled == Filled::kPending;
  if (filled != Filled::kTokens || !seq.filter->CanEnd()) return filled;
  for (const TokenId id : seq.stop_ids) {
    if (!IsInVocabulary(id) || !seq.filter->IsControl(id)) continue;
    seq.mask[static_cast<size_t>(id) / 32] |= uint32_t{1} << (id % 32);
  }
  return filled;
}

// After seq.tokens has grown. A reply that is complete ends without a token that says so: there is
// nothing else it could draw.
FinishReason Engine::Filter(Sequence& seq, FinishReason reason, Output& output) {
  const TokenId token = seq.tokens.back();
  if (reason == FinishReason::kStop && seq.filter->IsControl(token)) return reason;
  if (!seq.filter->Accept(token)) {
    // Else it was forced, or no logit was a number.
    const bool allowed = IsSet(seq.mask, token);
    output.error = allowed ? "the grammar is too ambiguous where the reply came to"
                           : "the reply left its grammar";
    output.error_kind = allowed ? ErrorKind::kGrammar : ErrorKind::kInternal;
    return FinishReason::kError;
  }
  if (reason == FinishReason::kStop) return reason;
  return Continue(seq, FillMask(seq), reason, output);
}

// How the sequence stands once its mask is made, or is not. `reason`: how it stood before.
FinishReason Engine::Continue(const Sequence& seq, TokenFilter::Filled filled, FinishReason reason,
                              Output& output) {
  if (filled == Filled::kTokens || filled == Filled::kPending) return reason;
  if (filled == Filled::kNothing && seq.filter->CanEnd()) return FinishReason::kStop;
  if (reason != FinishReason::kNone) return reason;
  output.error = filled == Filled::kTooMuch
                     ? "the grammar is too ambiguous where the reply came to"
                     : "the model has no token with which the grammar could go on";
  output.error_kind = ErrorKind::kGrammar;
  return FinishReason::kError;
}

// Those whose mask was not known after their last token.
void Engine::FillPendingMasks(Nanos now) {
  for (size_t i = sequences_.size(); i-- > 0 && num_masks_pending_ > 0;) {
    Sequence& seq = *sequences_[i];  // backwards: the end of one moves the last one to i
    if (!seq.mask_pending || seq.ended()) continue;
    const TokenFilter::Filled filled = FillMask(seq);
    Output probe;
    const FinishReason reason = Continue(seq, filled, FinishReason::kNone, probe);
    if (reason == FinishReason::kNone) continue;
    End(seq, reason, now, std::move(probe.error), probe.error_kind);
  }
}

}  // namespace tandem::engine
