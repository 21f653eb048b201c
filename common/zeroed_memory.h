// Zeroed memory for large flat tables. Above a few MiB its pages come when they are first touched,
// huge ones where the system gives them on request: what is read at random is then found with half
// the cache misses (the page table's are saved). Such memory can be given back from the front.
#pragma once

#include <cstddef>

namespace tandem {

class ZeroedMemory {
 public:
  ZeroedMemory() = default;
  explicit ZeroedMemory(size_t bytes);  // aborts if there is none
  ZeroedMemory(ZeroedMemory&& other) noexcept { *this = static_cast<ZeroedMemory&&>(other); }
  ZeroedMemory& operator=(ZeroedMemory&& other) noexcept;
  ~ZeroedMemory();

  void* data() const { return data_; }  // aligned for any type
  // The first `bytes` will not be used again. Rounded down to 2 MiB; small memory is kept whole.
  void DiscardUpTo(size_t bytes);

 private:
  void* data_ = nullptr;
  char* mapping_ = nullptr;  // null: from the heap
  size_t mapping_bytes_ = 0;
  size_t discarded_ = 0;
};

}  // namespace tandem
