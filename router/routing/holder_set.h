// Which slots (dense numbers of groups) hold one block: a set in one word, because there are
// millions and most hold one. Up to three slots lie in the word; more lie on the heap, as a list,
// or as bits once these cost at most 8 bytes a slot.
//
// Copies are shallow, so that tables may move sets about: whoever owns one calls Free().
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/prefetch.h"

namespace tandem::routing {

class HolderSet {
 public:
  static constexpr uint32_t kMaxSlots = 1u << 20;
  static constexpr int kMaxInline = 3;
  using Inline = std::array<uint32_t, kMaxInline>;

  bool empty() const { return word_ == 0; }
  // Surely the same members. (Sets on the heap are not compared.)
  bool Equals(const HolderSet& other) const { return word_ == other.word_; }
  int count() const;
  bool Contains(uint32_t slot) const;
  bool Add(uint32_t slot);     // false: was there. REQUIRES: slot < kMaxSlots.
  bool Remove(uint32_t slot);  // false: was not there
  void Free();                 // empty afterwards

  // The set as bits, slot s in bit s % 64 of word s / 64, or as a list in no order (`buffer` is
  // where it lies if it is in the word).
  // The analyzer loses what a pointer points to that travels as a number.
  // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.UndefReturn)
  bool is_bits() const { return on_heap() && heap()->is_bits; }
  std::span<const uint64_t> bits() const;                // REQUIRES: is_bits()
  std::span<const uint32_t> list(Inline& buffer) const;  // REQUIRES: !is_bits()

  // Calls visit(slot) for the slots whose bit in `mask` is set.
  template <class Visit>
  void ForEachIn(std::span<const uint64_t> mask, Visit visit) const;

  void Prefetch() const {
    if (on_heap()) PrefetchLine(heap());
  }

 private:
  struct Heap {  // followed by `num_words` words: bits, or slots of 32 bits
    uint32_t count;
    uint32_t num_words : 31;
    uint32_t is_bits : 1;
    uint64_t* words() { return reinterpret_cast<uint64_t*>(this + 1); }
    uint32_t* slots() { return reinterpret_cast<uint32_t*>(this + 1); }
    uint32_t capacity() const { return num_words * 2; }  // of a list
  };
  static_assert(sizeof(Heap) == sizeof(uint64_t));

  // Empty: 0. A pointer: lowest bit 0. In the word: 1, then the count in 3 bits, then 20 bits a
  // slot.
  bool on_heap() const { return word_ != 0 && (word_ & 1) == 0; }
  Heap* heap() const { return std::bit_cast<Heap*>(word_); }
  void Assign(std::span<const uint32_t> slots);  // in the form that suits them
  void AssignInline(std::span<const uint32_t> slots);
  // Chooses the form anew, with `extra` added if it is a slot.
  void Rebuild(uint32_t extra = kMaxSlots);
  bool AddToBits(uint32_t slot);
  bool AddToList(uint32_t slot);
  bool RemoveFromBits(uint32_t slot);
  bool RemoveFromList(uint32_t slot);

  uint64_t word_ = 0;
};

inline std::span<const uint64_t> HolderSet::bits() const {
  Heap* const set = heap();
  return {set->words(), set->num_words};
}

inline std::span<const uint32_t> HolderSet::list(Inline& buffer) const {
  if (on_heap()) return {heap()->slots(), heap()->count};
  for (size_t i = 0; i < buffer.size(); ++i) {  // three: shifts of 4, 24 and 44
    // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult)
    buffer[i] = static_cast<uint32_t>(word_ >> (4 + 20 * i)) & (kMaxSlots - 1);
  }
  return {buffer.data(), (word_ >> 1) & 7};
}

template <class Visit>
void HolderSet::ForEachIn(std::span<const uint64_t> mask, Visit visit) const {
  if (is_bits()) {
    const auto words = bits();
    for (size_t w = 0; w < words.size() && w < mask.size(); ++w) {
      for (uint64_t left = words[w] & mask[w]; left != 0; left &= left - 1) {
        visit(static_cast<uint32_t>(w * 64) + static_cast<uint32_t>(std::countr_zero(left)));
      }
    }
    return;
  }
  Inline buffer;
  for (const uint32_t slot : list(buffer)) {
    if (slot / 64 < mask.size() && ((mask[slot / 64] >> (slot % 64)) & 1) != 0) visit(slot);
  }
}

}  // namespace tandem::routing
