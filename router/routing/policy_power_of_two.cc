#include <utility>

#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

class PowerOfTwo : public Policy {
 public:
  Pick Select(const RouteQuery&, std::span<const GroupView> groups, Rng& rng) override {
    size_t first = rng() % groups.size();
    if (groups.size() == 1) return {first, "only_group"};
    size_t second = rng() % (groups.size() - 1);
    second += second >= first;
    if (LoadOf(groups[second]) < LoadOf(groups[first])) std::swap(first, second);
    return {first, "less_loaded"};
  }
};

}  // namespace

std::unique_ptr<Policy> MakePowerOfTwoPolicy() { return std::make_unique<PowerOfTwo>(); }

}  // namespace tandem::routing
