// What sanitizers must be told: that execution moves to another stack, and which accesses are
// whose. Without one, nothing. The emulation itself is built without ThreadSanitizer, so that its
// own bookkeeping, done on the fibers of others, is neither seen as a race nor as synchronization;
// its code therefore avoids library functions that are intercepted (memcpy, malloc) while fibers
// run.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(TANDEM_EMULATION_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long size);
void __tsan_write_range(void* address, unsigned long size);
}
#endif

namespace tandem::emulation {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAsan = true;
inline void Poison(const void* p, size_t size) { __asan_poison_memory_region(p, size); }
inline void Unpoison(const void* p, size_t size) { __asan_unpoison_memory_region(p, size); }
#else
inline constexpr bool kAsan = false;
inline void Poison(const void*, size_t) {}
inline void Unpoison(const void*, size_t) {}
#endif

#if defined(TANDEM_EMULATION_TSAN)
inline constexpr bool kTsan = true;
inline void Acquire(void* p) { __tsan_acquire(p); }
inline void Release(void* p) { __tsan_release(p); }
inline void NoteRead(const void* p, size_t size) { __tsan_read_range(const_cast<void*>(p), size); }
inline void NoteWrite(void* p, size_t size) { __tsan_write_range(p, size); }
#else
inline constexpr bool kTsan = false;
inline void Acquire(void*) {}
inline void Release(void*) {}
inline void NoteRead(const void*, size_t) {}
inline void NoteWrite(void*, size_t) {}
#endif

}  // namespace tandem::emulation
