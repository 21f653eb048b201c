#include "kernels/quant_blocks.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "kernels/dequantize.h"

namespace tandem::kernels {
namespace {

constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

float HalfAt(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  return HalfToFloat(half);
}

// Of types whose blocks hold 256: the block, and which 32 of it.
struct Place {
  const uint8_t* block;
  int part;  // 0 to 7
};
Place PlaceIn256(WeightType type, const uint8_t* row, int64_t index) {
  return {row + index / 8 * BlockBytes(type), static_cast<int>(index % 8)};
}

int Nibble(const uint8_t* q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

// With a fifth bit.
int FiveBits(const uint8_t* block, int i) {
  uint32_t high;
  std::memcpy(&high, block, sizeof high);
  return Nibble(block + 4, i) | static_cast<int>(high >> i & 1) << 4;
}

struct ScaleMin {
  int scale, min;
};
// Of Q4_K and Q5_K: 6 bits each, the last four's upper two bits beside the first four's.
ScaleMin ScaleMinOf(const uint8_t* scales, int part) {
  if (part < 4) return {scales[part] & 63, scales[part + 4] & 63};
  return {(scales[part + 4] & 15) | scales[part - 4] >> 6 << 4,
          scales[part + 4] >> 4 | scales[part] >> 6 << 4};
}

void Q4Or5K(WeightType type, Place at, float* out) {
  const bool five = type == WeightType::kQ5K;
  const ScaleMin s = ScaleMinOf(at.block + 4, at.part);
  const float d = HalfAt(at.block) * static_cast<float>(s.scale);
  const float m = HalfAt(at.block + 2) * static_cast<float>(s.min);
  const uint8_t* high = at.block + 16;
  const uint8_t* q = at.block + (five ? 48 : 16) + 32 * (at.part / 2);
  for (int i = 0; i < 32; ++i) {
    int value = at.part % 2 == 0 ? q[i] & 15 : q[i] >> 4;
    if (five) value |= (high[i] >> at.part & 1) << 4;
    out[i] = d * static_cast<float>(value) - m;
  }
}

void Q2K(Place at, float* out) {
  const uint8_t* q = at.block + 16 + 32 * (at.part / 4);
  const float d = HalfAt(at.block + 80), least = HalfAt(at.block + 82);
  for (int i = 0; i < 32; ++i) {
    const uint8_t s = at.block[2 * at.part + i / 16];
    const int value = q[i] >> 2 * (at.part % 4) & 3;
    out[i] = d * static_cast<float>(s & 15) * static_cast<float>(value) -
             least * static_cast<float>(s >> 4);
  }
}

void Q3K(Place at, float* out) {
  const uint8_t* q = at.block + 32 + 32 * (at.part / 4);
  const uint8_t* scales = at.block + 96;
  const float d = HalfAt(at.block + 108);
  for (int i = 0; i < 32; ++i) {
    const int k = 2 * at.part + i / 16;
    const int low = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4;
    const int scale = (low | (scales[8 + k % 4] >> 2 * (k / 4) & 3) << 4) - 32;
    const bool high = (at.block[i] >> at.part & 1) != 0;
    const int value = (q[i] >> 2 * (at.part % 4) & 3) - (high ? 0 : 4);
    out[i] = d * static_cast<float>(scale) * static_cast<float>(value);
  }
}

void Q6K(Place at, float* out) {
  const int half = at.part / 4, quarter = at.part % 4;
  const uint8_t* low = at.block + 64 * half + 32 * (quarter % 2);
  const uint8_t* high = at.block + 128 + 32 * half;
  const float d = HalfAt(at.block + 208);
  for (int i = 0; i < 32; ++i) {
    const auto scale = static_cast<int8_t>(at.block[192 + 2 * at.part + i / 16]);
    const int four = quarter < 2 ? low[i] & 15 : low[i] >> 4;
    const int value = (four | (high[i] >> 2 * quarter & 3) << 4) - 32;
    out[i] = d * static_cast<float>(scale) * static_cast<float>(value);
  }
}

// d * q + m, of types whose blocks hold 32.
void WithMin(WeightType type, const uint8_t* block, float* out) {
  const float d = HalfAt(block), m = HalfAt(block + 2);
  for (int i = 0; i < 32; ++i) {
    const int q = type == WeightType::kQ5_1 ? FiveBits(block + 4, i) : Nibble(block + 4, i);
    out[i] = d * static_cast<float>(q) + m;
  }
}

}  // namespace

bool IsScaledInt8(WeightType type) {
  return type == WeightType::kQ8_0 || type == WeightType::kQ5_0 || type == WeightType::kIq4Nl;
}

uint16_t UnpackInt8(WeightType type, const uint8_t* row, int64_t index, int8_t* out) {
  const uint8_t* block = row + index * BlockBytes(type);
  uint16_t d;
  std::memcpy(&d, block, sizeof d);
  block += sizeof d;
  if (type == WeightType::kQ8_0) {
    std::memcpy(out, block, 32);
    return d;
  }
  for (int i = 0; i < 32; ++i) {
    out[i] = type == WeightType::kQ5_0 ? static_cast<int8_t>(FiveBits(block, i) - 16)
                                       : kIq4Values[Nibble(block, i)];
  }
  return d;
}

ScaledNibbles UnpackQ4K(const uint8_t* row, int64_t index) {
  const Place at = PlaceIn256(WeightType::kQ4K, row, index);
  const ScaleMin s = ScaleMinOf(at.block + 4, at.part);
  ScaledNibbles out;
  out.d = HalfAt(at.block) * static_cast<float>(s.scale);
  out.m = HalfAt(at.block + 2) * static_cast<float>(s.min);
  const uint8_t* q = at.block + 16 + 32 * (at.part / 2);
  for (int i = 0; i < 16; ++i) {
    const int shift = at.part % 2 * 4;
    out.nibbles[i] = static_cast<uint8_t>((q[i] >> shift & 15) | (q[16 + i] >> shift & 15) << 4);
  }
  return out;
}

void DequantizeBlock(WeightType type, const uint8_t* row, int64_t index, float* out) {
  switch (type) {
    case WeightType::kQ4_0: {
      const uint8_t* block = row + index * BlockBytes(type);
      const float d = HalfAt(block);
      for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Nibble(block + 2, i) - 8);
      return;
    }
    case WeightType::kQ8_0:
    case WeightType::kQ5_0:
    case WeightType::kIq4Nl: {
      int8_t q[32];
      const float d = HalfToFloat(UnpackInt8(type, row, index, q));
      for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(q[i]);
      return;
    }
    case WeightType::kQ4_1:
    case WeightType::kQ5_1:
      return WithMin(type, row + index * BlockBytes(type), out);
    case WeightType::kQ2K:
      return Q2K(PlaceIn256(type, row, index), out);
    case WeightType::kQ3K:
      return Q3K(PlaceIn256(type, row, index), out);
    case WeightType::kQ4K:
    case WeightType::kQ5K:
      return Q4Or5K(type, PlaceIn256(type, row, index), out);
    case WeightType::kQ6K:
      return Q6K(PlaceIn256(type, row, index), out);
    case WeightType::kF32:
    case WeightType::kF16:
    case WeightType::kBf16:
      break;
  }
  TANDEM_CHECK(false) << "not a quantized type";
}

}  // namespace tandem::kernels
