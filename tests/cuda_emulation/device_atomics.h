// Atomics, fences and cached accesses under CUDA's names. Atomics are relaxed, as CUDA's are, so
// that ThreadSanitizer sees what relies on more. Part of device_prelude.h.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/cuda_emulation/collectives.h"

namespace tandem::emulation {

// *address = f(*address); returns what was there. T of 4 or 8 bytes.
template <class T, class F>
T Modify(T* address, F f) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  auto* bits = reinterpret_cast<Bits*>(address);
  Bits old_bits = __atomic_load_n(bits, __ATOMIC_RELAXED);
  for (;;) {
    T old_value;
    std::memcpy(&old_value, &old_bits, sizeof(T));
    const T new_value = f(old_value);
    Bits new_bits;
    std::memcpy(&new_bits, &new_value, sizeof(T));
    if (__atomic_compare_exchange_n(bits, &old_bits, new_bits, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      NoteProgress();
      return old_value;
    }
  }
}

}  // namespace tandem::emulation

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return static_cast<T>(old - value); });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return old > value ? old : value; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return old < value ? old : value; });
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [=](T old) { return old == expected ? value : old; });
}
template <class T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return old & value; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return old | value; });
}
template <class T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return tandem::emulation::Modify(address, [value](T old) { return old ^ value; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return tandem::emulation::Modify(address,
                                   [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}

// ThreadSanitizer sees no fences: what relies on them is reported as a race. Prefer LoadAcquire and
// StoreRelease.
inline void __threadfence() { tandem::emulation::Fence(); }
inline void __threadfence_block() { tandem::emulation::Fence(); }
inline void __threadfence_system() { tandem::emulation::Fence(); }

template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}
