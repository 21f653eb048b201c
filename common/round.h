// Whole numbers of units. For host and device code.
#pragma once

#include <concepts>
#include <type_traits>

namespace tandem {

// Units that hold n, the last perhaps in part. REQUIRES: n >= 0, unit > 0, n + unit fits T.
template <std::integral T>
constexpr T CeilDiv(T n, std::type_identity_t<T> unit) {
  return (n + unit - 1) / unit;
}

// The least multiple of `unit` that is not below n. REQUIRES: as CeilDiv.
template <std::integral T>
constexpr T RoundUp(T n, std::type_identity_t<T> unit) {
  return CeilDiv(n, unit) * unit;
}

}  // namespace tandem
