// Recorded traffic: when requests came, how long their prompts and replies were, and which prefixes
// they shared. Not what they said: a hash id stands for `hash_tokens` tokens of a prompt, and equal
// ids mean equal tokens.
//
// Three formats are read (docs/simulate.md), plain or gzipped, told apart by their first line:
//   Mooncake   JSON lines; 512 tokens an id; the last id covers what is left of the prompt
//   recorded   the same lines after a first one that names the version and the tokens of an id
//   Azure      CSV of arrivals and lengths; no ids, so nothing is shared
// A length of 0 is taken for 1: a prompt cannot be empty, and a reply has a token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::trace {

struct TraceRequest {
  Nanos arrival = 0;  // since the first request
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;
  size_t first_hash = 0;  // of Trace::hashes
  int32_t num_hashes = 0;
};

struct Trace {
  int32_t hash_tokens = 0;             // prompt tokens that an id stands for; 0: there are no ids
  std::vector<uint64_t> hashes;        // of all requests
  std::vector<TraceRequest> requests;  // by arrival; at least one

  std::span<const uint64_t> HashesOf(const TraceRequest& request) const {
    return std::span(hashes).subspan(request.first_hash, static_cast<size_t>(request.num_hashes));
  }
};

// kInvalidArgument: `file:line: what is wrong; what would be right`.
StatusOr<Trace> ReadTrace(const std::string& path);

// The same of a text; `path` is what messages say.
StatusOr<Trace> ParseTrace(const std::string& text, const std::string& path);

}  // namespace tandem::trace
