#include "tests/support/count_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<int64_t> num_allocations{0};
}  // namespace

namespace tandem::testing {
int64_t NumAllocations() { return num_allocations.load(std::memory_order_relaxed); }
}  // namespace tandem::testing

// The forms for arrays call these. All others are replaced too, or AddressSanitizer would pair its
// own operator new with our delete.
void* operator new(size_t size) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  return p;
}
void* operator new(size_t size, const std::nothrow_t&) noexcept { return operator new(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
