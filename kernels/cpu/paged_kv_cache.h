// KV memory as attention.inc reads it: [layer][block][KV head][K, V, scales], each K or V one block
// of tokens in lanes of 16.
#pragma once

#include <cstdint>

#include "kernels/cpu/aligned_buffer.h"
#include "kernels/ops.h"

namespace tandem::kernels::cpu {

class PagedKvCache : public KvCache {
 public:
  explicit PagedKvCache(const KvCacheSpec& spec)
      : spec_(spec), memory_(spec.num_layers * layer_bytes()) {}

  const KvCacheSpec& spec() const override { return spec_; }
  bool allocated() const { return memory_.data() != nullptr; }

  // Bytes of one layer of one block.
  static int64_t BlockBytes(const KvCacheSpec& spec) {
    const int64_t elements = int64_t{2} * spec.block_size * spec.num_kv_heads * spec.head_dim;
    switch (spec.type) {
      case KvType::kF32:
        return 4 * elements;
      case KvType::kBf16:
        return 2 * elements;
      case KvType::kInt8:
        break;
    }
    return elements + int64_t{2} * 4 * spec.block_size * spec.num_kv_heads;
  }
  int64_t block_bytes() const { return BlockBytes(spec_); }
  int64_t head_bytes() const { return block_bytes() / spec_.num_kv_heads; }

  // Part `part` of `num_parts`: see AlignedBuffer::Populate.
  [[nodiscard]] bool Populate(int part, int num_parts) const {
    const size_t bytes = memory_.size() / static_cast<size_t>(num_parts) + 1;
    return memory_.Populate(bytes * static_cast<size_t>(part),
                            bytes * static_cast<size_t>(part + 1));
  }

  // KV head `head` of block 0; other blocks are block_bytes() apart.
  const uint8_t* Head(int layer, int head) const {
    return memory_.data() + layer * layer_bytes() + head * head_bytes();
  }

  // Stores one head of one token, head_dim floats each.
  void StoreToken(int layer, int32_t block, int slot, int head, const float* k, const float* v);

 private:
  int64_t layer_bytes() const { return spec_.num_blocks * block_bytes(); }

  KvCacheSpec spec_;
  AlignedBuffer memory_;
};

}  // namespace tandem::kernels::cpu
