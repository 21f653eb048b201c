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
  std::fill(holders.begin(), holders.end(), 0);
  for (int32_t& d : depth) {
    d = d < 0 ? 0 : survivors_.depth(static_cast<uint32_t>(d));
    if (d > 0 && !holders.empty()) ++holders[static_cast<size_t>(d) - 1];
  }
  // From how many end there to how many come that far.
  for (size_t b = holders.size(); b > 1; --b) holders[b - 2] += holders[b - 1];
}

bool PrefixIndex::Apply(GroupId id, const KvEvent& event) { return ApplyTo(GroupOf(id), event); }

size_t PrefixIndex::Apply(GroupId id, std::span<const KvEvent> events) {
  if (events.empty()) return 0;
  Group& group = GroupOf(id);
  for (size_t i = 0; i < events.size(); ++i) {
    if (i + kTableAhead < events.size()) {
      holders_.Prefetch(events[i + kTableAhead].hash);
      expected_.Prefetch(PairOf(events[i + kTableAhead].hash, id));
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
  Expected* const expected =
      expected_.size() == 0 ? nullptr : expected_.Find(PairOf(hash, group.id));
  if (expected == nullptr) {
    group.num_stored += holders_.Add(hash, SlotOf(group)) ? 1 : 0;
  } else if (!expected->stored) {
    expected->stored = true;
    ++group.num_stored;
  }
}

void PrefixIndex::Drop(Group& group, const BlockHash& hash) {
  if (group.slot == kNoSlot) return;
  Expected* const expected =
      expected_.size() == 0 ? nullptr : expected_.Find(PairOf(hash, group.id));
  if (expected == nullptr) {
    group.num_stored -= holders_.Remove(hash, group.slot) ? 1 : 0;
  } else if (expected->stored) {
    expected->stored = false;
    --group.num_stored;
  }
}

void PrefixIndex::Expect(GroupId id, RequestId request, std::span<const BlockHash> chain) {
  Group& group = GroupOf(id);
  const uint32_t slot = SlotOf(group);
  for (size_t i = 0; i < chain.size(); ++i) {
    if (i + kTableAhead < chain.size()) {
      holders_.Prefetch(chain[i + kTableAhead]);
      expected_.Prefetch(PairOf(chain[i + kTableAhead], id));
    }
    const auto [expected, first] = expected_.TryEmplace(PairOf(chain[i], id), {.count = 1});
    if (first) {
      expected->stored = !holders_.Add(chain[i], slot);
    } else {
      ++expected->count;
    }
  }
  ++group.num_expectations;
  Expectation expectation{id, std::vector<BlockHash>(chain.begin(), chain.end())};
  const bool entered = expectations_.emplace(request, std::move(expectation)).second;
  TANDEM_CHECK(entered) << "request " << request << " is expected twice";
}

void PrefixIndex::Settle(RequestId request) {
  const auto it = expectations_.find(request);
  if (it == expectations_.end()) return;
  const Expectation expectation = std::move(it->second);
  expectations_.erase(it);
  const std::span<const BlockHash> chain = expectation.chain;
  Group& group = GroupOf(expectation.group);
  for (size_t i = 0; i < chain.size(); ++i) {
    if (i + kTableAhead < chain.size()) {
      expected_.Prefetch(PairOf(chain[i + kTableAhead], group.id));
    }
    bool last = false;
    expected_.Update(PairOf(chain[i], group.id),
                     [&](Expected& expected) { last = --expected.count == 0 && !expected.stored; });
    if (last) holders_.Remove(chain[i], group.slot);
  }
  --group.num_expectations;
  ForgetIfIdle(group.id);
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
  if (group.num_expectations == 0) return;
  // What is expected is still so: under the new slot.
  const uint32_t slot = SlotOf(group);
  for (const auto& [request, expectation] : expectations_) {
    if (expectation.group != group.id) continue;
    for (const BlockHash& hash : expectation.chain) {
      expected_.Find(PairOf(hash, group.id))->stored = false;
      holders_.Add(hash, slot);
    }
  }
}

int64_t PrefixIndex::num_held(GroupId id) const {
  const Group* const group = FindGroup(id);
  return group == nullptr ? 0 : group->num_stored;
}

// A key of its own for each group, as improbable to be another's as two hashes are to be equal.
BlockHash PrefixIndex::PairOf(const BlockHash& hash, GroupId group) {
  const auto id = static_cast<uint64_t>(group.value) + 1;
  return {hash.low ^ (id * 0xd6e8feb86659fd93u), hash.high};
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
