#include "kernels/dequantize.h"

#include <bit>
#include <cstring>

#include "common/check.h"

namespace tandem::kernels {
namespace {

uint16_t LoadU16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// One block of 32.
void DequantizeBlock(WeightType type, const uint8_t* block, float* out) {
  const float d = HalfToFloat(LoadU16(block));
  switch (type) {
    case WeightType::kQ4_0:
    case WeightType::kQ4_1: {
      const bool has_min = type == WeightType::kQ4_1;
      const float offset = has_min ? HalfToFloat(LoadU16(block + 2)) : -8 * d;
      const uint8_t* q = block + (has_min ? 4 : 2);
      for (int i = 0; i < 16; ++i) {
        out[i] = d * static_cast<float>(q[i] & 15) + offset;
        out[16 + i] = d * static_cast<float>(q[i] >> 4) + offset;
      }
      return;
    }
    case WeightType::kQ8_0:
      for (int i = 0; i < 32; ++i) {
        out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
      }
      return;
    case WeightType::kF32:
    case WeightType::kF16:
    case WeightType::kBf16:
      break;
  }
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

uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

int64_t RowBytes(const MatrixSlice& slice) {
  return slice.total_cols / BlockElements(slice.type) * BlockBytes(slice.type);
}

void DequantizeRow(const MatrixSlice& slice, int64_t row, std::span<float> out) {
  TANDEM_CHECK(static_cast<int64_t>(out.size()) == slice.cols()) << out.size();
  const auto* source = static_cast<const uint8_t*>(slice.data) + row * RowBytes(slice) +
                       slice.col_begin / BlockElements(slice.type) * BlockBytes(slice.type);
  if (slice.type == WeightType::kF32) {
    std::memcpy(out.data(), source, out.size_bytes());
    return;
  }
  if (slice.type == WeightType::kF16) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = HalfToFloat(LoadU16(source + 2 * i));
    return;
  }
  if (slice.type == WeightType::kBf16) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = Bf16ToFloat(LoadU16(source + 2 * i));
    return;
  }
  for (size_t i = 0; i < out.size(); i += 32) {
    DequantizeBlock(slice.type, source + i / 32 * BlockBytes(slice.type), &out[i]);
  }
}

}  // namespace tandem::kernels
