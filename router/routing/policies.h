// The policies, by name in policy.cc. docs/routing.md says what each is for.
#pragma once

#include <memory>

#include "router/routing/policy.h"

namespace tandem::routing {

// Least predicted time to first token, plus what the request costs others.
std::unique_ptr<Policy> MakeTtftPolicy();
// The group that holds most of the prompt, unless it is much busier than the least busy one.
std::unique_ptr<Policy> MakePrefixPolicy();
// The group with the least to do.
std::unique_ptr<Policy> MakeLeastLoadedPolicy();
// The less busy of two drawn at random.
std::unique_ptr<Policy> MakePowerOfTwoPolicy();
std::unique_ptr<Policy> MakeRoundRobinPolicy();
// Always the same group for one session, as long as that is up.
std::unique_ptr<Policy> MakeSessionPolicy();

// Seconds until what the group has queued is computed, and then its decodes: what least_loaded,
// power_of_two and prefix compare.
double LoadOf(const GroupView& group);

}  // namespace tandem::routing
