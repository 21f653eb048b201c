// All that lies between "the prompt is tokens" and "it goes to this group", for the groups of one
// model (a pool): prefix index, ledger, step-time models, policy, admission. The service and the
// simulator drive this same code.
//
//   Submit ──▶ sent ──▶ first token ──▶ ended           Cancel, GroupLost: from any state
//      │        ▲
//      ├▶ queued┤ Poll
//      └────────┴▶ rejected
//
// Who calls sends what Dispatch names to that group, in the order in which dispatches are returned,
// and tells everything that comes back through OnReport.
//
// Thread: the routing thread. Pure: no clock, no log. Memory: the index, bounded by the groups'
// pools; a record for each request in flight; at most `max_queued` requests that wait.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"
#include "router/routing/admission_queue.h"
#include "router/routing/fair_share.h"
#include "router/routing/latency_model.h"
#include "router/routing/ledger.h"
#include "router/routing/messages.h"
#include "router/routing/policy.h"
#include "router/routing/prediction_error.h"
#include "router/routing/prefix_index.h"

namespace tandem::routing {

struct DispatcherOptions {
  int max_queued = 1024;  // requests that wait here; beyond: rejected
  // A group takes no more while what waits there would take longer than this to compute. Large
  // enough to let the group order its prompts itself: binding late does not pay.
  Nanos max_group_backlog = 8 * kSecond;
  Nanos default_deadline = 0;  // bound of the time to first token; 0: none
};

struct RouteRequest {
  RequestId id = 0;
  uint32_t attempt = 0;                  // a retry after GroupLost is a new attempt
  std::span<const TokenId> prompt = {};  // not empty; read within Submit only
  std::string_view cache_salt = {};      // prompts share blocks only under equal salts
  int32_t max_tokens = 0;                // with the prompt: what the group's context must hold
  bool embeds = false;      // an embedding is asked for, which not every group computes
  bool reads_cache = true;  // else all of the prompt is computed, wherever it goes
  int32_t priority = 0;     // class: a higher one goes first, here and in the group
  Nanos deadline = 0;       // bound of its time to first token, from now; 0: the default
  uint64_t client = 0;      // who shares fairly with the others: hash of the API key
  uint64_t session = 0;     // for `session`: hash of what names it; 0: none
};

// Send it now.
struct Dispatch {
  RequestId id = 0;
  uint32_t attempt = 0;
  GroupId group;
  int32_t cached_tokens = 0;  // expected there
  int32_t priority = 0;       // for the group: class and fair share
  Nanos deadline_in = 0;      // what is left of it; 0: none
  Nanos queued = 0;           // waited here
  Nanos predicted_ttft = 0;   // from now; 0: unknown, no step has been reported yet
  const char* reason = "";
};

// It waits here: a Dispatch or a Rejection comes from Poll.
struct Queued {
  Nanos predicted_ttft = 0;
};

struct Rejection {
  enum class Why : uint8_t {
    kQueueFull,  // `max_queued` wait already
    kDeadline,   // no group is predicted to be in time, or the time passed here
    kNoGroup,    // none is up that could hold it
  };
  RequestId id = 0;
  uint32_t attempt = 0;
  Why why = Why::kNoGroup;
  Nanos predicted_ttft = 0;
  Nanos retry_after = 0;  // by when it would be served in time, as predicted now
};

using Decision = std::variant<Dispatch, Queued, Rejection>;

class Dispatcher {
 public:
  Dispatcher(const DispatcherOptions& options, std::unique_ptr<Policy> policy, uint64_t seed);

  // REQUIRES: a group's id was never up before.
  void GroupUp(const GroupInfo& info, Nanos now);
  void GroupDraining(GroupId group);  // takes nothing new
  // Attempts that were in flight there, in order of sending; they are gone from here.
  std::vector<Attempt> GroupLost(GroupId group);
  // KV events, load, step time, and which sequences got a first token or ended. A group unknown
  // here (lost before): no effect.
  void OnReport(const StepReport& report);

  // REQUIRES: no attempt of `request.id` is in flight or queued.
  Decision Submit(const RouteRequest& request, Nanos now);

