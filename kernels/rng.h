// Philox4x32-10: random numbers as a pure function of a key and a counter, so that a draw depends
// on nothing but (seed, sequence index, position). Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011; known answers of its authors' library are in tests/kernels.
#pragma once

#include <array>
#include <cstdint>

namespace tandem::kernels {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

constexpr PhiloxCounter Philox4x32(PhiloxCounter c, PhiloxKey k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

// In (0, 1), 53 bits: what one sequence draws for the token at `position`.
constexpr double UniformDraw(uint64_t seed, uint32_t sequence_index, uint64_t position) {
  const PhiloxCounter r = Philox4x32(
      {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), sequence_index, 0},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{r[0]} << 32 | r[1]) >> 11;
  return (static_cast<double>(bits) + 0.5) * (1.0 / 9007199254740992.0);
}

}  // namespace tandem::kernels
