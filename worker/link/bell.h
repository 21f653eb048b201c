// Wakes threads that wait for something to change, in this process or in others that share the
// memory the bell lies in. Spins a little, then sleeps in a futex.
//
//   uint32_t seen = bell.count();
//   while (!condition) { bell.Wait(seen, timeout); seen = bell.count(); }
//
// Read count() before looking at the condition: a ring in between is then not missed.
// Thread: any. Memory: plain, valid when zeroed.
#pragma once

#include <atomic>
#include <cstdint>

#include "common/ids.h"

namespace tandem::link {

class Bell {
 public:
  uint32_t count() const { return rings_.load(std::memory_order_acquire); }

  // After the change. A system call only if somebody sleeps.
  void Ring();

  // Returns once count() != seen, when `timeout` has passed, or spuriously. `spins`: looks before
  // sleeping, some ten nanoseconds each; 0 where the waiter's core has better to do.
  void Wait(uint32_t seen, Nanos timeout, int spins = 0);

 private:
  std::atomic<uint32_t> rings_{0};
  std::atomic<uint32_t> sleepers_{0};
};

}  // namespace tandem::link
