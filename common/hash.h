// The chained hash of a KV block's tokens: what the router and every worker of a model must compute
// alike, on any machine.
//
//   h[i] = XXH3-128(h[i-1] || tokens of block i), h[-1] = RootHash(seed, salt)
//
// Canonical bytes: a hash as its low 64 bits then its high 64 bits, a token id as 32 bits, all
// little-endian. XXH3 is not collision-proof: whoever reuses a block compares the tokens too.
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/ids.h"

namespace tandem {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  auto operator<=>(const BlockHash&) const = default;
};

// For hash tables: the hash is already mixed.
struct BlockHashHasher {
  size_t operator()(const BlockHash& h) const { return static_cast<size_t>(h.low); }
};

// `seed` names model and tokenizer (the fingerprint both ends exchange), `salt` the tenant; empty
// salt: shared by all.
BlockHash RootHash(std::string_view seed, std::string_view salt);

// REQUIRES: tokens.size() is the block size of the group.
BlockHash HashBlock(const BlockHash& parent, std::span<const TokenId> tokens);

// Hash of any bytes (fingerprints of files and templates).
BlockHash HashBytes(std::string_view bytes);

}  // namespace tandem
