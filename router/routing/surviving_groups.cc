#include "router/routing/surviving_groups.h"

#include <algorithm>
#include <bit>

namespace tandem::routing {
namespace {

template <class Visit>
void ForEachBit(uint64_t bits, size_t word, Visit visit) {
  for (; bits != 0; bits &= bits - 1) {
    visit(static_cast<uint32_t>(word * 64) + static_cast<uint32_t>(std::countr_zero(bits)));
  }
}

}  // namespace

void SurvivingGroups::Reserve(size_t num_slots) {
  bits_.resize(num_slots / 64 + 1);
  list_.reserve(num_slots);
  next_.reserve(num_slots);
  depth_.resize(num_slots);
}

void SurvivingGroups::Start() {
  std::fill(bits_.begin(), bits_.end(), 0);
  list_.clear();
  narrow_ = false;
  count_ = 0;
}

void SurvivingGroups::Enter(uint32_t slot) {
  if (Has(slot)) return;
  Set(slot);
  ++count_;
}

bool SurvivingGroups::Keep(const HolderSet& holders, int32_t depth) {
  if (!holders.is_bits()) {
    HolderSet::Inline buffer;
    KeepListed(holders.list(buffer), depth);
  } else if (narrow_) {
    NarrowBits(holders.bits(), depth);
  } else {
    KeepBits(holders.bits(), depth);
  }
  return any();
}

void SurvivingGroups::Finish(int32_t depth) { DropAll(depth); }

void SurvivingGroups::KeepBits(std::span<const uint64_t> holders, int32_t depth) {
  const uint32_t before = count_;
  for (size_t w = 0; w < bits_.size(); ++w) {
    const uint64_t dropped = bits_[w] & ~(w < holders.size() ? holders[w] : 0);
    if (dropped == 0) continue;
    bits_[w] ^= dropped;
    count_ -= static_cast<uint32_t>(std::popcount(dropped));
    ForEachBit(dropped, w, [&](uint32_t slot) { depth_[slot] = depth; });
  }
  if (count_ != before && count_ <= kNarrow) BecomeNarrow();
}

void SurvivingGroups::BecomeNarrow() {
  list_.clear();
  for (size_t w = 0; w < bits_.size(); ++w) {
    ForEachBit(bits_[w], w, [&](uint32_t slot) { list_.push_back(slot); });
  }
  narrow_ = true;
}

void SurvivingGroups::NarrowBits(std::span<const uint64_t> holders, int32_t depth) {
  std::erase_if(list_, [&](uint32_t slot) {
    if (slot / 64 < holders.size() && ((holders[slot / 64] >> (slot % 64)) & 1) != 0) return false;
    depth_[slot] = depth;
    Unset(slot);
    return true;
  });
  count_ = static_cast<uint32_t>(list_.size());
}

void SurvivingGroups::KeepListed(std::span<const uint32_t> holders, int32_t depth) {
  next_.clear();
  for (const uint32_t slot : holders) {
    // Slots past the bits are retired ones or not among those entered.
    if (slot / 64 < bits_.size() && Has(slot)) next_.push_back(slot);
  }
  if (narrow_ && next_.size() == count_) return;  // the common step: nobody is dropped
  for (const uint32_t slot : next_) Unset(slot);
  DropAll(depth);
  for (const uint32_t slot : next_) Set(slot);
  list_.swap(next_);
  count_ = static_cast<uint32_t>(list_.size());
  narrow_ = true;
}

void SurvivingGroups::DropAll(int32_t depth) {
  if (narrow_) {
    for (const uint32_t slot : list_) {
      if (!Has(slot)) continue;
      depth_[slot] = depth;
      Unset(slot);
    }
  } else {
    for (size_t w = 0; w < bits_.size(); ++w) {
      ForEachBit(bits_[w], w, [&](uint32_t slot) { depth_[slot] = depth; });
      bits_[w] = 0;
    }
  }
  count_ = 0;
}

}  // namespace tandem::routing
