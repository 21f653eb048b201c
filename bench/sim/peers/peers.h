// Policies of other routers, re-created from their descriptions to be compared with in simulation.
// They run on this project's exact prefix index, ledger and reports, which is at least what their
// own have. Not for serving: MakePolicy of router/routing does not know them.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "router/routing/policy.h"

namespace tandem::simulator {

// SGLang's gateway, cache_aware: follow the longest match if it covers more than 0.3 of the
// prompt, else the least loaded; least loaded as well while loads (requests in flight) differ by
// more than 64 and by more than 1.5 times.
std::unique_ptr<routing::Policy> MakeSglang();

// NVIDIA Dynamo's KV router: least of `prefill_weight` x prefill blocks (waiting there and ours
// that are not cached) + blocks of active sequences (ours included). Its default weight is 1.
std::unique_ptr<routing::Policy> MakeDynamo(double prefill_weight);

// llm-d's weighted scorers: 3 x share of the prompt cached + 2 x (1 - queue, scaled to the longest
// and shortest) + 2 x (1 - KV use); the most wins.
std::unique_ptr<routing::Policy> MakeLlmD();

// Least of prompt tokens waiting there + ours that are not cached.
std::unique_ptr<routing::Policy> MakeArgmin();

// By name: sglang | dynamo | dynamo16 | llm_d | argmin. Null: none of them.
std::unique_ptr<routing::Policy> MakePeer(std::string_view name);
std::span<const std::string_view> PeerNames();

}  // namespace tandem::simulator
