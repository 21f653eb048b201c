#include "bench/sim/peers/best.h"
#include "bench/sim/peers/peers.h"

namespace tandem::simulator {
namespace {

class Dynamo : public routing::Policy {
 public:
  explicit Dynamo(double prefill_weight) : prefill_weight_(prefill_weight) {}

  routing::Pick Select(const routing::RouteQuery& query, std::span<const routing::GroupView> groups,
                       routing::Rng& rng) override {
    return LeastBy(groups, rng, "least_cost", [&](const routing::GroupView& g) {
      const double block = g.state.info->block_size;
      const double own = query.prompt_tokens - g.cached_tokens;
      const double prefill = (TokensWaitingAt(g) + own) / block;
      // Blocks held by sequences, those of prompts on their way, and ours.
      double active = g.state.load->total_blocks - g.state.load->free_blocks + own / block;
      for (const routing::Unreported& sent : g.state.unreported)
        active += sent.prompt_tokens / block;
      return prefill_weight_ * prefill + active;
    });
  }

 private:
  double prefill_weight_;
};

}  // namespace

std::unique_ptr<routing::Policy> MakeDynamo(double prefill_weight) {
  return std::make_unique<Dynamo>(prefill_weight);
}

}  // namespace tandem::simulator
