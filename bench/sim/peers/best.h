// The group of least cost; equal ones are drawn, as a fixed order would pile traffic on the first.
#pragma once

#include <cstddef>
#include <random>
#include <span>

#include "router/routing/policy.h"

namespace tandem::simulator {

// REQUIRES: `groups` not empty.
template <class Cost>
routing::Pick LeastBy(std::span<const routing::GroupView> groups, routing::Rng& rng,
                      const char* reason, Cost&& cost) {
  size_t best = 0;
  double least = 0;
  uint64_t ties = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const double c = cost(groups[i]);
    if (ties > 0 && c > least) continue;
    ties = ties > 0 && c == least ? ties + 1 : 1;
    least = c;
    if (rng() % ties == 0) best = i;
  }
  return {best, reason};
}

// Requests there: reported, and sent since.
inline double RequestsAt(const routing::GroupView& g) {
  return g.state.load->num_running + g.state.load->num_waiting + g.outstanding.num_unreported;
}

// Prompt tokens there that are still to be computed.
inline double TokensWaitingAt(const routing::GroupView& g) {
  return static_cast<double>(g.state.load->queued_tokens + g.outstanding.unreported_tokens);
}

}  // namespace tandem::simulator
