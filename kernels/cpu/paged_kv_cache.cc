#include "kernels/cpu/paged_kv_cache.h"

#include "kernels/dequantize.h"

namespace tandem::kernels::cpu {

void PagedKvCache::StoreToken(int layer, int32_t block, int slot, int head, const float* k,
                              const float* v) {
  const int64_t dims = spec_.head_dim, lanes = 16;
  uint8_t* base =
      memory_.data() + layer * layer_bytes() + block * block_bytes() + head * head_bytes();
  const int64_t chunk = slot / lanes, lane = slot % lanes;
  if (bf16()) {
    auto* to_k = reinterpret_cast<uint16_t*>(base) + chunk * dims * lanes + 2 * lane;
    auto* to_v =
        reinterpret_cast<uint16_t*>(base + head_bytes() / 2) + slot / 2 * 2 * lanes + slot % 2;
    for (int64_t d = 0; d < dims; ++d) {
      to_k[d / 2 * 2 * lanes + d % 2] = FloatToBf16(k[d]);
      to_v[d / lanes * spec_.block_size * lanes + d % lanes * 2] = FloatToBf16(v[d]);
    }
    return;
  }
  auto* to_k = reinterpret_cast<float*>(base) + chunk * dims * lanes + lane;
  auto* to_v = reinterpret_cast<float*>(base + head_bytes() / 2) + slot * lanes;
  for (int64_t d = 0; d < dims; ++d) {
    to_k[d * lanes] = k[d];
    to_v[d / lanes * spec_.block_size * lanes + d % lanes] = v[d];
  }
}

}  // namespace tandem::kernels::cpu
