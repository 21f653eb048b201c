// The set of blocks that a group's KV events say are stored, kept on the link's thread so that a
// snapshot for a router never holds up a step.
// Memory: about 100 bytes a block of the pool.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "worker/engine/inbox.h"

namespace tandem::link {

class KvMirror {
 public:
  // Events come in order, none left out.
  void Apply(const engine::KvEvent& event);

  // Stored blocks as of last_event(), parents before children.
  struct Block {
    BlockHash hash, parent;
  };
  std::vector<Block> Snapshot() const;

  uint64_t last_event() const { return last_event_; }

 private:
  struct Entry {
    BlockHash parent;
    uint64_t stored_by = 0;  // event number: a parent's is smaller than its children's
  };
  absl::flat_hash_map<BlockHash, Entry, BlockHashHasher> blocks_;
  uint64_t last_event_ = 0;
};

}  // namespace tandem::link
