// ggml's quantized types, 32 elements at a time, whatever their blocks are: for embedding lookups,
// packing and the reference. Not for hot loops. Formats: the ggml project's ggml-common.h.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace tandem::kernels {

// Elements [32 * index, 32 * index + 32) of a row of type `type`. REQUIRES: a quantized type.
void DequantizeBlock(WeightType type, const uint8_t* row, int64_t index, float* out);

// Whether every 32 elements are one half times signed bytes: Q8_0, Q5_0, IQ4_NL.
bool IsScaledInt8(WeightType type);
// These bytes; returns the half. REQUIRES: IsScaledInt8(type).
uint16_t UnpackInt8(WeightType type, const uint8_t* row, int64_t index, int8_t* out);

// Of 32 elements of Q4_K: d, m >= 0 and 32 nibbles (as Q4_1 has them), w = d * q - m.
struct ScaledNibbles {
  float d, m;
  uint8_t nibbles[16];
};
ScaledNibbles UnpackQ4K(const uint8_t* row, int64_t index);

}  // namespace tandem::kernels
