// Which group holds which prefix, as far as the groups' KV events have told. May be behind the
// truth; ahead of it only by what requests in flight are expected to store.
//
// Thread: the routing thread. Memory: below 64 bytes for each pair of a block and a group that
// holds it, in tables that shrink again; groups' pools are bounded, so this is. Clear() is O(1) in
// what the group holds. docs/routing.md has the layout and what it was measured to cost.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"
#include "router/routing/expected_chains.h"
#include "router/routing/holder_map.h"
#include "router/routing/messages.h"
#include "router/routing/surviving_groups.h"

namespace tandem::routing {

class PrefixIndex {
 public:
  // depth[i] = leading blocks of `hashes` that groups[i] holds or is expected to hold. If given,
  // holders[b] = how many of `groups` (as often as they are named) have a depth above b. One walk
  // along `hashes` for all groups, which ends where none is left; fastest if `groups` ascends.
  // Allocates nothing.
  // REQUIRES: depth.size() == groups.size(); holders is empty or as long as hashes.
  void Match(std::span<const BlockHash> hashes, std::span<const GroupId> groups,
             std::span<int32_t> depth, std::span<int32_t> holders = {}) const;

  // Events of one group come numbered without gaps; the first one heard sets the count. False: one
  // was missed. Then what is known of the group is no longer true: the caller must Clear() it
  // before the next Apply.
  [[nodiscard]] bool Apply(GroupId group, const KvEvent& event);
  // The same, one after the other. Returns how many were applied before one was missed.
  [[nodiscard]] size_t Apply(GroupId group, std::span<const KvEvent> events);

  // We just sent this prompt there: believe it until Settle(request).
  // REQUIRES: `request` has no expectation; each hash of `chain` names those before it.
  void Expect(GroupId group, RequestId request, std::span<const BlockHash> chain);
  // First token seen (its events came before it), cancelled, or group lost. Unknown: no effect.
  void Settle(RequestId request);

  // Forgets what the group is known to hold and its event count; expectations stay until settled.
  // A group without any is forgotten altogether: ids may grow without bound.
  void Clear(GroupId group);

  // Blocks in memory, those both held and expected twice. Those that only cleared groups held go as
  // later changes come.
  int64_t num_blocks() const { return holders_.num_blocks() + expected_.num_blocks(); }
  int64_t num_groups() const { return static_cast<int64_t>(groups_.size()); }
  int64_t num_held(GroupId group) const;                         // by its events; metrics and tests
  void CheckInvariants() const { expected_.CheckInvariants(); }  // tests

 private:
  static constexpr uint32_t kNoSlot = HolderSet::kMaxSlots;
  struct Group {
    GroupId id;
    uint32_t slot = kNoSlot;
    uint32_t lane = 0;  // in expected_, while there are expectations
    bool heard = false;
    int32_t num_expectations = 0;
    uint64_t last_event = 0;
    int64_t num_stored = 0;
  };

  Group* FindGroup(GroupId id);
  const Group* FindGroup(GroupId id) const;
  Group& GroupOf(GroupId id);  // made if new; refers into groups_
  void ForgetIfIdle(GroupId id);
  uint32_t SlotOf(Group& group);
  bool ApplyTo(Group& group, const KvEvent& event);
  void Store(Group& group, const BlockHash& hash);
  void Drop(Group& group, const BlockHash& hash);
  void ClearHeld(Group& group);
  int32_t DepthFrom(int32_t depth, const Group& group, std::span<const BlockHash> hashes) const;
  void AddExpected(std::span<const BlockHash> hashes, std::span<const GroupId> groups,
                   std::span<int32_t> depth) const;

  HolderMap holders_;
  ExpectedChains expected_;
  std::vector<uint32_t> free_lanes_;
  std::vector<Group> groups_;                     // ascending by id
  mutable SurvivingGroups survivors_;             // Match's scratch
  mutable std::vector<int32_t> expected_depths_;  // that too, by lane
};

}  // namespace tandem::routing
