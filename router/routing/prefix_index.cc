#include "router/routing/prefix_index.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace tandem::routing {

void PrefixIndex::Match(std::span<const BlockHash> hashes, std::span<const GroupId> groups,
                        std::span<int32_t> depth) const {
  TANDEM_CHECK(depth.size() == groups.size()) << depth.size() << " and " << groups.size();
  std::fill(depth.begin(), depth.end(), 0);
  for (size_t i = 0; i < hashes.size(); ++i) {
    const auto it = blocks_.find(hashes[i]);
    if (it == blocks_.end()) return;
    bool any = false;
    for (size_t g = 0; g < groups.size(); ++g) {
      if (depth[g] != static_cast<int32_t>(i)) continue;  // its prefix ended before
      const bool holds = std::any_of(it->second.begin(), it->second.end(),
                                     [&](const Holder& h) { return h.group == groups[g].value; });
      if (holds) {
        ++depth[g];
        any = true;
      }
    }
    if (!any) return;
  }
}

bool PrefixIndex::Apply(GroupId group, const KvEvent& event) {
  const auto [last, first_heard] = last_event_.try_emplace(group.value, event.number);
  if (!first_heard) {
    if (event.number != last->second + 1) return false;
    last->second = event.number;
  }
  switch (event.kind) {
    case KvEvent::Kind::kStored:
      HolderOf(event.hash, group).stored = true;
      break;
    case KvEvent::Kind::kRemoved:
      if (blocks_.contains(event.hash)) {
        HolderOf(event.hash, group).stored = false;
        DropIfEmpty(event.hash, group);
      }
      break;
    case KvEvent::Kind::kCleared: {
      const uint64_t number = last->second;
      Clear(group);
      last_event_[group.value] = number;
      break;
    }
  }
  return true;
}

void PrefixIndex::Expect(GroupId group, RequestId request, std::span<const BlockHash> chain) {
  for (const BlockHash& hash : chain) ++HolderOf(hash, group).expected;
  Expectation expectation{group, std::vector<BlockHash>(chain.begin(), chain.end())};
  const bool entered = expectations_.emplace(request, std::move(expectation)).second;
  TANDEM_CHECK(entered) << "request " << request << " is expected twice";
}

void PrefixIndex::Settle(RequestId request) {
  const auto it = expectations_.find(request);
  if (it == expectations_.end()) return;
  const Expectation expectation = std::move(it->second);
  expectations_.erase(it);
  for (const BlockHash& hash : expectation.chain) {
    --HolderOf(hash, expectation.group).expected;
    DropIfEmpty(hash, expectation.group);
  }
}

void PrefixIndex::Clear(GroupId group) {
  last_event_.erase(group.value);
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    std::erase_if(it->second, [&](Holder& holder) {
      if (holder.group != group.value) return false;
      holder.stored = false;
      return holder.expected == 0;
    });
    it = it->second.empty() ? blocks_.erase(it) : std::next(it);
  }
}

int64_t PrefixIndex::num_held(GroupId group) const {
  return std::count_if(blocks_.begin(), blocks_.end(), [&](const auto& block) {
    return std::any_of(block.second.begin(), block.second.end(),
                       [&](const Holder& h) { return h.group == group.value && h.stored; });
  });
}

PrefixIndex::Holder& PrefixIndex::HolderOf(const BlockHash& hash, GroupId group) {
  Holders& holders = blocks_[hash];
  const auto it = std::find_if(holders.begin(), holders.end(),
                               [&](const Holder& h) { return h.group == group.value; });
  if (it != holders.end()) return *it;
  return holders.emplace_back(Holder{.group = group.value});
}

void PrefixIndex::DropIfEmpty(const BlockHash& hash, GroupId group) {
  const auto it = blocks_.find(hash);
  if (it == blocks_.end()) return;
  std::erase_if(it->second, [&](const Holder& holder) {
    return holder.group == group.value && !holder.stored && holder.expected == 0;
  });
  if (it->second.empty()) blocks_.erase(it);
}

}  // namespace tandem::routing
