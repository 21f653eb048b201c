// Block -> the slots that hold it. A slot is a dense number for what one group holds; it is retired
// in O(1), whatever it holds, and the memory comes back in small portions as others change.
//
// Thread: one. Memory: a table entry a block (24 bytes and the table's gaps) and up to 8 bytes a
// holder where more than three hold it; what retired slots held goes within one pass over the
// table, which is swept 12 places a change.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <span>
#include <vector>

#include "common/hash.h"
#include "router/routing/block_table.h"
#include "router/routing/holder_set.h"

namespace tandem::routing {

class HolderMap {
 public:
  HolderMap() = default;
  HolderMap(const HolderMap&) = delete;
  HolderMap& operator=(const HolderMap&) = delete;
  ~HolderMap();

  uint32_t NewSlot();          // the lowest that is free; holds nothing
  void Retire(uint32_t slot);  // must not be used again until NewSlot() gives it
  size_t num_slots() const { return slots_.size(); }  // all of them are below

  // False: it was so already.
  bool Add(const BlockHash& hash, uint32_t slot);
  bool Remove(const BlockHash& hash, uint32_t slot);

  // Null: nobody holds it. Retired slots may be among the holders.
  const HolderSet* Find(const BlockHash& hash) const { return table_.Find(hash); }
  void Prefetch(const BlockHash& hash) const { table_.Prefetch(hash); }

  int64_t num_blocks() const { return table_.size(); }  // with those only retired slots hold

 private:
  struct Slot {
    int64_t held = 0;
    bool retired = false;
  };
  void Sweep(size_t places);
  void Release(uint32_t slot);  // one block of it is gone

  BlockTable<HolderSet> table_;
  std::vector<Slot> slots_;
  std::vector<uint64_t> retired_;  // slots that still hold something, as bits
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> free_;
  int64_t garbage_ = 0;         // pairs of a block and a retired slot
  std::vector<uint32_t> gone_;  // scratch
};

}  // namespace tandem::routing
