// The monotonic clock of this machine. Pure rooms (worker/engine, router/routing) may not include
// this: they are handed `now`. Times of two machines are never compared.
#pragma once

#include <chrono>

#include "common/ids.h"

namespace tandem {

inline Nanos MonotonicNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace tandem
