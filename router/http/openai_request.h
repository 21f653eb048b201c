// The OpenAI request, read and checked: what a body says, in our words. A field that is not known,
// not supported or of the wrong type is refused by name; nothing is accepted and ignored, except
// values that say what would happen anyway (n = 1, logprobs = false, ...). docs/api.md lists them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/http/error.h"

namespace tandem::http {

enum class Endpoint : uint8_t { kChat, kCompletions };

inline constexpr int kMaxStopStrings = 4;
inline constexpr size_t kMaxNameBytes = 256;  // of `model` and `user`
inline constexpr int kMaxStopBytes = 1024;    // of one; the decoder holds back up to this much

struct ApiMessage {
  std::string role;  // system | user | assistant
  std::string content;
};

struct ApiRequest {
  Endpoint endpoint = Endpoint::kChat;
  std::string model;
  std::vector<ApiMessage> messages;  // kChat: at least one
  std::string prompt;                // kCompletions
  bool stream = false;
  bool include_usage = false;
  std::vector<std::string> stop;
  std::optional<uint64_t> seed;
  float temperature = 1;
  float top_p = 1;  // (0, 1]
  float min_p = 0;  // [0, 1)
  int32_t top_k = 0;
  float repetition_penalty = 1;       // [0.01, 100]; 1: off
  float presence_penalty = 0;         // [-2, 2]
  float frequency_penalty = 0;        // [-2, 2]
  std::optional<int32_t> max_tokens;  // >= 1; absent: what the context leaves
  std::string user;                   // appears in the log

  size_t num_text_bytes() const;
};

// Fills `out`, or says what is wrong.
std::optional<ApiError> ParseRequest(Endpoint endpoint, std::string_view body, ApiRequest& out);

}  // namespace tandem::http
