// From a trace's requests to what the router gets: retimed arrivals, prompts as token ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/trace/trace.h"
#include "common/ids.h"

namespace tandem::simulator {

using trace::Trace;
using trace::TraceRequest;

// Moves every arrival by a random part of `jitter` (traces round arrivals down, some to seconds),
// then divides all by `rate_scale`. REQUIRES: jitter >= 0, rate_scale > 0.
void Retime(Trace& trace, Nanos jitter, double rate_scale, uint64_t seed);

// The prompt of trace.requests[index] as tokens in [0, vocab_size): each hash id gives its tokens;
// what no id covers is like nothing else in the trace. Replaces `prompt`, reusing its memory.
void MakePrompt(const Trace& trace, size_t index, int vocab_size, std::vector<TokenId>& prompt);

}  // namespace tandem::simulator
