// Requests that wait because every group has its fill. Served by class of priority, then fairly
// between clients (fair_share.h), then within a client by least tokens to compute, which ageing
// turns around: as groups do it.
//
// Thread: the routing thread. Memory: what is pushed; bounded by the caller.
#pragma once

#include <cstddef>
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
  bool embeds = false;  // only groups that compute embeddings may have it
  int32_t priority = 0;
  uint64_t client = 0, session = 0;
  Nanos queued_at = 0;
  Nanos deadline = 0;                          // 0: none
  std::vector<std::vector<BlockHash>> chains;  // one for each way in which groups hash blocks
};

class AdmissionQueue {
 public:
  struct Position {  // until the next change
    size_t line = 0, index = 0;
  };

  void Push(WaitingRequest request);
  bool Holds(uint64_t client) const;      // a request of it
  int64_t Tokens(uint64_t client) const;  // of its requests, to compute

  // The one to be served next, of clients whose lead is at most `max_lead`. O(clients + requests of
  // these).
  std::optional<Position> Next(const FairShare& shares, double max_lead, Nanos now) const;
  // `a` is served before `b`.
  static bool Precedes(const WaitingRequest& a, const WaitingRequest& b, const FairShare& shares,
                       Nanos now);

  const WaitingRequest& at(Position p) const { return lines_[p.line].waiting[p.index]; }
  WaitingRequest Take(Position position);
  std::optional<WaitingRequest> Remove(RequestId id, uint32_t attempt);
  std::optional<Position> FindExpired(Nanos now) const;  // one whose deadline has come

  // Tokens that are served before a request of these, pushed now: those of higher classes, and of
  // each client of its class what fair shares let pass.
  int64_t TokensAhead(uint64_t client, int32_t priority, int32_t own_tokens) const;

  Nanos next_deadline() const { return next_deadline_; }  // 0: none
  int size() const { return size_; }

 private:
  struct Line {  // not empty
    uint64_t client = 0;
    std::vector<WaitingRequest> waiting;
    int64_t tokens = 0;  // own_tokens of all
  };
  void FindNextDeadline();

  std::vector<Line> lines_;
  int size_ = 0;
  Nanos next_deadline_ = 0;
};

}  // namespace tandem::routing
