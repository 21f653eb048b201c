// What ranks say to each other until their group is complete: fixed structs, no encoding, because
// leader and rank are one build, which is what the first of them is there to find out.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "worker/step_plan.h"

namespace tandem::link {

inline constexpr uint32_t kRankProtocol = 0x54444d32;  // "TDM2": changes with the structs below

template <size_t N>
struct TextOf {
  char bytes[N] = {};
  void operator=(std::string_view s) {
    const size_t n = s.size() < N ? s.size() : N - 1;
    std::memcpy(bytes, s.data(), n);
    bytes[n] = 0;
  }
  std::string str() const { return std::string(bytes, ::strnlen(bytes, N)); }
};
using Text = TextOf<256>;

struct JoinMessage {
  uint32_t protocol = kRankProtocol;
  int32_t rank = 0;
  int32_t tp = 0;
  Text build;
  Text settings;
};

// Where a rank's communicator is found; from each rank to the leader, then all of them to each.
struct AddressMessage {
  static constexpr size_t kMaxBytes = 64 * 192;
  int32_t num_bytes = 0;
  char bytes[kMaxBytes] = {};
};

struct LoadedMessage {
  int32_t num_blocks = 0;
  Text fingerprint;
  Text instruction_set;
};

// To a rank: Joined and Go. On one machine a memory file comes with it.
struct Answer {
  enum : int32_t { kFits = 0, kMistake = 1, kTaken = 2 };
  int32_t refused = kFits;  // kTaken: there is such a rank, which may be on its way out
  int32_t num_blocks = 0;
  PlanLimits limits;
  Text reason;
};

template <class T>
std::span<const std::byte> BytesOf(const T& message) {
  return std::as_bytes(std::span(&message, 1));
}
template <class T>
std::span<std::byte> WritableBytesOf(T& message) {
  return std::as_writable_bytes(std::span(&message, 1));
}

}  // namespace tandem::link
