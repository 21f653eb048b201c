#include "router/routing/admission_queue.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/prompt_order.h"

namespace tandem::routing {
namespace {

int64_t Score(const WaitingRequest& request, Nanos now) {
  return PromptScore(request.own_tokens, now - request.queued_at, 0);
}

}  // namespace

void AdmissionQueue::Push(WaitingRequest request) {
  ++size_;
  if (request.deadline > 0 && (next_deadline_ == 0 || request.deadline < next_deadline_)) {
    next_deadline_ = request.deadline;
  }
  auto line = std::find_if(lines_.begin(), lines_.end(),
                           [&](const Line& l) { return l.client == request.client; });
  if (line == lines_.end()) line = lines_.insert(line, Line{request.client, {}, 0});
  line->tokens += request.own_tokens;
  line->waiting.push_back(std::move(request));
}

bool AdmissionQueue::Precedes(const WaitingRequest& a, const WaitingRequest& b,
                              const FairShare& shares, Nanos now) {
  const auto key = [&](const WaitingRequest& r) {
    return std::tuple(-r.priority, shares.Start(r.client), Score(r, now), r.id);
  };
  return key(a) < key(b);
}

bool AdmissionQueue::Holds(uint64_t client) const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [client](const Line& line) { return line.client == client; });
}

int64_t AdmissionQueue::Tokens(uint64_t client) const {
  const auto line = std::find_if(lines_.begin(), lines_.end(),
                                 [client](const Line& l) { return l.client == client; });
  return line == lines_.end() ? 0 : line->tokens;
}

std::optional<AdmissionQueue::Position> AdmissionQueue::Next(const FairShare& shares,
                                                             double max_lead, Nanos now) const {
  std::optional<Position> best;
  for (size_t l = 0; l < lines_.size(); ++l) {
    if (shares.Lead(lines_[l].client) > max_lead) continue;
    const std::vector<WaitingRequest>& waiting = lines_[l].waiting;
    const auto key = [now](const WaitingRequest& r) {
      return std::tuple(-r.priority, Score(r, now), r.id);
    };
    const auto first = std::min_element(
        waiting.begin(), waiting.end(),
        [&](const WaitingRequest& a, const WaitingRequest& b) { return key(a) < key(b); });
    if (!best || Precedes(*first, at(*best), shares, now)) {
      best = Position{l, static_cast<size_t>(first - waiting.begin())};
    }
  }
  return best;
}

WaitingRequest AdmissionQueue::Take(Position position) {
  Line& line = lines_[position.line];
  WaitingRequest request = std::move(line.waiting[position.index]);
  line.tokens -= request.own_tokens;
  line.waiting.erase(line.waiting.begin() + static_cast<ptrdiff_t>(position.index));
  if (line.waiting.empty()) lines_.erase(lines_.begin() + static_cast<ptrdiff_t>(position.line));
  --size_;
  if (request.deadline > 0 && request.deadline == next_deadline_) FindNextDeadline();
  return request;
}

void AdmissionQueue::FindNextDeadline() {
  next_deadline_ = 0;
  for (const Line& line : lines_) {
    for (const WaitingRequest& r : line.waiting) {
      if (r.deadline == 0 || (next_deadline_ > 0 && next_deadline_ <= r.deadline)) continue;
      next_deadline_ = r.deadline;
    }
  }
}

std::optional<WaitingRequest> AdmissionQueue::Remove(RequestId id, uint32_t attempt) {
  for (size_t l = 0; l < lines_.size(); ++l) {
    for (size_t i = 0; i < lines_[l].waiting.size(); ++i) {
      const WaitingRequest& r = lines_[l].waiting[i];
      if (r.id == id && r.attempt == attempt) return Take({l, i});
    }
  }
  return std::nullopt;
}

std::optional<AdmissionQueue::Position> AdmissionQueue::FindExpired(Nanos now) const {
  if (next_deadline_ == 0 || next_deadline_ > now) return std::nullopt;
  for (size_t l = 0; l < lines_.size(); ++l) {
    for (size_t i = 0; i < lines_[l].waiting.size(); ++i) {
      const Nanos deadline = lines_[l].waiting[i].deadline;
      if (deadline > 0 && deadline <= now) return Position{l, i};
    }
  }
  return std::nullopt;
}

int64_t AdmissionQueue::TokensAhead(uint64_t client, int32_t priority, int32_t own_tokens) const {
  const auto of_class = [priority](const Line& line) {
    int64_t tokens = 0;
    for (const WaitingRequest& r : line.waiting)
      tokens += r.priority == priority ? r.own_tokens : 0;
    return tokens;
  };
  // While ours and what waits before it of the same client are served, so much of each other one.
  int64_t ours = 0, ahead = 0;
  for (const Line& line : lines_) ours += line.client == client ? of_class(line) : 0;
  for (const Line& line : lines_) {
    for (const WaitingRequest& r : line.waiting) ahead += r.priority > priority ? r.own_tokens : 0;
    ahead += line.client == client ? ours : std::min(of_class(line), ours + own_tokens);
  }
  return ahead;
}

}  // namespace tandem::routing
