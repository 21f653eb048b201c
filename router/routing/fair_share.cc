#include "router/routing/fair_share.h"

#include <algorithm>
#include <cmath>

namespace tandem::routing {
namespace {

// What counts as lately.
constexpr Nanos kMemory = 10 * kSecond;
constexpr Nanos kCountInterval = 100 * kMillisecond;

}  // namespace

void FairShare::Join(uint64_t client, Nanos now) {
  Client& c = clients_.try_emplace(client, Client{.at = now}).first->second;
  c.finish = std::max(c.finish, now_);
}

void FairShare::Charge(uint64_t client, int32_t tokens, Nanos now) {
  Client& c = clients_.try_emplace(client, Client{.finish = now_, .at = now}).first->second;
  const double passed = static_cast<double>(now - c.at) / static_cast<double>(kMemory);
  c.used = c.used * std::exp(-passed) + tokens;
  c.at = now;
  if (clients_.size() == 1) {
    shares_ = 1;
  } else if (now - counted_at_ >= kCountInterval) {
    CountShares(now);
  }
  c.finish = std::min(c.finish + tokens, now_ + c.used);
}

double FairShare::Start(uint64_t client) const {
  const auto it = clients_.find(client);
  return it == clients_.end() ? 0 : it->second.finish;
}

double FairShare::Lead(uint64_t client) const {
  if (clients_.size() < 2) return 0;
  const auto it = clients_.find(client);
  return it == clients_.end() ? 0 : std::max(0.0, it->second.finish - now_);
}

void FairShare::CountShares(Nanos now) {
  counted_at_ = now;
  double sum = 0, squares = 0;
  for (auto it = clients_.begin(); it != clients_.end();) {
    if (now - it->second.at > kMemory) {
      it = clients_.erase(it);
      continue;
    }
    const double passed = static_cast<double>(now - it->second.at) / static_cast<double>(kMemory);
    const double used = it->second.used * std::exp(-passed);
    sum += used;
    squares += used * used;
    ++it;
  }
  shares_ = squares > 0 ? std::max(1.0, sum * sum / squares) : 1;
}

}  // namespace tandem::routing
