#include "tests/support/count_allocations.h"

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TANDEM_SANITIZER_ALLOCATES 1
// Of sanitizer/allocator_interface.h, which GCC has in its library and not among its headers.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*,
                                                                             size_t),
                                                         void (*free_hook)(const volatile void*));
#endif

namespace {

std::atomic<int64_t> num_allocations{0};
std::atomic<bool> by_thread{false};

struct Named {
  std::atomic<bool> used{false};   // `name` is written
  std::atomic<bool> taken{false};  // somebody writes it, or has
  char name[16] = {};              // as long as the name of a thread may be
  std::atomic<int64_t> count{0};
};
Named named[64];

// No lock and no allocation: this is called from within malloc.
void CountThread() {
  char name[16] = {};
  pthread_getname_np(pthread_self(), name, sizeof name);
  for (Named& entry : named) {
    if (!entry.taken.exchange(true)) {
      std::memcpy(entry.name, name, sizeof name);
      entry.used.store(true, std::memory_order_release);
    }
    while (!entry.used.load(std::memory_order_acquire)) {
    }
    if (std::memcmp(entry.name, name, sizeof name) != 0) continue;
    entry.count.fetch_add(1, std::memory_order_relaxed);
    return;
  }
}

void Count() {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  if (by_thread.load(std::memory_order_relaxed)) CountThread();
}

}  // namespace

namespace tandem::testing {

int64_t NumAllocations() { return num_allocations.load(std::memory_order_relaxed); }

void CountByThread() { by_thread.store(true, std::memory_order_relaxed); }

int64_t NumAllocationsOf(std::string_view prefix) {
  int64_t count = 0;
  for (const Named& entry : named) {
    if (!entry.used.load(std::memory_order_acquire)) continue;
    if (std::string_view(entry.name).starts_with(prefix)) count += entry.count.load();
  }
  return count;
}

}  // namespace tandem::testing

#ifdef TANDEM_SANITIZER_ALLOCATES

// The sanitizer's own malloc and operator new call this.
namespace {
[[maybe_unused]] const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t) { Count(); }, [](const volatile void*) {});
}  // namespace

#else

// In front of glibc's; operator new calls malloc.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  Count();
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  Count();
  return __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, size_t alignment, size_t size) {
  Count();
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
}

#endif
