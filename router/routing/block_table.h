// BlockHash -> Value for millions of blocks: flat, and never copied in one go.
//
// A hash's home is proportional to the (mixed) hash, and linear probing keeps the order: the table
// is a sorted array with gaps. So a miss ends as early as a hit, a removal leaves no tombstone, and
// growing or shrinking is a merge from front to back, done a few places with each change: what lies
// behind it is looked for in the new array, the rest in the old one, whose memory is given back as
// the merge goes on. Filled to between 30 and 70 percent.
//
// Value: trivially copyable; all bytes zero is the absence of an entry, `empty()`. An entry lives
// exactly as long as its value is not empty. What a Value owns is its user's to free.
//
// Thread: one. Pointers to values live until the next call that is not const.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "common/hash.h"
#include "common/prefetch.h"
#include "common/zeroed_memory.h"

namespace tandem::routing {

template <class Value>
class BlockTable {
  static_assert(std::is_trivially_copyable_v<Value>);

 public:
  // Never smaller than `min_homes`; what holds few entries, but others all the time, should not
  // change its size with them.
  explicit BlockTable(size_t min_homes = 16) : min_homes_(min_homes) {}

  Value* Find(const BlockHash& hash) { return const_cast<Value*>(std::as_const(*this).Find(hash)); }
  const Value* Find(const BlockHash& hash) const {
    const Key key = Mix(hash);
    const Array& array = Holding(key);
    const Entry& entry = array[array.PlaceOf(key)];
    return entry.Is(key) ? &entry.value : nullptr;
  }

  // The value of `hash` and true if it is new; then it is `value`. REQUIRES: !value.empty().
  std::pair<Value*, bool> TryEmplace(const BlockHash& hash, const Value& value);

  // Calls visit(Value&) for the entry of `hash`, if there is one; left empty it is erased.
  template <class Visit>
  void Update(const BlockHash& hash, Visit visit);

  // The same for all entries of the next `places` places, around and around. The table must not
  // be used in `visit`. Returns early if it is about to change its size.
  template <class Visit>
  void Sweep(size_t places, Visit visit);

  template <class Visit>
  void ForEach(Visit visit) const;

  // Brings the memory of `hash` nearer, for a call soon.
  void Prefetch(const BlockHash& hash) const {
    const Key key = Mix(hash);
    const Array& array = Holding(key);
    const Entry* const home = &array[array.HomeOf(key)];
    PrefetchLine(home);
    PrefetchLine(reinterpret_cast<const char*>(home) + 2 * sizeof(Entry) - 1);
  }

  int64_t size() const { return size_; }

 private:
  // The hash with its low half replaced by what orders the table; equal only if the hashes are.
  struct Key {
    uint64_t order;
    uint64_t high;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key;
    Value value;
    bool Is(const Key& other) const { return key == other && !value.empty(); }
  };
  // As many places as homes again lie behind them for what is pushed over the end: as there are
  // never more entries than homes, a run cannot reach the end, however the hashes are chosen.
  // (Untouched places cost nothing.)
  class Array {
   public:
    Array() = default;
    explicit Array(size_t num_homes)
        : memory_((2 * num_homes + 1) * sizeof(Entry)), num_homes_(num_homes) {}

    Entry& operator[](size_t place) const { return static_cast<Entry*>(memory_.data())[place]; }
    size_t num_homes() const { return num_homes_; }
    size_t end() const { return end_; }  // no entry is at or behind it
    size_t HomeOf(const Key& key) const { return ((key.order >> 32) * num_homes_) >> 32; }
    // Where the key is or belongs: the first place from its home that is empty or not below it.
    size_t PlaceOf(const Key& key) const {
      size_t place = HomeOf(key);
      for (;; ++place) {
        const Entry& entry = (*this)[place];
        if (entry.value.empty() || entry.key.order > key.order || entry.key == key) return place;
      }
    }
    void InsertAt(size_t place, const Entry& entry);
    void EraseAt(size_t place);
    void DiscardUpTo(size_t place) { memory_.DiscardUpTo(place * sizeof(Entry)); }

   private:
    ZeroedMemory memory_;
    size_t num_homes_ = 0;
    size_t end_ = 0;
  };

  // Multiplicative, so that hashes that are no hashes (ids of a trace) spread too.
  static Key Mix(const BlockHash& hash) {
    return {(hash.low ^ hash.high) * 0x9e3779b97f4a7c15u, hash.high};
  }
  const Array& Holding(const Key& key) const {
    return moved_ != 0 && now_.HomeOf(key) < moved_ ? next_ : now_;
  }
  Array& Holding(const Key& key) { return const_cast<Array&>(std::as_const(*this).Holding(key)); }

  bool moving() const { return next_.num_homes() != 0; }
  void StartMove(size_t num_homes);
  void Move(size_t places);
  void GrowIfFull();
  void ShrinkIfSparse();

