// Between the two sides' plain types, as the two links do it over the wire.
#pragma once

#include "bench/sim/virtual_group.h"
#include "router/routing/messages.h"

namespace tandem::simulator {

// What a router is told of the group when it comes up.
routing::GroupInfo Describe(const GroupSpec& spec, GroupId id);

// Replaces `report` by what `router` hears of `out`, reusing its memory. `last_request_seen`: the
// newest request of that router that has reached the group.
void Translate(const GroupOut& out, GroupId group, Nonce router, RequestId last_request_seen,
               routing::StepReport& report);

}  // namespace tandem::simulator
