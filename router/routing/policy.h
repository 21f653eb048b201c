// Which group a request goes to: one interface, one file for each policy (policies.h).
//
// A policy is handed every group that may take the request, with what the router knows of it and
// what it predicts there, and names one. It sees nothing else, so the service, the simulator and
// the tests run the same code.
//
// Thread: the routing thread. Pure: time and chance are arguments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string_view>

#include "common/hash.h"
#include "common/ids.h"
#include "common/status.h"
#include "router/routing/latency_model.h"
#include "router/routing/ledger.h"
#include "router/routing/messages.h"
#include "router/routing/prediction.h"

namespace tandem::routing {

using Rng = std::mt19937_64;

// One group that may take the request.
struct GroupView {
  GroupState state;  // what it is, what it reported, what it was sent since
  GroupId group;
  uint64_t name_hash = 0;        // of its name: the same after a restart
  GroupOutstanding outstanding;  // what this router has there
  int32_t cached_tokens = 0;     // leading prompt tokens that it holds or is expected to hold
  Prediction prediction;         // of this request there
};

struct RouteQuery {
  int32_t prompt_tokens = 0;
  int32_t block_size = 0;            // of `chain`
  std::span<const BlockHash> chain;  // of the prompt's full blocks that may be found in a cache
  uint64_t session = 0;              // 0: the request names none
  Nanos now = 0;
  int num_groups = 0;  // of the pool: those that cannot take this request too
};

struct Pick {
  size_t index = 0;         // into the views
  const char* reason = "";  // static text, for logs and metrics
};

class Policy {
 public:
  virtual ~Policy() = default;

  // Called once for each request that is sent, so a policy may count. REQUIRES: `groups` not empty.
  virtual Pick Select(const RouteQuery& query, std::span<const GroupView> groups, Rng& rng) = 0;
};

// ttft | prefix | least_loaded | power_of_two | round_robin | session. Another name:
// kInvalidArgument, and the message lists these.
StatusOr<std::unique_ptr<Policy>> MakePolicy(std::string_view name);
std::span<const std::string_view> PolicyNames();

}  // namespace tandem::routing
