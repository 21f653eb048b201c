#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

class LeastLoaded : public Policy {
 public:
  Pick Select(const RouteQuery&, std::span<const GroupView> groups, Rng& rng) override {
    Pick pick{0, "least_loaded"};
    double least = LoadOf(groups[0]);
    uint64_t ties = 1;
    for (size_t i = 1; i < groups.size(); ++i) {
      const double load = LoadOf(groups[i]);
      if (load > least) continue;
      // Each of n equal ones with probability 1 / n: a fixed order piles idle traffic up.
      ties = load < least ? 1 : ties + 1;
      least = load;
      if (rng() % ties == 0) pick.index = i;
    }
    return pick;
  }
};

}  // namespace

std::unique_ptr<Policy> MakeLeastLoadedPolicy() { return std::make_unique<LeastLoaded>(); }

}  // namespace tandem::routing
