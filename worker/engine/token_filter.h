// Structured output as the engine sees it: which tokens may come next in one reply.
#pragma once

#include <cstdint>
#include <span>

#include "common/ids.h"

namespace tandem::engine {

// The place of one sequence in its grammar. Thread: the engine thread.
class TokenFilter {
 public:
  virtual ~TokenFilter() = default;
  // Goes on by one token of the reply, which is not one that ended it. False: it may not come here,
  // or leads to where the grammar is too ambiguous; then only the destructor may be called.
  virtual bool Accept(TokenId token) = 0;
  // Sets the bits of the tokens that may come next and clears all others; see kernels/sampling.h.
  enum class Filled : uint8_t {
    kTokens,   // at least one
    kNothing,  // none: only the end may follow
    kPending,  // not known yet, but some may; Plan is called again when it is
    kTooMuch,  // the grammar is too ambiguous here
  };
  virtual Filled Fill(std::span<uint32_t> mask) = 0;
  virtual bool CanEnd() const = 0;
  // Control tokens have no text, so no grammar lets them come; those may that end a reply.
  virtual bool IsControl(TokenId token) const = 0;
};

}  // namespace tandem::engine
