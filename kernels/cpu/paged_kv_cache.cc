#include "kernels/cpu/paged_kv_cache.h"

#include <cmath>
#include <cstring>

#include "kernels/cpu/kernel_table.h"
#include "kernels/dequantize.h"

namespace tandem::kernels::cpu {
namespace {

constexpr int64_t kLanes = 16;

// Element d of K of the token at `slot`, and of V, when `step` elements of a lane lie side by side.
template <int kStep>
int64_t IndexOfK(int64_t slot, int64_t d, int64_t dims) {
  return slot / kLanes * dims * kLanes + d / kStep * kStep * kLanes + slot % kLanes * kStep +
         d % kStep;
}
template <int kStep>
int64_t IndexOfV(int64_t slot, int64_t d, int64_t block_size) {
  return d / kLanes * block_size * kLanes + slot / kStep * kStep * kLanes + d % kLanes * kStep +
         slot % kStep;
}

// Converted first, which is vector code, and then laid out. The kStep elements of a lane of K are
// one token's and go together. Those of V are kStep tokens', which other threads may be storing.
template <int kStep, class Element, class Convert>
void Store(Element* to, const KvCacheSpec& spec, int slot, const float* k, const float* v,
           const Convert& convert) {
  const int64_t dims = spec.head_dim, block_size = spec.block_size;
  Element* const to_v = to + block_size * dims;
  Element row[kMaxHeadDim] = {};
  for (int64_t d = 0; d < dims; ++d) row[d] = convert(k[d], false);
  for (int64_t d = 0; d < dims; d += kStep) {
    std::memcpy(to + IndexOfK<kStep>(slot, d, dims), row + d, kStep * sizeof(Element));
  }
  for (int64_t d = 0; d < dims; ++d) row[d] = convert(v[d], true);
  for (int64_t line = 0; line < dims; line += kLanes) {
    Element* const lanes = to_v + IndexOfV<kStep>(slot, line, block_size);
    for (int64_t d = 0; d < kLanes; ++d) lanes[d * kStep] = row[line + d];
  }
}

}  // namespace

void PagedKvCache::StoreToken(int layer, int32_t block, int slot, int head, const float* k,
                              const float* v) {
  uint8_t* base =
      memory_.data() + layer * layer_bytes() + block * block_bytes() + head * head_bytes();
  switch (spec_.type) {
    case KvType::kF32:
      Store<1>(reinterpret_cast<float*>(base), spec_, slot, k, v, [](float x, bool) { return x; });
      return;
    case KvType::kBf16:
      Store<2>(reinterpret_cast<uint16_t*>(base), spec_, slot, k, v,
               [](float x, bool) { return FloatToBf16(x); });
      return;
    case KvType::kInt8:
      break;
  }
  auto* scales = reinterpret_cast<float*>(base + int64_t{2} * spec_.block_size * spec_.head_dim);
  const auto dims = static_cast<size_t>(spec_.head_dim);
  const float k_scale = scales[slot] = KvScale({k, dims});
  const float v_scale = scales[spec_.block_size + slot] = KvScale({v, dims});
  const float inverse[] = {k_scale > 0 ? 1 / k_scale : 0, v_scale > 0 ? 1 / v_scale : 0};
  Store<4>(reinterpret_cast<int8_t*>(base), spec_, slot, k, v,
           [&](float x, bool is_v) { return static_cast<int8_t>(std::lrintf(x * inverse[is_v])); });
}

}  // namespace tandem::kernels::cpu
