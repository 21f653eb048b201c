// What is added to the logit of one token before it is drawn: what a client asked for, or minus
// infinity for what must not come yet.
#pragma once

#include <cstdint>
#include <limits>

#include "common/ids.h"

namespace tandem {

// Plain bytes: it crosses processes and devices.
struct TokenBias {
  TokenId token = 0;
  float bias = 0;                                       // not NaN, not plus infinity
  int32_t until = std::numeric_limits<int32_t>::max();  // for tokens drawn at positions below it
};

// Of one sequence: OpenAI's 300, and room for the tokens that end a reply.
inline constexpr int kMaxTokenBiases = 384;

}  // namespace tandem
