// The order in which a group computes prompts, and routers the requests that wait for one: the
// least score first, then by arrival. Routers predict from it (engine.planning.ageing).
#pragma once

#include <cstdint>

#include "common/ids.h"

namespace tandem {

// Shortest first keeps the mean time to first token low; ageing keeps the longest from waiting for
// ever: a prompt of 8,192 tokens passes newcomers after 33 s. A level of priority is worth 16 s.
inline constexpr int64_t kAgeingTokensPerSecond = 250;
inline constexpr int64_t kTokensPerPriority = 4096;

// Prompts of negative priority fill a step to one part of so many only: what comes while they are
// computed waits that much less (engine.planning.patient). Routers send those of clients that flood
// with one, while there are others.
inline constexpr int32_t kPatientPart = 4;

inline int64_t PromptScore(int64_t remaining_tokens, Nanos age, int64_t priority) {
  return remaining_tokens - age / kMillisecond * kAgeingTokensPerSecond / 1000 -
         kTokensPerPriority * priority;
}

}  // namespace tandem
