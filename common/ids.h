// Ids. Those that index arrays are types of their own, without arithmetic, so that a block is
// never taken for a group; those that only name things are integers.
#pragma once

#include <compare>
#include <cstdint>

namespace tandem {

template <class Tag>
struct Id {
  int32_t value = -1;  // -1: none
  bool valid() const { return value >= 0; }
  auto operator<=>(const Id&) const = default;
};

using BlockId = Id<struct BlockTag>;  // index into every rank's KV tensors
using GroupId = Id<struct GroupTag>;  // local to a router, never on the wire
using TokenId = int32_t;              // arithmetic on vocabularies is legitimate
using SeqId = uint64_t;               // unique within one leader's lifetime
using RequestId = uint64_t;           // unique within one router's lifetime
using Nonce = uint64_t;               // random, names one lifetime of a process or session
using Nanos = int64_t;                // monotonic time, or a duration

inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

// A sequence as both sides of the wire name it. A retry is a new attempt.
struct SequenceKey {
  Nonce router = 0;
  RequestId request = 0;
  uint32_t attempt = 0;
  uint32_t index = 0;  // which of the request's n sequences
  auto operator<=>(const SequenceKey&) const = default;
};

}  // namespace tandem
