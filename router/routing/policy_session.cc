#include <algorithm>

#include "router/routing/policies.h"

namespace tandem::routing {
namespace {

// Without a session in the request its beginning stands for one: turns of a conversation share it.
constexpr size_t kBlocksOfSession = 4;

uint64_t Mix(uint64_t x) {  // the finalizer of SplitMix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

uint64_t SessionOf(const RouteQuery& query, Rng& rng) {
  if (query.session != 0) return query.session;
  if (query.chain.empty()) return rng();  // too short to be worth staying
  return query.chain[std::min(query.chain.size(), kBlocksOfSession) - 1].low;
}

// Highest random weight: when a group goes only its own sessions move, and evenly; when one comes
// it takes its part of each.
class Session : public Policy {
 public:
  Pick Select(const RouteQuery& query, std::span<const GroupView> groups, Rng& rng) override {
    const uint64_t session = SessionOf(query, rng);
    Pick pick{0, "session"};
    uint64_t highest = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      const uint64_t weight = Mix(session ^ groups[i].name_hash);
      if (weight < highest) continue;
      highest = weight;
      pick.index = i;
    }
    return pick;
  }
};

}  // namespace

std::unique_ptr<Policy> MakeSessionPolicy() { return std::make_unique<Session>(); }

}  // namespace tandem::routing
