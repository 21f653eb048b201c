#include "bench/load/record.h"

#include <array>

namespace tandem::load {

std::string_view Name(Outcome outcome) {
  static constexpr std::array<std::string_view, kNumOutcomes> kNames = {
      "pending",     "ok",        "connect",   "no_response", "http_status", "protocol",
      "error_event", "truncated", "no_tokens", "timeout",     "cancelled"};
  return kNames[static_cast<size_t>(outcome)];
}

}  // namespace tandem::load
