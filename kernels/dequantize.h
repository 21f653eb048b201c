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
uint16_t FloatToBf16(float value);
inline float Bf16ToFloat(uint16_t value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value) << 16);
}

}  // namespace tandem::kernels
