#include "router/routing/ledger.h"

#include <algorithm>

#include "common/check.h"

namespace tandem::routing {

void Ledger::Sent(const AttemptKey& key, GroupId group, int32_t uncached_tokens, Nanos now) {
  Attempt attempt{.key = key,
                  .group = group,
                  .state = Attempt::State::kWaiting,
                  .uncached_tokens = uncached_tokens,
                  .reported = false,
                  .sent_at = now};
  const bool entered = attempts_.emplace(key, attempt).second;
  TANDEM_CHECK(entered) << "request " << key.request << " attempt " << key.attempt
                        << " was sent twice";
  GroupOutstanding& there = groups_[group.value];
  ++there.num_attempts;
  ++there.num_unreported;
  there.unreported_tokens += uncached_tokens;
  ++counts_.sent;
  if (key.attempt > 0) ++counts_.retried;
}

bool Ledger::Progressed(const AttemptKey& key) {
  const auto it = attempts_.find(key);
  if (it == attempts_.end()) return false;
  if (it->second.state == Attempt::State::kWaiting) it->second.state = Attempt::State::kRunning;
  MarkReported(it->second);
  return true;
}

bool Ledger::Cancelled(const AttemptKey& key) {
  const auto it = attempts_.find(key);
  if (it == attempts_.end() || it->second.state == Attempt::State::kCancelling) return false;
  it->second.state = Attempt::State::kCancelling;
  return true;
}

std::optional<Attempt> Ledger::Finished(const AttemptKey& key, FinishReason reason) {
  const auto it = attempts_.find(key);
  if (it == attempts_.end()) return std::nullopt;
  const Attempt attempt = it->second;
  Leave(attempt);
  attempts_.erase(it);
  // A cancelled attempt may have finished on its own before the Cancel arrived: it counts once, as
  // what we decided about it.
  if (attempt.state == Attempt::State::kCancelling || reason == FinishReason::kCancelled) {
    ++counts_.cancelled;
  } else if (reason == FinishReason::kError || reason == FinishReason::kDeadline) {
    ++counts_.failed;
  } else {
    ++counts_.finished;
  }
  return attempt;
}

std::vector<Attempt> Ledger::GroupLost(GroupId group) {
  std::vector<Attempt> lost;
  for (auto it = attempts_.begin(); it != attempts_.end();) {
    if (it->second.group == group) {
      lost.push_back(it->second);
      Leave(it->second);
      it = attempts_.erase(it);
    } else {
      ++it;
    }
  }
  std::sort(lost.begin(), lost.end(), [](const Attempt& a, const Attempt& b) {
    return a.sent_at != b.sent_at ? a.sent_at < b.sent_at : a.key.request < b.key.request;
  });
  counts_.lost += static_cast<int64_t>(lost.size());
  return lost;
}

void Ledger::Reported(GroupId group, RequestId last_request_seen) {
  const auto there = groups_.find(group.value);
  if (there == groups_.end() || there->second.num_unreported == 0) return;
  for (auto& [key, attempt] : attempts_) {
    if (attempt.group == group && key.request <= last_request_seen) MarkReported(attempt);
  }
}

const Attempt* Ledger::Find(const AttemptKey& key) const {
  const auto it = attempts_.find(key);
  return it == attempts_.end() ? nullptr : &it->second;
}

GroupOutstanding Ledger::Outstanding(GroupId group) const {
  const auto it = groups_.find(group.value);
  return it == groups_.end() ? GroupOutstanding{} : it->second;
}

void Ledger::MarkReported(Attempt& attempt) {
  if (attempt.reported) return;
  attempt.reported = true;
  GroupOutstanding& there = groups_[attempt.group.value];
  --there.num_unreported;
  there.unreported_tokens -= attempt.uncached_tokens;
}

void Ledger::Leave(const Attempt& attempt) {
  GroupOutstanding& there = groups_[attempt.group.value];
  --there.num_attempts;
  if (!attempt.reported) {
    --there.num_unreported;
    there.unreported_tokens -= attempt.uncached_tokens;
  }
  if (there.num_attempts == 0) groups_.erase(attempt.group.value);
}

void Ledger::CheckInvariants() const {
  std::unordered_map<int32_t, GroupOutstanding> seen;
  for (const auto& [key, attempt] : attempts_) {
    GroupOutstanding& there = seen[attempt.group.value];
    ++there.num_attempts;
    if (!attempt.reported) {
      ++there.num_unreported;
      there.unreported_tokens += attempt.uncached_tokens;
    }
  }
  TANDEM_CHECK(seen.size() == groups_.size()) << seen.size() << " groups, not " << groups_.size();
  for (const auto& [group, there] : seen) {
    const GroupOutstanding kept = Outstanding(GroupId{group});
    TANDEM_CHECK(kept.num_attempts == there.num_attempts &&
                 kept.num_unreported == there.num_unreported &&
                 kept.unreported_tokens == there.unreported_tokens)
        << "group " << group << ": " << kept.num_attempts << " kept, " << there.num_attempts
        << " counted";
  }
  const int64_t ended = counts_.finished + counts_.cancelled + counts_.failed + counts_.lost;
  TANDEM_CHECK(counts_.sent == ended + num_in_flight())
      << counts_.sent << " sent, " << ended << " ended, " << num_in_flight() << " in flight";
}

}  // namespace tandem::routing