  // With each change while moving: done before an eighth of the entries were added to those 70 %.
  static constexpr size_t kPlacesPerChange = 32;

  size_t min_homes_;
  Array now_{min_homes_};
  Array next_;        // without homes: no move is under way
  size_t moved_ = 0;  // entries with a home in now_ below this one are in next_
  size_t swept_ = 0;
  int64_t size_ = 0;
};

template <class Value>
void BlockTable<Value>::Array::InsertAt(size_t place, const Entry& entry) {
  size_t hole = place;
  while (!(*this)[hole].value.empty()) ++hole;
  end_ = std::max(end_, hole + 1);
  Entry* const at = &(*this)[place];
  std::move_backward(at, &(*this)[hole], &(*this)[hole] + 1);
  *at = entry;
}

template <class Value>
void BlockTable<Value>::Array::EraseAt(size_t place) {
  size_t last = place;
  // Those behind move up, up to the first that is at home.
  while (!(*this)[last + 1].value.empty() && HomeOf((*this)[last + 1].key) <= last) ++last;
  Entry* const at = &(*this)[place];
  std::move(at + 1, &(*this)[last] + 1, at);
  (*this)[last].value = Value{};
}

template <class Value>
std::pair<Value*, bool> BlockTable<Value>::TryEmplace(const BlockHash& hash, const Value& value) {
  GrowIfFull();
  const Key key = Mix(hash);
  Array& array = Holding(key);
  const size_t place = array.PlaceOf(key);
  if (array[place].Is(key)) return {&array[place].value, false};
  array.InsertAt(place, {key, value});
  ++size_;
  return {&array[place].value, true};
}

template <class Value>
template <class Visit>
void BlockTable<Value>::Update(const BlockHash& hash, Visit visit) {
  ShrinkIfSparse();
  const Key key = Mix(hash);
  Array& array = Holding(key);
  const size_t place = array.PlaceOf(key);
  Entry& entry = array[place];
  if (!entry.Is(key)) return;
  visit(entry.value);
  if (!entry.value.empty()) return;
  array.EraseAt(place);
  --size_;
}

template <class Value>
template <class Visit>
void BlockTable<Value>::Sweep(size_t places, Visit visit) {
  ShrinkIfSparse();
  Move(places);
  if (moving()) return;
  for (places = std::min(places, now_.end()); places > 0; --places) {
    if (swept_ >= now_.end()) swept_ = 0;
    // An erased entry's place is taken by the one behind it.
    for (Entry& entry = now_[swept_]; !entry.value.empty();) {
      visit(entry.value);
      if (!entry.value.empty()) break;
      now_.EraseAt(swept_);
      --size_;
    }
    ++swept_;
  }
}

template <class Value>
template <class Visit>
void BlockTable<Value>::ForEach(Visit visit) const {
  for (size_t place = 0; place < next_.end(); ++place) {
    if (!next_[place].value.empty()) visit(next_[place].value);
  }
  for (size_t place = moved_; place < now_.end(); ++place) {
    if (!now_[place].value.empty()) visit(now_[place].value);
  }
}

template <class Value>
void BlockTable<Value>::GrowIfFull() {
  Move(kPlacesPerChange);
  const size_t homes = now_.num_homes();
  if (moving() || static_cast<size_t>(size_) < homes / 10 * 7) return;
  StartMove(homes + homes / 4 * 3);
}

template <class Value>
void BlockTable<Value>::ShrinkIfSparse() {
  Move(kPlacesPerChange);
  const size_t homes = now_.num_homes();
  if (moving() || homes <= min_homes_ || static_cast<size_t>(size_) >= homes / 10 * 3) return;
  StartMove(std::max(min_homes_, homes / 2));
}

template <class Value>
void BlockTable<Value>::StartMove(size_t num_homes) {
  if (size_ == 0) {
    now_ = Array(min_homes_);
    swept_ = 0;
    return;
  }
  next_ = Array(num_homes);
  // A small one at once. A large one a little, so that what is below `moved_` is never empty.
  Move(kPlacesPerChange);
}

template <class Value>
void BlockTable<Value>::Move(size_t places) {
  if (!moving()) return;
  const size_t end = std::min(now_.end(), moved_ + places);
  // Whole runs: what lies behind the last place moved is then found without looking before it.
  for (; moved_ < end || !now_[moved_].value.empty(); ++moved_) {
    const Entry& entry = now_[moved_];
    if (!entry.value.empty()) next_.InsertAt(next_.PlaceOf(entry.key), entry);
  }
  now_.DiscardUpTo(moved_);
  if (moved_ < now_.end()) return;
  swept_ = swept_ * next_.num_homes() / now_.num_homes();
  now_ = std::exchange(next_, Array());
  moved_ = 0;
}

}  // namespace tandem::routing
