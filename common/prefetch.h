// Asks for a cache line before it is needed.
#pragma once

namespace tandem {

inline void PrefetchLine(const void* address) {
  __builtin_prefetch(address);
  // g++ 12 takes a function that does nothing but prefetch for one without effect and drops calls
  // of it: the index was ten times slower, silently. This is an effect, and no instruction.
  asm volatile("" : : "r"(address));
}

}  // namespace tandem
