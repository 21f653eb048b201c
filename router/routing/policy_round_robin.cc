#include <algorithm>

#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

// In the order of group ids: which groups can take a request may change from one to the next.
class RoundRobin : public Policy {
 public:
  Pick Select(const RouteQuery&, std::span<const GroupView> groups, Rng&) override {
    const auto next = std::find_if(groups.begin(), groups.end(),
                                   [this](const GroupView& g) { return g.group > last_; });
    const size_t index = next == groups.end() ? 0 : static_cast<size_t>(next - groups.begin());
    last_ = groups[index].group;
    return {index, "turn"};
  }

 private:
  GroupId last_;
};

}  // namespace

std::unique_ptr<Policy> MakeRoundRobinPolicy() { return std::make_unique<RoundRobin>(); }

}  // namespace tandem::routing