  // True: its group must be told, and the attempt stays in the ledger until that group says that it
  // ended. False: it waited here and is forgotten, or it is not known.
  bool Cancel(RequestId id, uint32_t attempt);

  // Appends what can go now, and what cannot any more. Call after OnReport, Cancel, GroupUp,
  // GroupLost, and at next_wake().
  void Poll(Nanos now, std::vector<Dispatch>& dispatches, std::vector<Rejection>& rejections);
  Nanos next_wake() const;  // when a deadline passes in the queue; 0: never

  void SetPolicy(std::unique_ptr<Policy> policy);
  void SetOptions(const DispatcherOptions& options);

  int num_queued() const { return queue_.size(); }
  int num_groups() const { return static_cast<int>(groups_.size()); }
  int max_context() const;                          // of the groups that take new requests; 0: none
  int embedding_size() const;                       // of these too; 0: none computes embeddings
  const GroupInfo* FindGroup(GroupId group) const;  // null: not up
  const Ledger& ledger() const { return ledger_; }
  const PrefixIndex& index() const { return index_; }
  const PredictionError& prediction_error() const { return error_; }
  int64_t num_event_gaps() const { return num_event_gaps_; }
  void CheckInvariants() const;  // O(in flight); tests

 private:
  struct Domain {  // groups that hash blocks alike
    std::string hash_seed;
    int block_size = 0;
  };
  struct Group {
    GroupInfo info;
    uint64_t name_hash = 0;
    GroupLoad load;
    Nanos reported_at = 0;
    bool draining = false;
    LatencyModel* model = nullptr;
    GroupSpeed speed;
  };
  // Whether a request can go now, or what keeps it.
  enum class Verdict : uint8_t { kSent, kNoRoom, kLate, kNoGroup };

  Group* Find(GroupId group);
  void AddDomain(const GroupInfo& info);
  void Describe(const RouteRequest& request, Nanos now);
  void HashPrompt(const RouteRequest& request);
  // Fills views_ with the groups that could hold it.
  void View(const WaitingRequest& request, Nanos now);
  double MaxLead() const;
  int32_t PriorityOf(const WaitingRequest& request) const;
  bool WithinShare(uint64_t client) const { return shares_.Lead(client) <= MaxLead(); }
  bool AnyRoom(bool within_share, Nanos now) const;
  double Bound(const GroupState& group, bool within_share) const;
  GroupState StateOf(const Group& group) const;
  LatencyModel* ModelOf(const std::string& device_class);
  Verdict TrySend(const WaitingRequest& request, Nanos now, Dispatch& dispatch);
  void Send(const WaitingRequest& request, const GroupView& group, Dispatch& dispatch, Nanos now);
  Decision Enqueue(Nanos now);
  Rejection Reject(const WaitingRequest& request, Rejection::Why why, Nanos now) const;
  double PredictedSeconds(const WaitingRequest& request, Nanos now) const;  // queue here included
  void ApplyEvents(const StepReport& report);
  void OnSequence(const SequenceTokens& sequence, Nanos now);

  DispatcherOptions options_;
  std::unique_ptr<Policy> policy_;
  Rng rng_;
  std::vector<Group> groups_;  // by id
  std::vector<GroupId> ids_;   // of groups_
  std::vector<Domain> domains_;
  std::map<std::string, LatencyModel> models_;  // by device class
  PrefixIndex index_;
  Ledger ledger_;
  FairShare shares_;
  AdmissionQueue queue_;
  PredictionError error_;
  int64_t num_event_gaps_ = 0;

  // Of the request looked at, reused by each.
  WaitingRequest current_;
  std::vector<int32_t> depth_;  // cached tokens, parallel to groups_
  std::vector<int32_t> matched_;
  std::vector<GroupView> views_;
  std::vector<GroupView> open_;   // those of views_ that may have it
  double tokens_per_second_ = 0;  // of all of views_ together
  bool calibrated_ = false;       // predictions are in seconds, not only comparable
};

}  // namespace tandem::routing
