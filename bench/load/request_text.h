// The bytes of a request: an HTTP head and an OpenAI body that asks for a stream with usage.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/load/target.h"
#include "bench/load/workload.h"

namespace tandem::load {

enum class Endpoint : uint8_t { kChat, kCompletions };

struct RequestOptions {
  Endpoint endpoint = Endpoint::kChat;
  std::string model;
  std::string extra_members;  // of the body: `"a":1,"b":2`; empty: none
  std::string api_key;        // empty: no Authorization
  std::vector<std::pair<std::string, std::string>> headers;
};

// Of turn `turn`, with everything said before: replies[i] is the (escaped) answer to turn i.
// warm_up: the text begins otherwise, so that it fills no prefix cache for what is measured.
std::string RequestText(const Target& target, const RequestOptions& options,
                        const Conversation& conversation, size_t turn,
                        std::span<const std::string> replies, bool warm_up);

// GET of a path below the target's base.
std::string GetText(const Target& target, const RequestOptions& options, std::string_view path);

// In quotes, escaped. REQUIRES: valid UTF-8.
std::string Quoted(std::string_view text);

}  // namespace tandem::load
