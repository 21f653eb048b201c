// The monotonic clock of this machine. Pure rooms (worker/engine, router/routing) may not include
// this: they are handed `now`. Times of two machines are never compared.
#pragma once

#include <time.h>

#include <chrono>

#include "common/ids.h"

namespace tandem {

inline Nanos MonotonicNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// CPU time that this thread has used.
inline Nanos ThreadCpuTime() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return Nanos{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace tandem
