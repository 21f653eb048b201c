// Every attempt in flight, on every path: sent, cancelled, finished, failed, lost. The one place
// that knows how much this router has outstanding where; most routing bugs are accounting bugs.
//
// An attempt is entered once by Sent() and leaves once, by Finished() or GroupLost():
//
//   Sent ──▶ waiting ──Progressed──▶ running ──Finished──▶ gone
//              │ Cancelled             │ Cancelled
//              └──────▶ cancelling ◀───┘  ──Finished──▶ gone     (any state) ──GroupLost──▶ gone
//
// A cancelled attempt stays until its group says that it ended: until then it may hold KV blocks
// there. Messages about attempts that are not here are late; they change nothing and say so.
//
// Thread: the routing thread. Pure: no clock, no log.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/ids.h"
#include "router/routing/messages.h"

namespace tandem::routing {

struct AttemptKey {
  RequestId request = 0;
  uint32_t attempt = 0;
  bool operator==(const AttemptKey&) const = default;
};

struct Attempt {
  enum class State : uint8_t { kWaiting, kRunning, kCancelling };
  AttemptKey key;
  GroupId group;
  State state = State::kWaiting;
  int32_t uncached_tokens = 0;  // prompt tokens we expect the group to compute
  int32_t prompt_tokens = 0;
  bool prefilling = true;  // no first token yet
  bool reported = false;   // the group's load report includes it
  Nanos sent_at = 0;
  Nanos predicted_ttft = 0;
};

// What Sent() enters.
struct Sending {
  AttemptKey key;
  GroupId group;
  int32_t uncached_tokens = 0;
  int32_t prompt_tokens = 0;
  Nanos now = 0;
  Nanos predicted_ttft = 0;  // 0: unknown
  int32_t priority = 0;      // in the group
};

// Since the start; sent == finished + cancelled + failed + lost + in flight, always.
struct LedgerCounts {
  int64_t sent = 0, retried = 0;  // retried: those of `sent` with attempt > 0
  int64_t finished = 0, cancelled = 0, failed = 0, lost = 0;
};

// What is outstanding at one group.
struct GroupOutstanding {
  int32_t num_attempts = 0;       // all states
  int32_t num_prefilling = 0;     // without a first token
  int64_t prefill_tokens = 0;     // their uncached_tokens
  int64_t prompt_tokens = 0;      // of all: what they keep in its KV memory, replies apart
  int32_t num_unreported = 0;     // sent, and not in the group's load report yet
  int64_t unreported_tokens = 0;  // their uncached_tokens
  bool operator==(const GroupOutstanding&) const = default;
};

// One of those that are not in the load report yet.
struct Unreported {
  AttemptKey key;
  int32_t uncached_tokens = 0, prompt_tokens = 0;
  Nanos sent_at = 0;
  int32_t priority = 0;
};

class Ledger {
 public:
  // REQUIRES: its key is not in flight.
  void Sent(const Sending& sending);

  // Its first token came. False: not in flight here.
  bool Progressed(const AttemptKey& key);

  // We sent a Cancel. False: not in flight, or cancelled before.
  bool Cancelled(const AttemptKey& key);

  // It ended at its group, as `reason` says. Nothing: it was not in flight.
  std::optional<Attempt> Finished(const AttemptKey& key, FinishReason reason);

  // Takes out all that was at `group`, in order of sending.
  std::vector<Attempt> GroupLost(GroupId group);

  // The group's newest load report counts every request up to `last_request_seen`, in the order in
  // which they were sent there; 0: none.
  void Reported(GroupId group, RequestId last_request_seen);

  const Attempt* Find(const AttemptKey& key) const;  // null: not in flight
  GroupOutstanding Outstanding(GroupId group) const;
  // Sent there and not in its load report yet, in order of sending. Until the next change.
  std::span<const Unreported> UnreportedAt(GroupId group) const;
  int num_in_flight() const { return static_cast<int>(attempts_.size()); }
  const LedgerCounts& counts() const { return counts_; }
  void CheckInvariants() const;  // O(in flight); tests

 private:
  struct KeyHash {
    size_t operator()(const AttemptKey& key) const {
      return static_cast<size_t>(key.request * 0x9E3779B97F4A7C15ULL) ^ key.attempt;
    }
  };
  struct Group {
    GroupOutstanding outstanding;
    std::vector<Unreported> unreported;  // few: those of the last steps
  };
  void Leave(Attempt attempt);
  void MarkReported(Attempt& attempt);
  void EndPrefill(Attempt& attempt);

  std::unordered_map<AttemptKey, Attempt, KeyHash> attempts_;
  std::unordered_map<int32_t, Group> groups_;  // by GroupId; absent: nothing there
  LedgerCounts counts_;
};

}  // namespace tandem::routing
