// The slots that hold every block of a chain up to where a walk along it stands, and how far the
// others came. Wide (bits) until few are left, or a block is held by few; then narrow (a list).
//
// Thread: one. Memory: Reserve() only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "router/routing/holder_set.h"

namespace tandem::routing {

class SurvivingGroups {
 public:
  void Reserve(size_t num_slots);  // for slots below

  void Start();               // nobody survives
  void Enter(uint32_t slot);  // before the first Keep; twice is once. REQUIRES: reserved for.
  // Only those in `holders` go on; the depth of the others is `depth`. False: none is left.
  bool Keep(const HolderSet& holders, int32_t depth);
  // Ends the walk: the depth of those left is `depth`.
  void Finish(int32_t depth);

  int32_t depth(uint32_t slot) const { return depth_[slot]; }  // of one that was entered
  bool any() const { return count_ != 0; }

 private:
  static constexpr uint32_t kNarrow = 16;

  bool Has(uint32_t slot) const { return ((bits_[slot / 64] >> (slot % 64)) & 1) != 0; }
  void Set(uint32_t slot) { bits_[slot / 64] |= uint64_t{1} << (slot % 64); }
  void Unset(uint32_t slot) { bits_[slot / 64] &= ~(uint64_t{1} << (slot % 64)); }
  void KeepBits(std::span<const uint64_t> holders, int32_t depth);
  void KeepListed(std::span<const uint32_t> holders, int32_t depth);
  void NarrowBits(std::span<const uint64_t> holders, int32_t depth);
  void BecomeNarrow();
  void DropAll(int32_t depth);

  bool narrow_ = false;
  uint32_t count_ = 0;
  std::vector<uint64_t> bits_;         // of the survivors
  std::vector<uint32_t> list_, next_;  // the survivors if narrow; what a step keeps
  std::vector<int32_t> depth_;         // by slot
};

}  // namespace tandem::routing
