#include "bench/sim/peers/best.h"
#include "bench/sim/peers/peers.h"

namespace tandem::simulator {
namespace {

class Argmin : public routing::Policy {
 public:
  routing::Pick Select(const routing::RouteQuery& query, std::span<const routing::GroupView> groups,
                       routing::Rng& rng) override {
    return LeastBy(groups, rng, "least_tokens", [&](const routing::GroupView& g) {
      return TokensWaitingAt(g) + query.prompt_tokens - g.cached_tokens;
    });
  }
};

}  // namespace

std::unique_ptr<routing::Policy> MakeArgmin() { return std::make_unique<Argmin>(); }

}  // namespace tandem::simulator
