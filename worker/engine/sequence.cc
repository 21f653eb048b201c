#include "worker/engine/sequence.h"

#include <span>

namespace tandem::engine {

void ExtendHashes(Sequence& seq, int block_size) {
  const auto size = static_cast<size_t>(block_size);
  const std::span<const TokenId> tokens = seq.tokens;
  while ((seq.block_hashes.size() + 1) * size <= tokens.size()) {
    const int block = static_cast<int>(seq.block_hashes.size());
    seq.block_hashes.push_back(
        HashBlock(seq.parent_hash(block), tokens.subspan(seq.block_hashes.size() * size, size)));
  }
}

}  // namespace tandem::engine
