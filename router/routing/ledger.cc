#include "router/routing/ledger.h"

#include <algorithm>

#include "common/check.h"

namespace tandem::routing {

void Ledger::Sent(const Sending& s) {
  const bool entered = attempts_
                           .emplace(s.key, Attempt{.key = s.key,
                                                   .group = s.group,
                                                   .uncached_tokens = s.uncached_tokens,
                                                   .prompt_tokens = s.prompt_tokens,
                                                   .sent_at = s.now,
                                                   .predicted_ttft = s.predicted_ttft})
                           .second;
  TANDEM_CHECK(entered) << "request " << s.key.request << " attempt " << s.key.attempt
                        << " was sent twice";
  Group& there = groups_[s.group.value];
  ++there.outstanding.num_attempts;
  ++there.outstanding.num_prefilling;
  ++there.outstanding.num_unreported;
  there.outstanding.prefill_tokens += s.uncached_tokens;
  there.outstanding.prompt_tokens += s.prompt_tokens;
  there.outstanding.unreported_tokens += s.uncached_tokens;
  there.unreported.push_back({s.key, s.uncached_tokens, s.prompt_tokens, s.now, s.priority});
  ++counts_.sent;
  if (s.key.attempt > 0) ++counts_.retried;
}

bool Ledger::Progressed(const AttemptKey& key) {
  const auto it = attempts_.find(key);
  if (it == attempts_.end()) return false;
  if (it->second.state == Attempt::State::kWaiting) it->second.state = Attempt::State::kRunning;
  MarkReported(it->second);
  EndPrefill(it->second);
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

// By position, not by number: requests that waited here are sent out of their order.
void Ledger::Reported(GroupId group, RequestId last_request_seen) {
  const auto there = groups_.find(group.value);
  if (there == groups_.end()) return;
  const std::vector<Unreported>& unreported = there->second.unreported;
  const auto last = std::find_if(unreported.rbegin(), unreported.rend(), [&](const Unreported& u) {
    return u.key.request == last_request_seen;
  });
  for (auto seen = unreported.rend() - last; seen > 0; --seen) {
    MarkReported(attempts_.at(there->second.unreported.front().key));
  }
}

const Attempt* Ledger::Find(const AttemptKey& key) const {
  const auto it = attempts_.find(key);
  return it == attempts_.end() ? nullptr : &it->second;
}

GroupOutstanding Ledger::Outstanding(GroupId group) const {
  const auto it = groups_.find(group.value);
  return it == groups_.end() ? GroupOutstanding{} : it->second.outstanding;
}

std::span<const Unreported> Ledger::UnreportedAt(GroupId group) const {
  const auto it = groups_.find(group.value);
  return it == groups_.end() ? std::span<const Unreported>() : it->second.unreported;
}

void Ledger::MarkReported(Attempt& attempt) {
  if (attempt.reported) return;
  attempt.reported = true;
  Group& there = groups_[attempt.group.value];
  --there.outstanding.num_unreported;
  there.outstanding.unreported_tokens -= attempt.uncached_tokens;
  const auto it = std::find_if(there.unreported.begin(), there.unreported.end(),
                               [&](const Unreported& u) { return u.key == attempt.key; });
  there.unreported.erase(it);
}

void Ledger::EndPrefill(Attempt& attempt) {
  if (!attempt.prefilling) return;
  attempt.prefilling = false;
  GroupOutstanding& there = groups_[attempt.group.value].outstanding;
  --there.num_prefilling;
  there.prefill_tokens -= attempt.uncached_tokens;
}

void Ledger::Leave(Attempt attempt) {
  MarkReported(attempt);
  EndPrefill(attempt);
  GroupOutstanding& there = groups_[attempt.group.value].outstanding;
  --there.num_attempts;
  there.prompt_tokens -= attempt.prompt_tokens;
  if (there.num_attempts == 0) groups_.erase(attempt.group.value);
}

void Ledger::CheckInvariants() const {
  std::unordered_map<int32_t, GroupOutstanding> seen;
  for (const auto& [key, attempt] : attempts_) {
    GroupOutstanding& there = seen[attempt.group.value];
    ++there.num_attempts;
    there.prompt_tokens += attempt.prompt_tokens;
    there.num_prefilling += attempt.prefilling;
    there.prefill_tokens += attempt.prefilling ? attempt.uncached_tokens : 0;
    there.num_unreported += !attempt.reported;
    there.unreported_tokens += attempt.reported ? 0 : attempt.uncached_tokens;
  }
  TANDEM_CHECK(seen.size() == groups_.size()) << seen.size() << " groups, not " << groups_.size();
  for (const auto& [group, there] : seen) {
    const Group& kept = groups_.at(group);
    TANDEM_CHECK(kept.outstanding == there)
        << "group " << group << ": " << kept.outstanding.num_attempts << " kept, "
        << there.num_attempts << " counted";
    TANDEM_CHECK(kept.unreported.size() == static_cast<size_t>(there.num_unreported))
        << "group " << group << " lists " << kept.unreported.size() << " unreported, counts "
        << there.num_unreported;
    for (const Unreported& u : kept.unreported) {
      const Attempt* attempt = Find(u.key);
      TANDEM_CHECK(attempt != nullptr && !attempt->reported && attempt->group.value == group)
          << "request " << u.key.request << " is not unreported at group " << group;
    }
  }
  const int64_t ended = counts_.finished + counts_.cancelled + counts_.failed + counts_.lost;
  TANDEM_CHECK(counts_.sent == ended + num_in_flight())
      << counts_.sent << " sent, " << ended << " ended, " << num_in_flight() << " in flight";
}

}  // namespace tandem::routing
