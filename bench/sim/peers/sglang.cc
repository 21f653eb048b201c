#include <algorithm>

#include "bench/sim/peers/best.h"
#include "bench/sim/peers/peers.h"

namespace tandem::simulator {
namespace {

constexpr double kCacheThreshold = 0.3;  // share of the prompt
constexpr double kBalanceAbsolute = 64;  // requests
constexpr double kBalanceRelative = 1.5;

class Sglang : public routing::Policy {
 public:
  routing::Pick Select(const routing::RouteQuery& query, std::span<const routing::GroupView> groups,
                       routing::Rng& rng) override {
    const auto [low, high] = std::minmax_element(
        groups.begin(), groups.end(),
        [](const auto& a, const auto& b) { return RequestsAt(a) < RequestsAt(b); });
    const bool uneven = RequestsAt(*high) - RequestsAt(*low) > kBalanceAbsolute &&
                        RequestsAt(*high) > kBalanceRelative * RequestsAt(*low);
    if (uneven) return LeastBy(groups, rng, "balance", RequestsAt);
    const auto longest = std::max_element(
        groups.begin(), groups.end(),
        [](const auto& a, const auto& b) { return a.cached_tokens < b.cached_tokens; });
    if (longest->cached_tokens > kCacheThreshold * query.prompt_tokens) {
      return LeastBy(groups, rng, "longest_match",
                     [](const routing::GroupView& g) { return -g.cached_tokens; });
    }
    return LeastBy(groups, rng, "least_loaded", RequestsAt);
  }
};

}  // namespace

std::unique_ptr<routing::Policy> MakeSglang() { return std::make_unique<Sglang>(); }

}  // namespace tandem::simulator
