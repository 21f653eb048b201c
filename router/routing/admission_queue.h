// Requests that wait because every group has its fill. Served by class of priority, then fairly
// between clients (fair_share.h), then within a client by least tokens to compute, which ageing
// turns around: as groups do it.
//
// Thread: the routing thread. Memory: what is pushed; bounded by the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"
#include "router/routing/fair_share.h"

namespace tandem::routing {

struct WaitingRequest {
  RequestId id = 0;
  uint32_t attempt = 0;
  int32_t prompt_tokens = 0;
  int32_t own_tokens = 0;  // to compute at the group that held most when it came
  int32_t max_tokens = 0;
  int32_t priority = 0;
  uint64_t client = 0, session = 0;
  Nanos queued_at = 0;
  Nanos deadline = 0;                          // 0: none
  std::vector<std::vector<BlockHash>> chains;  // one for each way in which groups hash blocks
};

class AdmissionQueue {
 public:
  void Push(WaitingRequest request);

  // Index of the one to be served next, `within_share`: among those whose clients have not had
  // more than their share; -1: none. O(size).
  int Next(const FairShare& shares, Nanos now, bool within_share) const;
  static bool Precedes(const WaitingRequest& a, const WaitingRequest& b, const FairShare& shares,
                       Nanos now);
  const WaitingRequest& at(int index) const { return waiting_[static_cast<size_t>(index)]; }
  WaitingRequest Take(int index);
  std::optional<WaitingRequest> Remove(RequestId id, uint32_t attempt);

  // Tokens that are served before a request of these, pushed now: those of higher classes, and of
  // each client of its class what fair shares let pass.
  int64_t TokensAhead(uint64_t client, int32_t priority, int32_t own_tokens) const;

  Nanos next_deadline() const;  // 0: none
  int size() const { return static_cast<int>(waiting_.size()); }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  std::vector<WaitingRequest> waiting_;
  int64_t num_tokens_ = 0;
};

}  // namespace tandem::routing
