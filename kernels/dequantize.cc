#include "kernels/dequantize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/check.h"
#include "kernels/quant_blocks.h"

namespace tandem::kernels {
namespace {

uint16_t LoadU16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | magnitude << 13);
  // Scaling by 2^112 moves the exponent from half's bias to float's, subnormals included.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

uint16_t FloatToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 2^16
  if (magnitude < 0x38800000u) {  // below 2^-14: the sum rounds to units of 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

float KvScale(std::span<const float> x) {
  float max = 0;
  bool finite = true;
  for (const float value : x) {
    max = std::max(max, std::fabs(value));
    finite = finite && std::isfinite(value);
  }
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  return max < 1e-28f ? 0.0f : max / 127;
}

int64_t RowBytes(const MatrixSlice& slice) {
  return slice.total_cols / BlockElements(slice.type) * BlockBytes(slice.type);
}

void DequantizeRow(const MatrixSlice& slice, int64_t row, std::span<float> out) {
  TANDEM_CHECK(static_cast<int64_t>(out.size()) == slice.cols()) << out.size();
  const auto* source = static_cast<const uint8_t*>(slice.data) + row * RowBytes(slice);
  if (BlockElements(slice.type) > 1) {
    for (size_t i = 0; i < out.size(); i += 32) {
      DequantizeBlock(slice.type, source, (slice.col_begin + static_cast<int64_t>(i)) / 32,
                      &out[i]);
    }
    return;
  }
  source += slice.col_begin * BlockBytes(slice.type);
  if (slice.type == WeightType::kF32) {
    std::memcpy(out.data(), source, out.size_bytes());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const uint16_t bits = LoadU16(source + 2 * i);
    out[i] = slice.type == WeightType::kF16 ? HalfToFloat(bits) : Bf16ToFloat(bits);
  }
}

}  // namespace tandem::kernels
