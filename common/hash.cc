#include "common/hash.h"

#include <algorithm>
#include <array>
#include <bit>
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tandem {
namespace {

static_assert(std::endian::native == std::endian::little, "the canonical bytes are little-endian");
static_assert(sizeof(BlockHash) == 16 && sizeof(TokenId) == 4);

BlockHash FromXxh(XXH128_hash_t h) { return {h.low64, h.high64}; }

BlockHash Digest(XXH3_state_t& state) { return FromXxh(XXH3_128bits_digest(&state)); }

}  // namespace

BlockHash RootHash(std::string_view seed, std::string_view salt) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  const uint64_t seed_size = seed.size();  // keeps ("ab", "c") apart from ("a", "bc")
  XXH3_128bits_update(&state, &seed_size, sizeof(seed_size));
  XXH3_128bits_update(&state, seed.data(), seed.size());
  XXH3_128bits_update(&state, salt.data(), salt.size());
  return Digest(state);
}

BlockHash HashBlock(const BlockHash& parent, std::span<const TokenId> tokens) {
  // Bytes that lie together are hashed several times as fast as those fed to a state in parts, and
  // those of the usual size once more.
  constexpr size_t kUsual = 16, kMaxTogether = 64;
  if (tokens.size() <= kMaxTogether) {
    struct {
      BlockHash parent;
      std::array<TokenId, kMaxTogether> tokens;
    } bytes;
    bytes.parent = parent;
    if (tokens.size() == kUsual) {
      std::copy_n(tokens.begin(), kUsual, bytes.tokens.begin());
      return FromXxh(XXH3_128bits(&bytes, sizeof(parent) + kUsual * sizeof(TokenId)));
    }
    std::copy(tokens.begin(), tokens.end(), bytes.tokens.begin());
    return FromXxh(XXH3_128bits(&bytes, sizeof(parent) + tokens.size_bytes()));
  }
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, &parent, sizeof(parent));
  XXH3_128bits_update(&state, tokens.data(), tokens.size_bytes());
  return Digest(state);
}

BlockHash HashBytes(std::string_view bytes) {
  return FromXxh(XXH3_128bits(bytes.data(), bytes.size()));
}

}  // namespace tandem
