#include "router/routing/policy.h"

#include <array>
#include <string>

#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Policy> (*make)();
};

constexpr std::array kPolicies = {
    Entry{"ttft", MakeTtftPolicy},
    Entry{"prefix", MakePrefixPolicy},
    Entry{"least_loaded", MakeLeastLoadedPolicy},
    Entry{"power_of_two", MakePowerOfTwoPolicy},
    Entry{"round_robin", MakeRoundRobinPolicy},
    Entry{"session", MakeSessionPolicy},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kPolicies.size()> names;
  for (size_t i = 0; i < names.size(); ++i) names[i] = kPolicies[i].name;
  return names;
}();

}  // namespace

StatusOr<std::unique_ptr<Policy>> MakePolicy(std::string_view name) {
  std::string known;
  for (const Entry& entry : kPolicies) {
    if (entry.name == name) return entry.make();
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  return InvalidArgument("there is no policy '{}'; there are {}", name, known);
}

std::span<const std::string_view> PolicyNames() { return kNames; }

double LoadOf(const GroupView& group) {
  const GroupLoad& load = *group.state.load;
  return group.prediction.backlog +
         group.state.speed * group.state.model->Seconds(
                                 {.decodes = static_cast<double>(load.num_running),
                                  .context_tokens = static_cast<double>(load.context_tokens)});
}

}  // namespace tandem::routing
