#include "router/routing/holder_set.h"

#include <algorithm>
#include <new>
#include <vector>

#include "common/check.h"

namespace tandem::routing {
namespace {

// Back into the word at two, so that a set that changes between three and four keeps its memory.
constexpr uint32_t kFewAgain = 2;

uint32_t WordsFor(uint32_t slot) { return slot / 64 + 1; }

}  // namespace

int HolderSet::count() const {
  return on_heap() ? static_cast<int>(heap()->count) : static_cast<int>((word_ >> 1) & 7);
}

bool HolderSet::Contains(uint32_t slot) const {
  if (is_bits()) {
    return slot / 64 < heap()->num_words && ((heap()->words()[slot / 64] >> (slot % 64)) & 1) != 0;
  }
  Inline buffer;
  const auto slots = list(buffer);
  return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

bool HolderSet::Add(uint32_t slot) {
  TANDEM_DCHECK(slot < kMaxSlots) << slot;
  return is_bits() ? AddToBits(slot) : AddToList(slot);
}

bool HolderSet::Remove(uint32_t slot) {
  return is_bits() ? RemoveFromBits(slot) : RemoveFromList(slot);
}

void HolderSet::Free() {
  if (on_heap()) ::operator delete(heap());
  word_ = 0;
}

bool HolderSet::AddToBits(uint32_t slot) {
  Heap* const set = heap();
  if (slot / 64 >= set->num_words) {
    Rebuild(slot);
    return true;
  }
  uint64_t& word = set->words()[slot / 64];
  const uint64_t bit = uint64_t{1} << (slot % 64);
  if ((word & bit) != 0) return false;
  word |= bit;
  ++set->count;
  return true;
}

bool HolderSet::AddToList(uint32_t slot) {
  Inline buffer;
  const auto slots = list(buffer);
  if (std::find(slots.begin(), slots.end(), slot) != slots.end()) return false;
  if (!on_heap() && slots.size() < kMaxInline) {
    buffer[slots.size()] = slot;
    AssignInline({buffer.data(), slots.size() + 1});
    return true;
  }
  if (!on_heap() || heap()->count == heap()->capacity()) {
    Rebuild(slot);
    return true;
  }
  heap()->slots()[heap()->count++] = slot;
  return true;
}

bool HolderSet::RemoveFromBits(uint32_t slot) {
  Heap* const set = heap();
  if (!Contains(slot)) return false;
  set->words()[slot / 64] &= ~(uint64_t{1} << (slot % 64));
  --set->count;
  if (set->count <= kFewAgain || set->count < set->num_words / 2) Rebuild();
  return true;
}

bool HolderSet::RemoveFromList(uint32_t slot) {
  Inline buffer;
  const auto slots = list(buffer);
  const auto at = static_cast<size_t>(std::find(slots.begin(), slots.end(), slot) - slots.begin());
  if (at == slots.size()) return false;
  if (!on_heap()) {
    buffer[at] = buffer[slots.size() - 1];
    AssignInline({buffer.data(), slots.size() - 1});
    return true;
  }
  Heap* const set = heap();
  set->slots()[at] = set->slots()[--set->count];
  if (set->count <= kFewAgain || set->count < set->capacity() / 4) Rebuild();
  return true;
}

void HolderSet::Rebuild(uint32_t extra) {
  std::vector<uint32_t> slots;
  slots.reserve(static_cast<size_t>(count()) + 1);
  if (is_bits()) {
    const std::vector<uint64_t> all(heap()->num_words, ~uint64_t{0});
    ForEachIn(all, [&](uint32_t slot) { slots.push_back(slot); });
  } else {
    Inline buffer;
    const auto now = list(buffer);
    slots.assign(now.begin(), now.end());
  }
  if (extra < kMaxSlots) slots.push_back(extra);
  Free();
  Assign(slots);
}

void HolderSet::Assign(std::span<const uint32_t> slots) {
  if (slots.size() <= kMaxInline) return AssignInline(slots);
  const uint32_t words = WordsFor(*std::max_element(slots.begin(), slots.end()));
  const bool bits = slots.size() >= words;
  const auto room = static_cast<uint32_t>(slots.size() + slots.size() / 2);
  const uint32_t num_words = bits ? words : (room + 1) / 2;
  void* const memory = ::operator new(sizeof(Heap) + num_words * sizeof(uint64_t));
  Heap* const set = new (memory) Heap{static_cast<uint32_t>(slots.size()), num_words, bits};
  word_ = std::bit_cast<uint64_t>(set);
  if (!bits) {
    std::copy(slots.begin(), slots.end(), set->slots());
    return;
  }
  std::fill_n(set->words(), num_words, 0);
  for (const uint32_t slot : slots) set->words()[slot / 64] |= uint64_t{1} << (slot % 64);
}

void HolderSet::AssignInline(std::span<const uint32_t> slots) {
  word_ = slots.empty() ? 0 : 1 | slots.size() << 1;
  for (size_t i = 0; i < slots.size(); ++i) word_ |= uint64_t{slots[i]} << (4 + 20 * i);
}

}  // namespace tandem::routing
