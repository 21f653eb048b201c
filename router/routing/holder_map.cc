#include "router/routing/holder_map.h"

#include "common/check.h"

namespace tandem::routing {
namespace {

// A pass over a table filled to the half takes a change for every six blocks of it, and costs each
// of these about 100 ns.
constexpr size_t kPlacesPerChange = 12;
// At retirement: cleans a small table at once, and costs a large one under 100 us.
constexpr size_t kPlacesAtOnce = 1 << 13;

}  // namespace

HolderMap::~HolderMap() {
  table_.ForEach([](HolderSet& holders) { holders.Free(); });
}

uint32_t HolderMap::NewSlot() {
  if (!free_.empty()) {
    const uint32_t slot = free_.top();
    free_.pop();
    return slot;
  }
  TANDEM_CHECK(slots_.size() < HolderSet::kMaxSlots) << slots_.size() << " groups";
  slots_.emplace_back();
  retired_.resize(slots_.size() / 64 + 1);
  return static_cast<uint32_t>(slots_.size() - 1);
}

void HolderMap::Retire(uint32_t slot) {
  if (slots_[slot].held == 0) return free_.push(slot);
  slots_[slot].retired = true;
  retired_[slot / 64] |= uint64_t{1} << (slot % 64);
  garbage_ += slots_[slot].held;
  Sweep(kPlacesAtOnce);
}

bool HolderMap::Add(const BlockHash& hash, uint32_t slot) {
  if (garbage_ != 0) Sweep(kPlacesPerChange);
  HolderSet alone;
  alone.Add(slot);
  const auto [holders, first] = table_.TryEmplace(hash, alone);
  if (!first && !holders->Add(slot)) return false;
  ++slots_[slot].held;
  return true;
}

bool HolderMap::Remove(const BlockHash& hash, uint32_t slot) {
  if (garbage_ != 0) Sweep(kPlacesPerChange);
  bool held = false;
  table_.Update(hash, [&](HolderSet& holders) { held = holders.Remove(slot); });
  slots_[slot].held -= held ? 1 : 0;
  return held;
}

void HolderMap::Sweep(size_t places) {
  table_.Sweep(places, [&](HolderSet& holders) {
    gone_.clear();
    holders.ForEachIn(retired_, [&](uint32_t slot) { gone_.push_back(slot); });
    for (const uint32_t slot : gone_) {
      holders.Remove(slot);
      Release(slot);
    }
  });
}

void HolderMap::Release(uint32_t slot) {
  --garbage_;
  if (--slots_[slot].held != 0) return;
  slots_[slot].retired = false;
  retired_[slot / 64] &= ~(uint64_t{1} << (slot % 64));
  free_.push(slot);
}

}  // namespace tandem::routing
