#include "router/routing/fair_share.h"

#include <algorithm>
#include <cmath>

namespace tandem::routing {
namespace {

// What counts as lately. Long enough that a client with one long prompt now and then is not taken
// for one that floods, short enough that a flood is forgiven soon after it ends.
constexpr Nanos kMemory = 10 * kSecond;

double Decayed(double used, Nanos at, Nanos now) {
  return used * std::exp(-static_cast<double>(now - at) / static_cast<double>(kMemory));
}

}  // namespace

void FairShare::Charge(uint64_t client, int32_t tokens, Nanos now) {
  if (now - forgot_at_ > kSecond) Forget(now);
  Client& c = clients_[client];
  const double start = std::max(now_, c.finish);
  now_ = start;
  c.finish = start + tokens;
  c.used = Decayed(c.used, c.at, now) + tokens;
  c.at = now;
  used_ = Decayed(used_, used_at_, now) + tokens;
  used_at_ = now;
}

double FairShare::Start(uint64_t client) const {
  const auto it = clients_.find(client);
  return it == clients_.end() ? now_ : std::max(now_, it->second.finish);
}

bool FairShare::Exceeds(uint64_t client, Nanos now) const {
  const auto it = clients_.find(client);
  if (it == clients_.end() || clients_.size() < 2) return false;
  return Decayed(it->second.used, it->second.at, now) * static_cast<double>(clients_.size()) >
         Decayed(used_, used_at_, now);
}

void FairShare::Forget(Nanos now) {
  forgot_at_ = now;
  for (auto it = clients_.begin(); it != clients_.end();) {
    if (now - it->second.at > kMemory) {
      used_ -= Decayed(it->second.used, it->second.at, used_at_);
      it = clients_.erase(it);
    } else {
      ++it;
    }
  }
  used_ = std::max(0.0, used_);
}

}  // namespace tandem::routing
