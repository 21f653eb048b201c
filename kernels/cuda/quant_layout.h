// Quantized weights as quant_matmul.cu reads them, packed by quant_weight.h.
//
// A tile is 16 rows by 64 columns (a weight's rows and columns are filled up with zeros): first the
// quants in the order in which the lanes of a warp want them, so that each takes 16 bytes (kQ8_0:
// twice 16), all together 512 (1,024); then the scales. Tiles lie one behind the other along
// the columns, then the next 16 rows. Lane 4 g + t holds rows g and g + 8 and, of each block of 32
// columns, the columns [8 t, 8 t + 8): a tensor core does not care which columns it multiplies
// first, and so a lane's part of an activation row is 16 consecutive bytes as well.
//
// Quants are small integers, exact in both activation types; the scale is applied in float32 to the
// product of a block, so that nothing is rounded but the activations.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace tandem::kernels::cuda {

inline constexpr int kQuantTileRows = 16;
inline constexpr int kQuantTileCols = 64;

constexpr bool IsQuantized(WeightType type) {
  return type == WeightType::kQ4_0 || type == WeightType::kQ4_1 || type == WeightType::kQ8_0;
}
// Of the quants and of the scales of a tile: halfs d, for kQ4_1 also m, of 16 rows and 2 blocks.
constexpr int64_t QuantTileQuantBytes(WeightType type) {
  return type == WeightType::kQ8_0 ? 1024 : 512;
}
constexpr int64_t QuantTileBytes(WeightType type) {
  return QuantTileQuantBytes(type) + (type == WeightType::kQ4_1 ? 128 : 64);
}

}  // namespace tandem::kernels::cuda
