#include "router/http/embeddings_format.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <iterator>
#include <span>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

static_assert(std::endian::native == std::endian::little, "clients take the low byte first");

void AppendBase64(std::string& out, std::span<const float> floats) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(floats);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) {
      bits = bits << 8 | (i + k < bytes.size() ? std::to_integer<uint32_t>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += i + k <= bytes.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
  }
}

// The shortest decimals that read back as the same float32.
void AppendNumbers(std::string& out, std::span<const float> floats) {
  for (size_t i = 0; i < floats.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? '[' : ',', floats[i]);
  }
  out += ']';
}

}  // namespace

std::string EmbeddingsBody(const ApiCall& call, int64_t created, const Usage& usage,
                           std::string_view timing) {
  std::string out;
  fmt::format_to(std::back_inserter(out),
                 "{{\"id\":\"embd-{}\",\"object\":\"list\",\"created\":{},\"model\":",
                 call.request_id, created);
  AppendJsonString(out, call.served_model());
  out += ",\"data\":[";
  for (size_t i = 0; i < call.generations.size(); ++i) {
    if (i > 0) out += ',';
    fmt::format_to(std::back_inserter(out),
                   "{{\"object\":\"embedding\",\"index\":{},\"embedding\":", i);
    const std::span<const float> embedding = call.generations[i].embedding;
    if (call.api.base64) {
      out += '"';
      AppendBase64(out, embedding);
      out += '"';
    } else {
      AppendNumbers(out, embedding);
    }
    out += '}';
  }
  fmt::format_to(std::back_inserter(out),
                 "],\"usage\":{{\"prompt_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}",
                 usage.prompt_tokens, usage.prompt_tokens, usage.cached_tokens);
  if (!timing.empty()) {
    out += ",\"timing\":";
    out += timing;
  }
  return out + '}';
}

}  // namespace tandem::http
