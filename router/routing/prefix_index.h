// Which group holds which prefix, as far as the groups' KV events have told. May be behind the
// truth; ahead of it only by what requests in flight are expected to store.
//
// Thread: the routing thread. Memory: one entry for each block that some group holds or is expected
// to hold; groups' pools are bounded, so this is. Lookup: O(blocks of the prompt * holders), no
// allocation.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/hash.h"
#include "common/ids.h"
#include "router/routing/messages.h"

namespace tandem::routing {

class PrefixIndex {
 public:
  // depth[i] = leading blocks of `hashes` that groups[i] holds or is expected to hold.
  // REQUIRES: depth.size() == groups.size().
  void Match(std::span<const BlockHash> hashes, std::span<const GroupId> groups,
             std::span<int32_t> depth) const;

  // Events of one group come numbered without gaps; the first one heard sets the count. False: one
  // was missed. Then what is known of the group is no longer true: the caller must Clear() it
  // before the next Apply.
  [[nodiscard]] bool Apply(GroupId group, const KvEvent& event);

  // We just sent this prompt there: believe it until Settle(request).
  // REQUIRES: `request` has no expectation.
  void Expect(GroupId group, RequestId request, std::span<const BlockHash> chain);
  // First token seen (its events came before it), cancelled, or group lost. Unknown: no effect.
  void Settle(RequestId request);

  // Forgets what the group is known to hold and its event count; expectations stay until settled.
  void Clear(GroupId group);

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t num_held(GroupId group) const;  // O(blocks); metrics and tests

 private:
  struct Holder {
    int32_t group = -1;
    bool stored = false;
    int32_t expected = 0;  // requests in flight that will store it
  };
  using Holders = std::vector<Holder>;  // few: groups that hold one block
  struct Expectation {
    GroupId group;
    std::vector<BlockHash> chain;
  };
  Holder& HolderOf(const BlockHash& hash, GroupId group);
  void DropIfEmpty(const BlockHash& hash, GroupId group);

  std::unordered_map<BlockHash, Holders, BlockHashHasher> blocks_;
  std::unordered_map<RequestId, Expectation> expectations_;
  std::unordered_map<int32_t, uint64_t> last_event_;  // by group
};

}  // namespace tandem::routing
