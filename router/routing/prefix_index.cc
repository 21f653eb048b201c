#include "router/routing/prefix_index.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/check.h"

namespace tandem::routing {
namespace {

// A look-up that misses the caches takes about 100 ns, one that does not 5: the table entries are
// asked for 16 blocks ahead, and what they point to 8 ahead.
constexpr size_t kTableAhead = 16;
constexpr size_t kHeapAhead = 8;

constexpr auto kById = [](const auto& group, GroupId id) { return group.id < id; };

// Calls keep(holders of hashes[i], i) along the chain until it says false or nobody holds a block.
// Returns how many it said true to. REQUIRES: the first kTableAhead hashes were asked for.
template <class Keep>
int32_t Walk(const HolderMap& map, std::span<const BlockHash> hashes, Keep keep) {
  std::array<const HolderSet*, kHeapAhead> found{};
  size_t next = 0;  // to be found
  for (size_t i = 0; i < hashes.size(); ++i) {
    for (; next < std::min(i + kHeapAhead, hashes.size()); ++next) {
      const HolderSet* const holders = map.Find(hashes[next]);
      if (holders != nullptr) holders->Prefetch();
      found[next % kHeapAhead] = holders;
      if (next + kTableAhead < hashes.size()) map.Prefetch(hashes[next + kTableAhead]);
    }
    const HolderSet* const holders = found[i % kHeapAhead];
    if (holders == nullptr || !keep(*holders, static_cast<int32_t>(i))) {
      return static_cast<int32_t>(i);
    }
  }
  return static_cast<int32_t>(hashes.size());
}

}  // namespace

void PrefixIndex::Match(std::span<const BlockHash> hashes, std::span<const GroupId> groups,
                        std::span<int32_t> depth, std::span<int32_t> holders) const {
  TANDEM_CHECK(depth.size() == groups.size()) << depth.size() << " and " << groups.size();
  TANDEM_CHECK(holders.empty() || holders.size() == hashes.size()) << holders.size();
  // First of all: the walk begins when they are there.
  for (const BlockHash& hash : hashes.first(std::min(kTableAhead, hashes.size()))) {
    holders_.Prefetch(hash);
  }
  survivors_.Start();
  auto group = groups_.begin();
  for (size_t i = 0; i < groups.size(); ++i) {
    if (group == groups_.end() || group->id != groups[i]) {
      group = std::lower_bound(groups_.begin(), groups_.end(), groups[i], kById);
    }
    const bool known = group != groups_.end() && group->id == groups[i] && group->slot != kNoSlot;
    depth[i] = known ? static_cast<int32_t>(group->slot) : -1;  // the slot, for the while
    if (known) survivors_.Enter(group->slot);
    if (group != groups_.end()) ++group;
  }
  HolderSet last;  // mostly a chain is held by one set of groups over many blocks
  const auto keep = [&](const HolderSet& set, int32_t block) {
    if (set.Equals(last)) return true;
    last = set;
    return survivors_.Keep(set, block);
  };
  const int32_t walked = survivors_.any() ? Walk(holders_, hashes, keep) : 0;
  survivors_.Finish(walked);
  for (int32_t& d : depth) d = d < 0 ? 0 : survivors_.depth(static_cast<uint32_t>(d));
  AddExpected(hashes, groups, depth);
  if (holders.empty()) return;
  std::fill(holders.begin(), holders.end(), 0);
  for (const int32_t d : depth) {
    if (d > 0) ++holders[static_cast<size_t>(d) - 1];
  }
  // From how many end there to how many come that far.
  for (size_t b = holders.size(); b > 1; --b) holders[b - 2] += holders[b - 1];
}

// Chains begin at the first block, so what is expected of a group matters where it comes further
// than what the group holds.
void PrefixIndex::AddExpected(std::span<const BlockHash> hashes, std::span<const GroupId> groups,
                              std::span<int32_t> depth) const {
  std::fill(expected_depths_.begin(), expected_depths_.end(), 0);
  if (!expected_.Match(hashes, expected_depths_)) return;
  for (size_t i = 0; i < groups.size(); ++i) {
    const Group* const group = FindGroup(groups[i]);
    if (group == nullptr || group->num_expectations == 0) continue;
    const int32_t expected = expected_depths_[group->lane];
    if (expected > depth[i]) depth[i] = DepthFrom(expected, *group, hashes);
  }
}

int32_t PrefixIndex::DepthFrom(int32_t depth, const Group& group,
                               std::span<const BlockHash> hashes) const {
  for (auto at = static_cast<size_t>(depth); at < hashes.size(); ++at) {
    const HolderSet* const holders = holders_.Find(hashes[at]);
    if (group.slot == kNoSlot || holders == nullptr || !holders->Contains(group.slot)) {
      return static_cast<int32_t>(at);
    }
  }
  return static_cast<int32_t>(hashes.size());
}

bool PrefixIndex::Apply(GroupId id, const KvEvent& event) { return ApplyTo(GroupOf(id), event); }

size_t PrefixIndex::Apply(GroupId id, std::span<const KvEvent> events) {
  if (events.empty()) return 0;
  Group& group = GroupOf(id);
  for (size_t i = 0; i < events.size(); ++i) {
    if (i + kTableAhead < events.size()) {
      holders_.Prefetch(events[i + kTableAhead].hash);
    }
    if (!ApplyTo(group, events[i])) return i;
  }
  return events.size();
}

bool PrefixIndex::ApplyTo(Group& group, const KvEvent& event) {
  if (group.heard && event.number != group.last_event + 1) return false;
  group.heard = true;
  group.last_event = event.number;
  switch (event.kind) {
    case KvEvent::Kind::kStored:
      Store(group, event.hash);
      break;
    case KvEvent::Kind::kRemoved:
      Drop(group, event.hash);
      break;
    case KvEvent::Kind::kCleared:
      ClearHeld(group);
      break;
  }
  return true;
}

void PrefixIndex::Store(Group& group, const BlockHash& hash) {
  group.num_stored += holders_.Add(hash, SlotOf(group)) ? 1 : 0;
}

void PrefixIndex::Drop(Group& group, const BlockHash& hash) {
  if (group.slot == kNoSlot) return;
  group.num_stored -= holders_.Remove(hash, group.slot) ? 1 : 0;
}

void PrefixIndex::Expect(GroupId id, RequestId request, std::span<const BlockHash> chain) {
  Group& group = GroupOf(id);
  if (group.num_expectations++ == 0) {
    if (free_lanes_.empty()) {
      free_lanes_.push_back(static_cast<uint32_t>(expected_depths_.size()));
      expected_depths_.push_back(0);
    }
    group.lane = free_lanes_.back();
    free_lanes_.pop_back();
  }
  expected_.Add(id, group.lane, request, chain);
}

void PrefixIndex::Settle(RequestId request) {
  const GroupId id = expected_.Remove(request);
  if (!id.valid()) return;
  Group& group = GroupOf(id);
  if (--group.num_expectations != 0) return;
  free_lanes_.push_back(group.lane);
  ForgetIfIdle(id);
}

void PrefixIndex::Clear(GroupId id) {
  Group* const group = FindGroup(id);
  if (group == nullptr) return;
  ClearHeld(*group);
  group->heard = false;
  ForgetIfIdle(id);
}

void PrefixIndex::ClearHeld(Group& group) {
  if (group.num_stored == 0) return;
  holders_.Retire(std::exchange(group.slot, kNoSlot));
  group.num_stored = 0;
}

int64_t PrefixIndex::num_held(GroupId id) const {
  const Group* const group = FindGroup(id);
  return group == nullptr ? 0 : group->num_stored;
}

const PrefixIndex::Group* PrefixIndex::FindGroup(GroupId id) const {
  const auto it = std::lower_bound(groups_.begin(), groups_.end(), id, kById);
  return it != groups_.end() && it->id == id ? &*it : nullptr;
}

PrefixIndex::Group* PrefixIndex::FindGroup(GroupId id) {
  return const_cast<Group*>(std::as_const(*this).FindGroup(id));
}

PrefixIndex::Group& PrefixIndex::GroupOf(GroupId id) {
  const auto it = std::lower_bound(groups_.begin(), groups_.end(), id, kById);
  if (it != groups_.end() && it->id == id) return *it;
  return *groups_.insert(it, Group{.id = id});
}

void PrefixIndex::ForgetIfIdle(GroupId id) {
  const auto it = std::lower_bound(groups_.begin(), groups_.end(), id, kById);
  if (it->heard || it->num_expectations != 0) return;
  if (it->slot != kNoSlot) holders_.Retire(it->slot);
  groups_.erase(it);
}

uint32_t PrefixIndex::SlotOf(Group& group) {
  if (group.slot == kNoSlot) {
    group.slot = holders_.NewSlot();
    survivors_.Reserve(holders_.num_slots());
  }
  return group.slot;
}

}  // namespace tandem::routing
