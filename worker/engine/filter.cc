// Structured output: the mask of a sequence's next token is made when the one before is known.
#include <utility>

#include "worker/engine/engine.h"

namespace tandem::engine {

// False: nothing may follow.
bool Engine::FillMask(Sequence& seq) const {
  if (!seq.filter->Fill(seq.mask)) return false;
  if (!seq.filter->CanEnd()) return true;
  for (const TokenId id : seq.stop_ids) {
    if (!IsInVocabulary(id) || !seq.filter->IsControl(id)) continue;
    seq.mask[static_cast<size_t>(id) / 32] |= uint32_t{1} << (id % 32);
  }
  return true;
}

// After seq.tokens has grown. A reply that is complete ends without a token that says so: there is
// nothing else it could draw.
FinishReason Engine::Filter(Sequence& seq, FinishReason reason, Output& output) {
  const TokenId token = seq.tokens.back();
  if (reason == FinishReason::kStop && seq.filter->IsControl(token)) return reason;
  if (!seq.filter->Accept(token)) {
    // It was forced, or no logit was a number.
    output.error = "the reply left its grammar";
    output.error_kind = ErrorKind::kInternal;
    return FinishReason::kError;
  }
  if (reason == FinishReason::kStop || FillMask(seq)) return reason;
  if (seq.filter->CanEnd()) return FinishReason::kStop;
  output.error = "the model has no token with which the grammar could go on";
  output.error_kind = ErrorKind::kInvalid;
  return FinishReason::kError;
}

}  // namespace tandem::engine
