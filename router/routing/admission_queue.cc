#include "router/routing/admission_queue.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace tandem::routing {
namespace {

// As groups order their prompts: docs/engine.md, engine.planning.ageing.
constexpr double kAgeingTokensPerSecond = 250;

double Score(const WaitingRequest& request, Nanos now) {
  return request.own_tokens -
         kAgeingTokensPerSecond * static_cast<double>(now - request.queued_at) / kSecond;
}

}  // namespace

void AdmissionQueue::Push(WaitingRequest request) {
  num_tokens_ += request.own_tokens;
  waiting_.push_back(std::move(request));
}

bool AdmissionQueue::Precedes(const WaitingRequest& a, const WaitingRequest& b,
                              const FairShare& shares, Nanos now) {
  const auto key = [&](const WaitingRequest& r) {
    return std::tuple(-r.priority, shares.Start(r.client), Score(r, now), r.id);
  };
  return key(a) < key(b);
}

int AdmissionQueue::Next(const FairShare& shares, Nanos now, bool within_share) const {
  int best = -1;
  for (int i = 0; i < size(); ++i) {
    if (within_share && shares.Exceeds(at(i).client, now)) continue;
    if (best < 0 || Precedes(at(i), at(best), shares, now)) best = i;
  }
  return best;
}

WaitingRequest AdmissionQueue::Take(int index) {
  const auto it = waiting_.begin() + index;
  WaitingRequest request = std::move(*it);
  waiting_.erase(it);
  num_tokens_ -= request.own_tokens;
  return request;
}

std::optional<WaitingRequest> AdmissionQueue::Remove(RequestId id, uint32_t attempt) {
  for (int i = 0; i < size(); ++i) {
    if (at(i).id == id && at(i).attempt == attempt) return Take(i);
  }
  return std::nullopt;
}

int64_t AdmissionQueue::TokensAhead(uint64_t client, int32_t priority, int32_t own_tokens) const {
  int64_t higher = 0;
  std::unordered_map<uint64_t, int64_t> of_client;
  for (const WaitingRequest& request : waiting_) {
    if (request.priority > priority) higher += request.own_tokens;
    if (request.priority == priority) of_client[request.client] += request.own_tokens;
  }
  // While ours and what waits before it of the same client are served, so much of each other one.
  const int64_t own = of_client[client] + own_tokens;
  int64_t ahead = higher;
  for (const auto& [other, tokens] : of_client) {
    ahead += other == client ? tokens : std::min(tokens, own);
  }
  return ahead;
}

Nanos AdmissionQueue::next_deadline() const {
  Nanos next = 0;
  for (const WaitingRequest& request : waiting_) {
    if (request.deadline > 0 && (next == 0 || request.deadline < next)) next = request.deadline;
  }
  return next;
}

}  // namespace tandem::routing
