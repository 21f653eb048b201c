// From file formats to float32, one element or row at a time: for embedding lookups, packing and
// the reference. Not for hot loops.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops.h"

namespace tandem::kernels {

float HalfToFloat(uint16_t half);
// Round to nearest, ties to even; what is too large becomes infinite, a NaN stays one.
uint16_t FloatToHalf(float value);

// Bytes from one row of the matrix to the next.
int64_t RowBytes(const MatrixSlice& slice);

// Row `row` of the whole matrix (not of the slice), columns [col_begin, col_end) of the slice.
void DequantizeRow(const MatrixSlice& slice, int64_t row, std::span<float> out);

// bfloat16: the upper half of a float32, rounded to nearest, ties to even; a NaN stays one.
inline uint16_t FloatToBf16(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float Bf16ToFloat(uint16_t value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value) << 16);
}

// Of keys or values kept as int8: x = scale * round(x / scale). 0 if all of x is below 1e-28, NaN
// if it holds a NaN or an infinity.
float KvScale(std::span<const float> x);

}  // namespace tandem::kernels
