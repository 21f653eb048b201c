#include <algorithm>

#include "bench/sim/peers/best.h"
#include "bench/sim/peers/peers.h"

namespace tandem::simulator {
namespace {

constexpr double kPrefixWeight = 3, kQueueWeight = 2, kKvWeight = 2;

double QueueAt(const routing::GroupView& g) {
  return g.state.load->num_waiting + g.outstanding.num_unreported;
}

double KvUse(const routing::GroupView& g) {
  if (g.state.load->total_blocks == 0) return 0;
  return 1 - static_cast<double>(g.state.load->free_blocks) / g.state.load->total_blocks;
}

class LlmD : public routing::Policy {
 public:
  routing::Pick Select(const routing::RouteQuery& query, std::span<const routing::GroupView> groups,
                       routing::Rng& rng) override {
    const auto [low, high] =
        std::minmax_element(groups.begin(), groups.end(),
                            [](const auto& a, const auto& b) { return QueueAt(a) < QueueAt(b); });
    const double shortest = QueueAt(*low), spread = QueueAt(*high) - shortest;
    return LeastBy(groups, rng, "best_score", [&](const routing::GroupView& g) {
      const double prefix = static_cast<double>(g.cached_tokens) / query.prompt_tokens;
      const double queue = spread > 0 ? 1 - (QueueAt(g) - shortest) / spread : 1;
      return -(kPrefixWeight * prefix + kQueueWeight * queue + kKvWeight * (1 - KvUse(g)));
    });
  }
};

}  // namespace

std::unique_ptr<routing::Policy> MakeLlmD() { return std::make_unique<LlmD>(); }

}  // namespace tandem::simulator
