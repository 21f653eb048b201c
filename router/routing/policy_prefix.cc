#include <algorithm>

#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

// The longest match is followed while its group's load is at most what recomputing the match on the
// least loaded group would take longer than it: a bound in seconds, without a threshold to set.
class Prefix : public Policy {
 public:
  Pick Select(const RouteQuery&, std::span<const GroupView> groups, Rng& rng) override {
    int32_t longest = 0;
    double least = LoadOf(groups[0]);
    for (const GroupView& g : groups) {
      longest = std::max(longest, g.cached_tokens);
      least = std::min(least, LoadOf(g));
    }
    if (longest > 0) {
      const size_t warmest = LeastLoadedOf(groups, longest, rng);
      const GroupView& g = groups[warmest];
      const LatencyModel::Coefficients& th = g.state.model->coefficients();
      const double saved =
          g.state.speed * (th.prefill_token * longest + th.attention * AttentionWork(0, longest) +
                           th.base * longest / std::max(1, g.state.info->max_step_tokens));
      if (LoadOf(g) - least <= kBound * saved) return {warmest, "longest_prefix"};
    }
    return {LeastLoadedOf(groups, 0, rng), longest > 0 ? "balance" : "least_loaded"};
  }

 private:
  // Of the groups that hold at least `cached` tokens.
  static size_t LeastLoadedOf(std::span<const GroupView> groups, int32_t cached, Rng& rng) {
    size_t best = groups.size();
    double least = 0;
    uint64_t ties = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      if (groups[i].cached_tokens < cached) continue;
      const double load = LoadOf(groups[i]);
      if (best < groups.size() && load > least) continue;
      ties = best < groups.size() && load == least ? ties + 1 : 1;
      least = load;
      if (rng() % ties == 0) best = i;
    }
    return best;
  }

  static constexpr double kBound = 2;
};

}  // namespace

std::unique_ptr<Policy> MakePrefixPolicy() { return std::make_unique<Prefix>(); }

}  // namespace tandem::routing
