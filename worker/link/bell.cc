#include "worker/link/bell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace tandem::link {
namespace {

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void Bell::Ring() {
  // Sequentially consistent with `sleepers_`: we see the sleeper, or it sees our ring.
  rings_.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  // Not FUTEX_PRIVATE: the word may be shared by processes.
  syscall(SYS_futex, &rings_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Bell::Wait(uint32_t seen, Nanos timeout, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (count() != seen) return;
    Pause();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  const timespec relative{static_cast<time_t>(timeout / kSecond),
                          static_cast<long>(timeout % kSecond)};
  if (rings_.load(std::memory_order_seq_cst) == seen) {
    syscall(SYS_futex, &rings_, FUTEX_WAIT, seen, &relative, nullptr, 0);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace tandem::link
